/**
 * What a member shows when it asks to join, checked offline.
 *
 *   organization, witness   its signature over federation, name and kind
 *   child federation        { charter, members: [{ entry, certificate }] }   its charter, and its `members` entries from the first on
 *                           { members }                                      those that follow the ones it has shown before (`follows`)
 *
 * Only `members` entries change voters and delegates, so a child's rounds are left out. A child that is a member shows what is new alone:
 * else its proof would outgrow every limit in a federation that lives for long.
 */
import * as dagCbor from '@ipld/dag-cbor'
import type { Member } from '../federation/entry.ts'
import { applyMembers, checkMembers, genesisRoster, type Roster, type ShownProof } from '../federation/membership.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId } from '../ids.ts'
import { encodeAlone, isMalformed, linkOf } from './codec.ts'
import { limits } from './limits.ts'
import type { CertifiedBytes } from './messages.ts'
import { certificateCodec, charterCodec, entryCodec } from './records.ts'
import { checkCertificate, signedBytes, verifyPeerSignature } from './signature.ts'

/** What an organization or a witness signs to join. */
export const joinBytes = (
  federation: FederationId,
  { member, kind, name }: Pick<Member, 'member' | 'kind' | 'name'>
): Uint8Array => signedBytes('join', dagCbor.encode({ federation, member, kind, name }))

export const encodeChildProof = (charter: Uint8Array, members: CertifiedBytes[]): Uint8Array =>
  encodeAlone({ charter, members })

const encodeLaterProof = (members: CertifiedBytes[]): Uint8Array => encodeAlone({ members })

/**
 * @param shown - what a child federation has shown in this log (`Roster.proofs`).
 * @returns why the member may not join on what it shows, or null.
 */
export function checkProof(federation: FederationId, member: Member, shown: ShownProof | null = null): string | null {
  if (member.kind === 'federation') return checkChildProof(federation, member, shown)
  if (member.follows !== undefined) return 'only a child federation shows one part after the other'
  if (member.peers.length !== 1 || member.peers[0] !== member.member) return 'an organization has one peer, its own'
  return verifyPeerSignature(member.member, joinBytes(federation, member), member.proof)
    ? null
    : 'its join record is wrongly signed'
}

/**
 * Whether a child's proof goes on from what it had shown before it showed more: its delegates ask side by side, and whoever is behind by one
 * entry of the parent's log asks for nothing wrong.
 * @param shown - as in `checkProof`.
 */
export function isBehind({ member, proof, follows }: Member, shown: ShownProof | null): boolean {
  const read = follows === undefined ? readChildProof(proof) : null
  if (follows === undefined && read === null) return false
  const last = read?.members.at(-1)
  const wanted = follows ?? (last === undefined ? member : linkOf(last.entry))
  for (const state of statesBefore(member, shown)) if (state === wanted) return true
  return false
}

/**
 * Each state that it was in before the newest, the newest first: who is behind is so by a few. One proof can have shown several, for who hears of
 * no other shows all from the beginning.
 */
function* statesBefore(id: MemberId, shown: ShownProof | null): Generator<Link> {
  let isNewest = true
  for (let part = shown; part !== null; part = part.before)
    for (const { entry } of (readChildProof(part.proof)?.members ?? []).reverse()) {
      if (!isNewest) yield linkOf(entry)
      isNewest = false
    }
  if (!isNewest) yield id
}

/** A child federation, as far as its `members` entries show it. */
interface Shown {
  charter: Charter
  roster: Roster
  /** Of the newest entry; 0 and the federation's id before the first. */
  index: number
  last: Link
}

function checkChildProof(
  parent: FederationId,
  { member, peers, proof, follows }: Member,
  shown: ShownProof | null
): string | null {
  const before = shown === null ? null : foldShown(member, shown)
  const read = readChildProof(proof)
  if (read === null) return 'its proof is not readable'
  if (follows !== undefined && before?.last !== follows) return 'its proof does not follow what it has shown'
  const begun = follows === undefined ? beginShown(member, read.charter) : before!
  if (typeof begun === 'string') return begun
  if (begun.charter.parent !== parent) return 'its charter names another parent'
  const after = extendShown(member, begun, read.members, true)
  if (typeof after === 'string') return after
  // Delegates of long ago would speak for it again.
  if (after.index < (before?.index ?? 0)) return 'its proof is older than what it has shown'
  const { delegates } = after.roster
  const same = delegates.length === peers.length && delegates.every((peer, place) => peer === peers[place])
  return same ? null : 'it names delegates that its log does not'
}

function beginShown(id: MemberId, charterBytes: Uint8Array | null): Shown | string {
  if (charterBytes === null) return 'its proof has no charter'
  const charter = charterCodec.decode(charterBytes)
  if (isMalformed(charter)) return charter.detail
  if (linkOf(charterBytes) !== id) return 'the proof is of another federation'
  return { charter, roster: genesisRoster(charter), index: 0, last: id }
}

/** @param isNew - whether signatures and changes are to be checked: what is in the parent's log was. */
function extendShown(id: MemberId, begun: Shown, members: CertifiedBytes[], isNew: boolean): Shown | string {
  let { roster, index, last } = begun
  const { charter } = begun
  for (const { entry: entryBytes, certificate: certificateBytes } of members) {
    const entry = entryCodec.decode(entryBytes)
    const certificate = certificateCodec.decode(certificateBytes)
    if (isMalformed(entry) || isMalformed(certificate) || entry.kind !== 'members') return 'an entry of the proof is damaged'
    if (isNew) {
      if (certificate.entry !== linkOf(entryBytes) || certificate.federation !== id) return 'a certificate is for another entry'
      if (entry.index <= index) return 'its entries are not in their order'
      const unsigned = checkCertificate(roster.voters, certificate)
      if (unsigned !== null) return unsigned
      if (checkMembers(roster, charter, entry) !== null) return 'a change of members that its charter does not allow'
    }
    roster = applyMembers(roster, entry)
    index = entry.index
    last = linkOf(entryBytes)
  }
  return { charter, roster, index, last }
}

/**
 * What the chains that were asked for last come to. Each grows by a part whenever a delegate is away for long, or is back: read from its beginning
 * every time, a log with a thousand of them takes a minute to check, and the roster of each would stay in memory.
 */
const folded = new WeakMap<ShownProof, Shown | null>()

/** @returns null if it was no child's. */
function foldShown(id: MemberId, shown: ShownProof): Shown | null {
  const parts: ShownProof[] = []
  let known: ShownProof | null = shown
  for (; known !== null && !folded.has(known); known = known.before) parts.push(known)
  let state = known === null ? null : folded.get(known)!
  for (const { proof } of parts.reverse()) {
    const read = readChildProof(proof)
    const begun: Shown | string | null = read === null ? null : read.charter === null ? state : beginShown(id, read.charter)
    const next: Shown | string | null =
      read === null || begun === null || typeof begun === 'string' ? null : extendShown(id, begun, read.members, false)
    state = typeof next === 'string' ? null : next
  }
  if (known !== null) folded.delete(known)
  folded.set(shown, state)
  return state
}

/** Room for the charter and what is around the entries. */
const entriesBytesMax = limits.proofBytesMax - limits.charterBytesMax - 1024

/**
 * What a child federation shows next, and the delegates that it makes: all that fits.
 * @param membersFrom - its `members` entries of this index and above, in order. @param shown - as in `checkProof`.
 * @returns null if it has shown more than is here: who is behind does not speak for it.
 */
export function childProof(
  id: MemberId,
  charter: Uint8Array,
  membersFrom: (index: number) => CertifiedBytes[],
  shown: ShownProof | null
): Pick<Member, 'peers' | 'proof' | 'follows'> | null {
  const before = shown === null ? null : foldShown(id, shown)
  const members = membersFrom(before?.index ?? 0)
  if (before !== null && before.last !== id) {
    const last = members.shift()
    if (last === undefined || linkOf(last.entry) !== before.last) return null
  }
  const fitting: CertifiedBytes[] = []
  let bytes = 0
  for (const one of members) {
    bytes += one.entry.length + one.certificate.length + 32
    if (bytes > entriesBytesMax) break
    fitting.push(one)
  }
  const begun = before ?? beginShown(id, charter)
  const after = typeof begun === 'string' ? begun : extendShown(id, begun, fitting, false)
  if (typeof after === 'string') return null
  const peers = [...after.roster.delegates]
  if (before === null) return { peers, proof: encodeChildProof(charter, fitting) }
  return { peers, proof: encodeLaterProof(fitting), follows: before.last }
}

function readChildProof(proof: Uint8Array): { charter: Uint8Array | null; members: CertifiedBytes[] } | null {
  if (proof.length > limits.proofBytesMax) return null
  try {
    const { charter, members } = dagCbor.decode<{ charter: unknown; members: unknown }>(proof)
    const whole =
      Array.isArray(members) && members.every(one => one?.entry instanceof Uint8Array && one?.certificate instanceof Uint8Array)
    if (!whole || (charter !== undefined && !(charter instanceof Uint8Array))) return null
    return { charter: charter ?? null, members: members as CertifiedBytes[] }
  } catch {
    return null
  }
}
