/**
 * What a `members` entry proves of each peer that it names, checked offline: who leaves said so, who votes said that it remembers how,
 * who is evicted signed two entries for one (index, term). (Who joins: certified-log.ts.)
 *
 *   leave    { index, signature }    of the member, over (federation, member, index); good for the entries that follow that index
 *   enroll   signature               of the peer, over (federation, peer, nonce)
 *   evict    { index, term, entries: [one, other], signatures: [one, other] }
 */
import * as dagCbor from '@ipld/dag-cbor'
import { z } from 'zod'
import type { Enrolled, Evicted, Left, MembersEntry } from '../federation/entry.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import { bytes, codec, isMalformed, link, natural } from './codec.ts'
import { limits } from './limits.ts'
import { acceptBytes, signedBytes, verifyPeerSignature } from './signature.ts'

/**
 * A leave record is good for so many entries after the index that it names: time enough for a busy federation to certify it, too
 * short to be of use against a member that has long joined again.
 */
export const leaveEntriesMax = 256

const leaveCodec = codec<{ index: number; signature: Uint8Array }>(
  z.strictObject({ index: natural, signature: bytes(64) }),
  limits.evidenceBytesMax
)

const leaveBytes = (federation: FederationId, member: MemberId, index: number): Uint8Array =>
  signedBytes('leave', dagCbor.encode({ federation, member, index }))

/** @param index - the newest certified one that the member knows. */
export function leaveRecord(
  sign: (bytes: Uint8Array) => Uint8Array,
  federation: FederationId,
  member: PeerName,
  index: number
): Left {
  const signature = sign(leaveBytes(federation, member, index))
  return { member, reason: 'left', proof: leaveCodec.encode({ index, signature }) }
}

/** @param index - of the entry that carries it. @returns why it does not hold, or null. */
export function checkLeave(federation: FederationId, index: number, { member, reason, proof }: Left): string | null {
  const record = leaveCodec.decode(proof)
  if (isMalformed(record)) return record.detail
  if (reason !== 'left') return `its reason is ${reason}`
  if (record.index >= index || index - record.index > leaveEntriesMax) return `it left at ${record.index}, not at ${index}`
  return verifyPeerSignature(member, leaveBytes(federation, member, record.index), record.signature)
    ? null
    : 'its leave record is wrongly signed'
}

const enrollBytes = (federation: FederationId, peer: PeerName, nonce: number): Uint8Array =>
  signedBytes('enroll', dagCbor.encode({ federation, peer, nonce }))

export const enrollRecord = (
  sign: (bytes: Uint8Array) => Uint8Array,
  federation: FederationId,
  peer: PeerName,
  nonce: number
): Enrolled => ({ peer, nonce, signature: sign(enrollBytes(federation, peer, nonce)) })

export const checkEnroll = (federation: FederationId, { peer, nonce, signature }: Enrolled): string | null =>
  verifyPeerSignature(peer, enrollBytes(federation, peer, nonce), signature) ? null : 'its enrollment is wrongly signed'

/** Two acceptances of one voter that no honest voter gives (I2). */
export interface Equivocation {
  index: number
  term: number
  entries: [Link, Link]
  signatures: [Uint8Array, Uint8Array]
}

const equivocationCodec = codec<Equivocation>(
  z.strictObject({
    index: natural,
    term: natural,
    entries: z.tuple([link, link]),
    signatures: z.tuple([bytes(64), bytes(64)])
  }),
  limits.evidenceBytesMax
)

export const evidenceOf = (peer: PeerName, equivocation: Equivocation): Evicted => ({
  peer,
  proof: equivocationCodec.encode(equivocation)
})

/** @returns why it proves nothing, or null. */
export function checkEvidence(federation: FederationId, { peer, proof }: Evicted): string | null {
  const found = equivocationCodec.decode(proof)
  if (isMalformed(found)) return found.detail
  const { index, term, entries, signatures } = found
  if (entries[0] === entries[1]) return 'both signatures are on one entry'
  const signed = entries.every((entry, place) =>
    verifyPeerSignature(peer, acceptBytes(federation, index, term, entry), signatures[place]!)
  )
  return signed ? null : 'the signatures are not of the peer that is accused'
}

/** Everything that a `members` entry claims of peers that leave, are evicted, or enroll. @returns the first that does not hold. */
export function checkMemberProofs(federation: FederationId, entry: MembersEntry): { who: string; why: string } | null {
  const checks = [
    ...entry.left.map(left => ({ who: left.member, why: checkLeave(federation, entry.index, left) })),
    ...entry.evicted.map(evicted => ({ who: evicted.peer, why: checkEvidence(federation, evicted) })),
    ...entry.enrolled.map(enrolled => ({ who: enrolled.peer, why: checkEnroll(federation, enrolled) }))
  ]
  const wrong = checks.find(({ why }) => why !== null)
  return wrong === undefined ? null : { who: wrong.who, why: wrong.why! }
}
