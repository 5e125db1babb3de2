/**
 * What residuals travel by (docs/protocol.md, "Residuals"): fingerprints, with the charters that lead from their federation up to one that
 * the reader knows; and grants, by which a source lets one model go to one target. Read here, and believed only as far as signatures and
 * ids reach.
 *
 *   shown     { lineage: charter of its own federation, of the one above, …   signed: fingerprint }
 */
import { z } from 'zod'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId } from '../ids.ts'
import { amount, bytes, codec, isMalformed, link, linkOf, memberId, natural, shortText } from './codec.ts'
import { limits } from './limits.ts'
import type { Shown, Signed } from './messages.ts'
import { charterCodec } from './records.ts'
import { signedBytes, verifyPeerSignature } from './signature.ts'

/** Of an organization: what its first round from the common start made of its key layers. Signed by itself. */
export interface Fingerprint {
  node: MemberId
  federation: FederationId
  /** Last segment of its path. */
  name: string
  /** Count sketches of K after the first round minus the common start, as in an update. */
  sketches: Uint8Array
}

/** A source's word that a target may have a model of its. Signed by the source. */
export interface Grant {
  from: MemberId
  to: MemberId
  /** Blob with K. */
  model: Link
  modelBytes: number
  /** t: training bytes behind it. */
  textBytes: number
}

export const fingerprintCodec = codec<Fingerprint>(
  z.strictObject({ node: memberId, federation: link, name: shortText, sketches: bytes(limits.sketchBytesMax) }),
  limits.gossipBytesMax
)
export const grantCodec = codec<Grant>(
  z.strictObject({ from: memberId, to: memberId, model: link, modelBytes: natural, textBytes: amount }),
  4096
)

type Sign = (bytes: Uint8Array) => Uint8Array

/** @param sign - with the key of `fingerprint.node`. */
export function signFingerprint(sign: Sign, fingerprint: Fingerprint): Signed {
  const record = fingerprintCodec.encode(fingerprint)
  return { record, by: fingerprint.node, signature: sign(signedBytes('fingerprint', record)) }
}

/** @param sign - with the key of `grant.from`. */
export function signGrant(sign: Sign, grant: Grant): Signed {
  const record = grantCodec.encode(grant)
  return { record, by: grant.from, signature: sign(signedBytes('residual', record)) }
}

/** @returns null unless it is whole, and signed by the organization that it is of. */
export function readFingerprint({ record, by, signature }: Signed): Fingerprint | null {
  const fingerprint = fingerprintCodec.decode(record)
  if (isMalformed(fingerprint) || fingerprint.node !== by) return null
  return verifyPeerSignature(by, signedBytes('fingerprint', record), signature) ? fingerprint : null
}

/** @returns null unless it is whole, and signed by the source. */
export function readGrant({ record, by, signature }: Signed): Grant | null {
  const grant = grantCodec.decode(record)
  if (isMalformed(grant) || grant.from !== by) return null
  return verifyPeerSignature(by, signedBytes('residual', record), signature) ? grant : null
}

/** A shown fingerprint whose lineage leads to `above`. */
export interface ReadShown {
  fingerprint: Fingerprint
  /** Charters below `above`, the fingerprint's own federation first; empty where that is `above` itself. */
  line: { id: FederationId; charter: Charter }[]
  /** Of the organization: `world/english/law`. */
  path: string
}

/**
 * Each charter is the document that its id names, names the next one's id as its parent, and its path is the parent's with its own name:
 * so a federation far away cannot give itself another place in the tree.
 * @param above - a federation that the reader follows itself.
 */
export function readShown({ lineage, signed }: Shown, above: { id: FederationId; path: string }): ReadShown | null {
  const fingerprint = readFingerprint(signed)
  if (fingerprint === null) return null
  const line: ReadShown['line'] = []
  for (const encoded of lineage) {
    const charter = charterCodec.decode(encoded)
    if (isMalformed(charter)) return null
    line.push({ id: linkOf(encoded), charter })
  }
  const parents = [...line.slice(1).map(({ id, charter }) => ({ id, path: charter.path })), above]
  const isLine = line.every(({ charter }, place) => {
    const parent = parents[place]
    return charter.parent === parent?.id && charter.path === `${parent.path}/${charter.name}`
  })
  const own = line[0] === undefined ? above : { id: line[0].id, path: line[0].charter.path }
  if (!isLine || fingerprint.federation !== own.id || fingerprint.name.includes('/')) return null
  return { fingerprint, line, path: `${own.path}/${fingerprint.name}` }
}

/** The federation that a lineage ends below, as it says itself; null if it is no lineage. */
export function topOf({ lineage, signed }: Shown): FederationId | null {
  const last = lineage.at(-1)
  if (last === undefined) {
    const fingerprint = fingerprintCodec.decode(signed.record)
    return isMalformed(fingerprint) ? null : fingerprint.federation
  }
  const charter = charterCodec.decode(last)
  return isMalformed(charter) ? null : charter.parent
}
