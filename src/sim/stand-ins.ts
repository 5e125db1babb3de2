/**
 * Cheap stand-ins for what costs the daemon its time and proves nothing here: the link of a record is a hash of its JSON, a signature
 * is a keyed hash that anybody could make and nobody here forges. What is checked of them is checked as in wire/certified-log.ts.
 */
import { hash } from 'node:crypto'
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Certificate, Entry, Evicted, MembersEntry, RoundEntry, Update } from '../federation/entry.ts'
import type { Acceptance } from '../federation/evidence.ts'
import type { FederationState } from '../federation/federation-state.ts'
import { checkMembers, type Roster } from '../federation/membership.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'

export interface Certified {
  link: Link
  entry: Entry
  certificate: Certificate
}

/** What replicas keep of an entry, by its index: one object for all that have the same certificate, where thousands would have thousands. */
export function sharedIn(log: Certified[], { link, entry, certificate }: Certified): Certified {
  const known = log[entry.index - 1]
  if (known?.certificate === certificate) return known
  const shared = { link, entry, certificate }
  log[entry.index - 1] = shared
  return shared
}

/** One flat string: made of parts, each of a million of them would weigh three times as much. */
function linkOfJson(json: string): Link {
  linkBytes.write(hash('sha256', json, 'base64url'), 'bafy'.length, 'latin1')
  return linkBytes.toString('latin1')
}
const linkBytes = Buffer.from(`bafy${' '.repeat(32)}`, 'latin1')

export const linkOfEntry = (entry: Entry): Link => linkOfJson(JSON.stringify(entry))
export const linkOfCharter = (charter: Charter): FederationId => linkOfJson(JSON.stringify(charter))
/** Records that say other sketches are others, whatever else they say alike: a liar may. */
export const linkOfUpdate = ({ sketches, ...update }: Update): Link => linkOfJson(JSON.stringify(update) + digestOf(sketches))

/** Replicas share their sketches: one is hashed once. */
const digests = new WeakMap<Uint8Array, string>()
function digestOf(sketches: Uint8Array): string {
  const known = digests.get(sketches)
  if (known !== undefined) return known
  const digest = hash('sha256', sketches, 'base64url')
  digests.set(sketches, digest)
  return digest
}

/** 64 bits (two FNV-1a with different beginnings), enough that no two of a run meet. An entry's link tells its federation too. */
export function sign(voter: PeerName, federation: FederationId, index: number, term: number, link: Link): Uint8Array {
  let [low, high] = [0x811c9dc5 ^ index, 0x2f0b4c47 ^ term]
  for (const text of [voter, link, federation.slice(-8)])
    for (let place = 0; place < text.length; place++) {
      const code = text.charCodeAt(place)
      low = Math.imul(low ^ code, 0x01000193)
      high = Math.imul(high ^ code, 0x5bd1e995)
    }
  // Eight bytes lie within the array's own object, as long as nobody asks for its buffer.
  const bytes = new Uint8Array(8)
  for (let place = 0; place < 4; place++) {
    bytes[place] = low >>> (24 - 8 * place)
    bytes[4 + place] = high >>> (24 - 8 * place)
  }
  return bytes
}

export function isSignedBy(voter: PeerName, federation: FederationId, { index, term, link, signature }: Acceptance): boolean {
  const good = sign(voter, federation, index, term, link)
  for (let place = 0; place < good.length; place++) if (signature[place] !== good[place]) return false
  return signature.length === good.length
}

/** Whether what a voter accepts or proposes bears its own signature. */
export function isTrulySigned(from: PeerName, federation: FederationId, message: ConsensusMessage<Entry>): boolean {
  if (message.type !== 'accept' && message.type !== 'propose') return true
  const { term, link, signature } = message
  const index = message.type === 'accept' ? message.index : message.entry.index
  return isSignedBy(from, federation, { index, term, link, signature })
}

/** A proof of two acceptances (wire/member-proofs.ts). */
interface Equivocation {
  index: number
  term: number
  entries: [Link, Link]
  /** In hexadecimal. */
  signatures: [string, string]
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

export function evidenceOf(peer: PeerName, one: Acceptance, other: Acceptance): Evicted {
  const { index, term } = one
  const signatures: Equivocation['signatures'] = [hexOf(one.signature), hexOf(other.signature)]
  const proof: Equivocation = { index, term, entries: [one.link, other.link], signatures }
  return { peer, proof: Buffer.from(JSON.stringify(proof)) }
}

/** @returns why it proves nothing, or null. */
export function checkEvidence(federation: FederationId, { peer, proof }: Evicted): string | null {
  if (proof.length === 0) return 'it is empty'
  const { index, term, entries, signatures } = JSON.parse(Buffer.from(proof).toString()) as Equivocation
  if (entries[0] === entries[1]) return 'both signatures are on one entry'
  const signed = entries.every((link, place) => hexOf(sign(peer, federation, index, term, link)) === signatures[place])
  return signed ? null : 'the signatures are not of the peer that is accused'
}

/** What of a `members` entry rests on proofs, as far as they are simulated: who is evicted. @returns the first that does not hold. */
export function checkProofs({ federation, evicted }: MembersEntry): { who: PeerName; why: string } | null {
  for (const one of evicted) {
    const why = checkEvidence(federation, one)
    if (why !== null) return { who: one.peer, why }
  }
  return null
}

/** Certificates travel as one object; who signed it truly is found out once. */
const signers = new WeakMap<Certificate, ReadonlySet<PeerName> | null>()

/** @returns the voters whose signature is good, or null where one is wrong. */
function goodSigners(certificate: Certificate): ReadonlySet<PeerName> | null {
  const known = signers.get(certificate)
  if (known !== undefined) return known
  const { federation, index, term, entry: link, signatures } = certificate
  const good = new Set<PeerName>()
  let result: ReadonlySet<PeerName> | null = good
  for (const { voter, signature } of signatures) {
    if (isSignedBy(voter, federation, { index, term, link, signature })) good.add(voter)
    else result = null
  }
  signers.set(certificate, result)
  return result
}

/** Whether a majority of `voters` signed. */
export function checkCertificate(voters: readonly PeerName[], certificate: Certificate): string | null {
  const good = goodSigners(certificate)
  if (good === null) return 'a signature is wrong'
  const count = voters.reduce((sum, voter) => sum + (good.has(voter) ? 1 : 0), 0)
  const want = Math.floor(voters.length / 2) + 1
  return count >= want ? null : `${count} of ${voters.length} voters signed, ${want} are a majority`
}

const checked = new WeakMap<MembersEntry, { roster: Roster; fault: string | null }>()

/** Replicas share their rosters (membership.ts): one change on one roster is judged once. */
function membersFault(roster: Roster, charter: Charter, entry: MembersEntry): string | null {
  const known = checked.get(entry)
  if (known?.roster === roster) return known.fault
  const fault = checkMembers(roster, charter, entry)?.code ?? (checkProofs(entry) === null ? null : 'WRONG_PROOF')
  checked.set(entry, { roster, fault })
  return fault
}

/** What a peer checks of the next certified entry before it takes it over; null: it is good. `GAP`: it is not the next. */
export function checkNext(state: FederationState, { link, entry, certificate }: Certified): string | null {
  const { consensus, roster, charter, head, counted } = state
  if (entry.index !== consensus.commitIndex + 1 || certificate.index !== entry.index) return 'GAP'
  if (entry.prev !== consensus.head) return 'BROKEN_CHAIN'
  if (certificate.entry !== link || certificate.federation !== state.id) return 'WRONG_CERTIFICATE'
  const unsigned = checkCertificate(consensus.voters, certificate)
  if (unsigned !== null) return `WRONG_CERTIFICATE ${unsigned}`
  if (entry.kind === 'members') return membersFault(roster, charter, entry)
  if (entry.round !== head.round + 1 || entry.base !== head.link) return 'WRONG_ROUND'
  return inputsFault(roster, counted, entry)
}

const judged = new WeakMap<RoundEntry, { roster: Roster; counted: ReadonlyMap<MemberId, number>; fault: string | null }>()

/** As of changes of members: what replicas share is judged once. */
function inputsFault(roster: Roster, counted: ReadonlyMap<MemberId, number>, entry: RoundEntry): string | null {
  const known = judged.get(entry)
  if (known?.roster === roster && known.counted === counted) return known.fault
  const seen = new Set<MemberId>()
  let fault: string | null = null
  for (const { member, round } of entry.inputs) {
    if (!roster.members.has(member)) fault ??= 'WRONG_ROUND not a member'
    else if (seen.has(member) || round <= (counted.get(member) ?? 0)) fault ??= 'WRONG_ROUND counted twice'
    seen.add(member)
  }
  judged.set(entry, { roster, counted, fault })
  return fault
}
