/**
 * Signatures of peers, checked offline: a PeerId of an Ed25519 key holds the key itself (libp2p peer-ids specification, "Ed25519").
 *
 * What is signed begins with its domain, so that a signature of one kind is none of another.
 */
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import * as dagCbor from '@ipld/dag-cbor'
import { base58btc } from 'multiformats/bases/base58'
import { CID } from 'multiformats/cid'
import type { Certificate } from '../federation/entry.ts'
import type { Link, PeerName } from '../ids.ts'

export type Domain = 'accept' | 'update' | 'join' | 'leave' | 'enroll' | 'instance' | 'fingerprint' | 'residual'

const text = new TextEncoder()

/** The bytes that are signed: `worldlm/1/<domain>`, a zero byte, the record. */
export function signedBytes(domain: Domain, record: Uint8Array): Uint8Array {
  const prefix = text.encode(`worldlm/1/${domain}\0`)
  const whole = new Uint8Array(prefix.length + record.length)
  whole.set(prefix)
  whole.set(record, prefix.length)
  return whole
}

/** What a voter signs when it accepts an entry. */
export const acceptBytes = (federation: Link, index: number, term: number, entry: Link): Uint8Array =>
  signedBytes('accept', dagCbor.encode({ federation: CID.parse(federation), index, term, entry: CID.parse(entry) }))

/** identity multihash of a protobuf: type Ed25519 (1), 32 bytes of key. */
const peerPrefix = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20]
/** DER of an Ed25519 SubjectPublicKeyInfo before its key (RFC 8410 §4). */
const derPrefix = Buffer.from('302a300506032b6570032100', 'hex')

/** Keys of a roster of the largest size; cleared when a flood of names fills it. */
const keysMax = 4096
const keys = new Map<PeerName, KeyObject | null>()

function keyOf(peer: PeerName): KeyObject | null {
  const known = keys.get(peer)
  if (known !== undefined) return known
  if (keys.size >= keysMax) keys.clear()
  const key = readKey(peer)
  keys.set(peer, key)
  return key
}

function readKey(peer: PeerName): KeyObject | null {
  try {
    const bytes = base58btc.decode(`z${peer}`)
    if (bytes.length !== 38 || !peerPrefix.every((byte, place) => bytes[place] === byte)) return null
    return createPublicKey({ key: Buffer.concat([derPrefix, bytes.subarray(6)]), format: 'der', type: 'spki' })
  } catch {
    return null
  }
}

/** Whether `peer` signed `bytes`. False too for a name that is no Ed25519 PeerId. */
export function verifyPeerSignature(peer: PeerName, bytes: Uint8Array, signature: Uint8Array): boolean {
  const key = keyOf(peer)
  return key !== null && signature.length === 64 && verify(null, bytes, key, signature)
}

/** Whether a majority of `voters` signed. Foreign and repeated names count for nothing. */
export function checkCertificate(voters: readonly PeerName[], certificate: Certificate): string | null {
  const { federation, index, term, entry, signatures } = certificate
  const message = acceptBytes(federation, index, term, entry)
  const good = new Set<PeerName>()
  for (const { voter, signature } of signatures) {
    if (!voters.includes(voter)) continue
    if (!verifyPeerSignature(voter, message, signature)) return `the signature of ${voter} is wrong`
    good.add(voter)
  }
  const want = Math.floor(voters.length / 2) + 1
  return good.size >= want ? null : `${good.size} of ${voters.length} voters signed, ${want} are a majority`
}
