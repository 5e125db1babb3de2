/**
 * Who is in a federation, who votes, who stands for it above: derived from the certified log alone, so that every replica agrees.
 *
 * Voters are chosen round-robin over the members, in the order they joined (a child federation brings its delegates), so that no
 * child holds all the votes; as many as the charter allows, odd. They change by one peer an entry: the majorities of neighbouring
 * voter sets then always share a peer (Ongaro 2014, §4.1), which the election relies on.
 */
import { assert } from '../errors.ts'
import type { Charter } from '../governance/charter.ts'
import type { MemberId, PeerName } from '../ids.ts'
import type { Member, MembersEntry } from './entry.ts'
import type { EntryFault } from './fault.ts'

export interface Roster {
  /** In the order of joining. */
  members: ReadonlyMap<MemberId, Member>
  voters: readonly PeerName[]
  delegates: readonly PeerName[]
}

/** The part of a `members` entry that its proposer decides. */
export type MembersChange = Pick<MembersEntry, 'joined' | 'left' | 'voters' | 'delegates'>

export const genesisRoster = (charter: Charter): Roster => ({ members: new Map(), voters: charter.founders, delegates: [] })

export function applyMembers(roster: Roster, change: MembersChange): Roster {
  const members = new Map(roster.members)
  for (const { member } of change.left) members.delete(member)
  for (const member of change.joined) members.set(member.member, member)
  assert(votersDiffer(roster.voters, change.voters) <= 1, 'voters change by one peer an entry', change.voters)
  return { members, voters: change.voters, delegates: change.delegates }
}

/** Every peer that may speak in the federation's topic. */
export function rosterPeers(roster: Roster, charter: Charter): Set<PeerName> {
  const peers = new Set<PeerName>(charter.founders)
  for (const member of roster.members.values()) for (const peer of member.peers) peers.add(peer)
  return peers
}

/** The member that `peer` speaks for: its own organization first, then the child federation that it is a delegate of. */
export function memberOf(roster: Roster, peer: PeerName): Member | null {
  const own = roster.members.get(peer)
  if (own !== undefined) return own
  for (const member of roster.members.values()) if (member.peers.includes(peer)) return member
  return null
}

/** Members that contribute: all but witnesses. */
export const contributors = (roster: Roster): Member[] =>
  [...roster.members.values()].filter(member => member.kind !== 'witness')

/**
 * What the aggregator should propose next: pending joins, and one step towards the voters and delegates that the roster asks for.
 * @returns null when nothing is to be changed.
 */
export function planMembers(roster: Roster, charter: Charter, pending: Iterable<Member>): MembersChange | null {
  const joined = [...pending].filter(
    member => admits(charter, member) && !sameMember(roster.members.get(member.member), member)
  )
  const members = new Map(roster.members)
  for (const member of joined) members.set(member.member, member)
  const voters = nextVoters(roster.voters, wantedVoters(members, charter))
  const delegates = wantedDelegates(members, charter)
  const same = sameList(voters, roster.voters) && sameList(delegates, roster.delegates)
  return joined.length === 0 && same ? null : { joined, left: [], voters, delegates }
}

/** What a voter checks before it accepts a `members` entry; signatures of the proofs are checked where the bytes are known. */
export function checkMembers(roster: Roster, charter: Charter, change: MembersChange): EntryFault | null {
  if (votersDiffer(roster.voters, change.voters) > 1) return { code: 'WRONG_VOTERS', detail: 'more than one voter changed' }
  for (const member of change.joined) {
    if (!admits(charter, member))
      return { code: 'NOT_ADMITTED', member: member.member, detail: `admission is ${charter.admission.mode}` }
    if (member.peers.length === 0) return { code: 'NOT_ADMITTED', member: member.member, detail: 'it names no peer' }
  }
  const members = new Map(roster.members)
  for (const { member } of change.left) members.delete(member)
  for (const member of change.joined) members.set(member.member, member)
  const want = nextVoters(roster.voters, wantedVoters(members, charter))
  if (!sameList(want, change.voters))
    return { code: 'WRONG_VOTERS', detail: 'not the next step towards the voters that the roster asks for' }
  if (!sameList(wantedDelegates(members, charter), change.delegates))
    return { code: 'WRONG_VOTERS', detail: 'not the delegates that the roster asks for' }
  return null
}

function admits(charter: Charter, member: Member): boolean {
  if (charter.admission.mode === 'open') return true
  return member.peers.every(peer => charter.admission.peers?.includes(peer) ?? false)
}

/** All peers, the first of every member before the second of any. */
function roundRobin(members: Iterable<Member>): PeerName[] {
  const lists = [...members].map(member => member.peers)
  const peers = new Set<PeerName>()
  const longest = Math.max(0, ...lists.map(list => list.length))
  for (let place = 0; place < longest; place++) {
    for (const list of lists) {
      const peer = list[place]
      if (peer !== undefined) peers.add(peer)
    }
  }
  return [...peers]
}

function wantedVoters(members: ReadonlyMap<MemberId, Member>, charter: Charter): PeerName[] {
  const candidates = roundRobin(members.values())
  if (candidates.length === 0) return charter.founders
  const most = Math.min(charter.voters, candidates.length)
  return candidates.slice(0, most % 2 === 1 ? most : most - 1)
}

function wantedDelegates(members: ReadonlyMap<MemberId, Member>, charter: Charter): PeerName[] {
  const standing = [...members.values()].filter(member => member.kind !== 'witness')
  return roundRobin(standing).slice(0, charter.delegates)
}

/** One step from `now` to `wanted`: first the missing are added, then the surplus is removed. */
function nextVoters(now: readonly PeerName[], wanted: readonly PeerName[]): PeerName[] {
  const missing = wanted.find(peer => !now.includes(peer))
  if (missing !== undefined) return [...now, missing]
  const surplus = now.find(peer => !wanted.includes(peer))
  return surplus === undefined ? [...now] : now.filter(peer => peer !== surplus)
}

function votersDiffer(before: readonly PeerName[], after: readonly PeerName[]): number {
  return before.filter(peer => !after.includes(peer)).length + after.filter(peer => !before.includes(peer)).length
}

const sameList = (left: readonly string[], right: readonly string[]): boolean =>
  left.length === right.length && left.every((item, place) => item === right[place])

const sameMember = (known: Member | undefined, asked: Member): boolean =>
  known !== undefined && known.kind === asked.kind && known.name === asked.name && sameList(known.peers, asked.peers)
