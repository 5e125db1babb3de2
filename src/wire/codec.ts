/**
 * Records ↔ bytes: dag-cbor (one deterministic encoding), checked field by field on the way in.
 *
 * In memory a link is a string; in dag-cbor it is a CID, so that any IPLD tool can walk the log. What does not fit its schema is
 * a fault of whoever sent it, never an exception.
 */
import { hash } from 'node:crypto'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { z } from 'zod'
import { textCharactersMax } from '../federation/fault.ts'
import type { Link } from '../ids.ts'

export interface Malformed {
  code: 'MALFORMED'
  verdict: 'reject'
  detail: string
}

export const isMalformed = (value: unknown): value is Malformed =>
  typeof value === 'object' && value !== null && (value as Malformed).code === 'MALFORMED'

const sha256Code = 0x12

/** The link of dag-cbor bytes: CIDv1, sha2-256. */
export function linkOf(bytes: Uint8Array): Link {
  return textOf(CID.createV1(dagCbor.code, Digest.create(sha256Code, hash('sha256', bytes, 'buffer'))))
}

/** The library joins a text letter by letter; V8 keeps how it was joined, 1.5 kB for each link that is held. Copied, it is 59 letters. */
const textOf = (cid: CID): Link => Buffer.from(cid.toString(), 'latin1').toString('latin1')

/**
 * dag-cbor in memory of its own. The library encodes into Node's pool: whoever keeps such bytes keeps 64 KiB with them, which a thousand
 * updates of 3 kB make 64 MB.
 */
export const encodeAlone = (value: unknown): Uint8Array => new Uint8Array(dagCbor.encode(value))

/** As `linkOf` makes them. A CID may also hold bytes in the place of their hash, as many as whoever makes it up likes. */
function isLink(value: unknown): boolean {
  const cid = CID.asCID(value)
  if (cid === null) return false
  const { version, code, multihash } = cid
  return version === 1 && code === dagCbor.code && multihash.code === sha256Code && multihash.digest.length === 32
}

/** A link as a field. */
export const link = z.codec(z.custom<CID>(isLink, 'not a link'), z.string(), {
  decode: textOf,
  encode: text => CID.parse(text)
})
export const bytes = (most: number) =>
  z.custom<Uint8Array>(value => value instanceof Uint8Array && value.length <= most, `not bytes, or more than ${most}`)
export const natural = z.int().min(0).max(Number.MAX_SAFE_INTEGER)
/** A finite number ≥ 0. */
export const amount = z.number().min(0).max(1e18)
/** A PeerId in base58btc. */
export const peerName = z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{40,64}$/)
/** A peer or a federation. Federations travel as text here: a member is a name, not a pointer to a block. */
export const memberId = z.string().min(40).max(80)
export const shortText = z.string().max(textCharactersMax)

export interface Codec<Record> {
  encode(record: Record): Uint8Array
  decode(bytes: Uint8Array): Record | Malformed
}

/** @param most - bytes of an encoded record, at most; longer ones are refused unread. */
export function codec<Record>(schema: z.ZodType<Record>, most: number): Codec<Record> {
  return {
    encode: record => encodeAlone(z.encode(schema, record)),
    decode: encoded => {
      if (encoded.length > most) return malformed(`${encoded.length} bytes, at most ${most} are read`)
      try {
        const value = dagCbor.decode(encoded)
        const result = z.safeDecode(schema, value as never)
        if (!result.success) return malformed(z.prettifyError(result.error).slice(0, 300))
        // The library reads keys in any order, numbers of any length and broken characters, too. A record that is read must have the link
        // of its bytes: stored or passed on, it is encoded again.
        return Buffer.compare(dagCbor.encode(value), encoded) === 0
          ? result.data
          : malformed('not the one encoding of its record')
      } catch (error) {
        return malformed(error instanceof Error ? error.message : 'not dag-cbor')
      }
    }
  }
}

const malformed = (detail: string): Malformed => ({ code: 'MALFORMED', verdict: 'reject', detail })
