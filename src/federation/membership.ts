/**
 * Who is in a federation, who votes, who stands for it above: derived from the certified log alone, so that every replica agrees.
 *
 * Voters are chosen round-robin over the members, in the order they joined (a child federation brings its delegates), so that no
 * child holds all the votes; as many as the charter allows, odd. Left out are peers that have not enrolled (they may have voted and
 * forgotten it), that have been absent for long (so that the loss of one voter after another is survived), and that were evicted.
 * They change by one peer an entry: the majorities of neighbouring voter sets then always share a peer (Ongaro 2014, §4.1), which the
 * election relies on.
 */
import { assert } from '../errors.ts'
import type { Charter } from '../governance/charter.ts'
import type { MemberId, PeerName } from '../ids.ts'
import { majority } from './consensus-state.ts'
import type { Enrolled, Evicted, Left, Member, MembersEntry } from './entry.ts'
import type { EntryFault } from './fault.ts'

export interface Roster {
  /** In the order of joining. */
  members: ReadonlyMap<MemberId, Member>
  voters: readonly PeerName[]
  delegates: readonly PeerName[]
  /** Peers that may hold a vote, with the number that each enrolled by. */
  enrolled: ReadonlyMap<PeerName, number>
  /** Peers that have been silent for long. */
  absent: ReadonlySet<PeerName>
  /** Peers that never come back. */
  evicted: ReadonlySet<PeerName>
  /** What each child federation has shown of itself. */
  proofs: ReadonlyMap<MemberId, ShownProof>
}

/** The newest part, and what was shown before it, back to the first, which is whole: a chain, for it grows as long as the federation lives. */
export interface ShownProof {
  readonly proof: Uint8Array
  readonly before: ShownProof | null
}

/** The part of a `members` entry that its proposer decides. */
export type MembersChange = Omit<MembersEntry, 'kind' | 'federation' | 'index' | 'prev' | 'term' | 'proposer'>

/** What an aggregator has been asked for, and whom it hears. */
export interface Wishes {
  joining: Iterable<Member>
  leaving: Iterable<Left>
  accused: Iterable<Evicted>
  enrolling: Iterable<Enrolled>
  isPresent: (peer: PeerName) => boolean
  /** Whether it says that it remembers how it voted; left out: all do. */
  remembers?: (peer: PeerName) => boolean
  /** Silent for long. Neither present nor away: silent for a short while, which changes nothing. */
  isAway: (peer: PeerName) => boolean
}

/** A peer in a roster (wire/limits.ts has the same number for what arrives). */
const membersMax = 1000

/**
 * Of those that join by one entry, if they are several. Nobody reads one beyond a mebibyte (wire/limits.ts), and a child federation shows its
 * entries above, where a fifth of one is read.
 */
const joinedBytesMax = 160 * 1024

const begun = new WeakMap<readonly PeerName[], Roster>()

/** The same for the same list of founders. */
export function genesisRoster({ founders }: Pick<Charter, 'founders'>): Roster {
  const known = begun.get(founders)
  if (known !== undefined) return known
  const roster = rosterOf(founders)
  begun.set(founders, roster)
  return roster
}

const rosterOf = (founders: PeerName[]): Roster => ({
  members: new Map(),
  voters: founders,
  delegates: [],
  enrolled: new Map(founders.map(peer => [peer, 0])),
  absent: new Set(),
  evicted: new Set(),
  proofs: new Map()
})

/** What a change made of the roster that it was applied to last: replicas in one process share their rosters. */
const applied = new WeakMap<MembersChange, { before: Roster; after: Roster }>()

export function applyMembers(roster: Roster, change: MembersChange): Roster {
  const known = applied.get(change)
  if (known?.before === roster) return known.after
  assert(votersDiffer(roster.voters, change.voters) <= 1, 'voters change by one peer an entry', change.voters)
  const after = { ...peopleAfter(roster, change), voters: change.voters, delegates: change.delegates }
  applied.set(change, { before: roster, after })
  return after
}

/** All of the roster that does not follow from the rest of it. */
function peopleAfter(
  roster: Roster,
  change: Omit<MembersChange, 'voters' | 'delegates'>
): Omit<Roster, 'voters' | 'delegates'> {
  // Asked at every turn of an aggregator; most of the time nothing was asked for.
  const asked = [change.joined, change.left, change.evicted, change.enrolled]
  if (asked.every(({ length }) => length === 0)) return { ...roster, absent: new Set(change.absent) }
  const members = new Map(roster.members)
  for (const { member } of change.left) members.delete(member)
  for (const member of change.joined) members.set(member.member, member)
  const evicted = new Set([...roster.evicted, ...change.evicted.map(({ peer }) => peer)])
  for (const member of [...members.values()]) {
    if (!member.peers.some(peer => evicted.has(peer))) continue
    // A child federation goes on with its other delegates; an organization is its peer.
    if (member.kind !== 'federation') members.delete(member.member)
    else members.set(member.member, { ...member, peers: member.peers.filter(peer => !evicted.has(peer)) })
  }
  const enrolled = new Map(roster.enrolled)
  for (const { peer, nonce } of change.enrolled) enrolled.set(peer, nonce)
  const gone = change.left.flatMap(({ member }) => roster.members.get(member)?.peers ?? [])
  const standing = new Set([...members.values()].flatMap(({ peers }) => peers))
  for (const peer of [...gone, ...evicted]) if (!standing.has(peer)) enrolled.delete(peer)
  return { members, enrolled, evicted, absent: new Set(change.absent), proofs: proofsAfter(roster, change) }
}

function proofsAfter({ proofs }: Roster, { joined, left }: Pick<MembersChange, 'joined' | 'left'>): Roster['proofs'] {
  const children = joined.filter(({ kind }) => kind === 'federation')
  if (children.length === 0 && !left.some(({ member }) => proofs.has(member))) return proofs
  const after = new Map(proofs)
  for (const { member } of left) after.delete(member)
  for (const { member, proof, follows } of children)
    after.set(member, { proof, before: follows === undefined ? null : (proofs.get(member) ?? null) })
  return after
}

/**
 * Whether a peer knows its place in a federation: it is in the roster that it has, or has founded the federation (`nonce` null). Whoever
 * asked for a place may have been given one, and a vote, and not have heard of it.
 */
export const knowsPlace = (roster: Roster, self: PeerName, nonce: number | null): boolean =>
  nonce === null || roster.members.has(self)

/** Whether who wants to leave, and knows its place, is out. The last member stays the voter; nobody is there to take the vote over. */
export const hasLeft = ({ members, voters }: Roster, self: PeerName): boolean =>
  !members.has(self) && (members.size === 0 || !voters.includes(self))

/** An aggregator's answer to who wants to leave: that it has no place. @param isOpen - whether an entry is open, which may give it one. */
export const letsGo = ({ members, voters }: Roster, member: PeerName, isOpen: boolean): boolean =>
  !isOpen && !members.has(member) && !voters.includes(member)

/** Every peer that may speak in the federation's topic. Who left and still votes too: it may hold the certificate that lets it go. */
export function rosterPeers(roster: Roster, charter: Charter): Set<PeerName> {
  const peers = new Set<PeerName>([...charter.founders, ...roster.voters].filter(peer => !roster.evicted.has(peer)))
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
 * What the aggregator should propose next: what it has been asked for, and one step towards the voters and delegates that follow.
 * @returns null when nothing is to be changed.
 */
export function planMembers(roster: Roster, charter: Charter, wishes: Wishes): MembersChange | null {
  const evicted = [...wishes.accused].filter(({ peer }) => !roster.evicted.has(peer) && rosterPeers(roster, charter).has(peer))
  const out = new Set([...roster.evicted, ...evicted.map(({ peer }) => peer)])
  const left = [...wishes.leaving].filter(({ member }) => roster.members.has(member))
  const going = new Set(left.map(({ member }) => member))
  const room = membersMax - roster.members.size
  const joined = [...wishes.joining]
    .filter(member => !going.has(member.member) && whyNot(charter, out, member) === null)
    .filter(member => !sameMember(roster.members.get(member.member), member))
    .filter((member, place) => place < room || roster.members.has(member.member))
    .filter(fitsBehindOthers())
  const people = { joined, left, evicted, enrolled: [] as Enrolled[], absent: [] as PeerName[] }
  const peers = new Set([...peopleAfter(roster, people).members.values()].flatMap(member => member.peers))
  people.enrolled = [...wishes.enrolling].filter(({ peer, nonce }) => peers.has(peer) && roster.enrolled.get(peer) !== nonce)
  people.absent = [...peers]
    .filter(peer => (roster.absent.has(peer) ? !wishes.isPresent(peer) : wishes.isAway(peer)))
    .sort((one, other) => (one < other ? -1 : 1))
  // Nobody signs that it is absent itself: an entry that too few could sign would stay open for as long as they are heard.
  const signing = roster.voters.filter(peer => !people.absent.includes(peer))
  if (signing.length < majority(roster.voters)) people.absent = people.absent.filter(peer => roster.absent.has(peer))
  // A vote given to a peer that is not there would ask for its hand at once: of one voter and it, nobody could decide any more. Nor could they
  // where it is back with an empty disk, is still in the roster with the number of its former life, and waits for an entry with another.
  const remembers = (peer: PeerName) =>
    (wishes.remembers?.(peer) ?? true) || people.enrolled.some(enrolled => enrolled.peer === peer)
  const isThere = (peer: PeerName) => !out.has(peer) && wishes.isPresent(peer)
  const signs = { isThere, isAble: (peer: PeerName) => isThere(peer) && remembers(peer) }
  const after = peopleAfter(roster, people)
  const voters = nextVoters(roster.voters, wantedVoters(after, charter), after, signs)
  const delegates = wantedDelegates(after, charter)
  const nobody = joined.length + left.length + evicted.length + people.enrolled.length === 0
  const same = sameList(voters, roster.voters) && sameList(delegates, roster.delegates)
  return nobody && same && sameList(people.absent, [...roster.absent].sort()) ? null : { ...people, voters, delegates }
}

/** Asked in order: the first fits; who does not fit behind it, and whoever comes after, joins by a later entry. */
function fitsBehindOthers(): (member: Member, place: number) => boolean {
  let bytes = 0
  return ({ name, peers, proof }, place) => {
    bytes += proof.length + 3 * name.length + 64 * (peers.length + 3)
    return place === 0 || bytes <= joinedBytesMax
  }
}

/** What a voter checks before it accepts a `members` entry; signatures and proofs are checked where the bytes are known. */
export function checkMembers(roster: Roster, charter: Charter, change: MembersChange): EntryFault | null {
  if (votersDiffer(roster.voters, change.voters) > 1) return { code: 'WRONG_VOTERS', detail: 'more than one voter changed' }
  const out = new Set([...roster.evicted, ...change.evicted.map(({ peer }) => peer)])
  for (const member of change.joined) {
    const why = whyNot(charter, out, member)
    if (why !== null) return { code: 'NOT_ADMITTED', member: member.member, detail: why }
  }
  for (const { member } of change.left) {
    const stays = !roster.members.has(member) || change.joined.some(one => one.member === member)
    if (stays) return { code: 'WRONG_CHANGE', member, detail: 'it leaves, and is no member or joins at once' }
  }
  const people = peopleAfter(roster, change)
  if (people.members.size > membersMax)
    return { code: 'WRONG_CHANGE', member: change.joined[0]?.member ?? '', detail: `more than ${membersMax} members` }
  const peers = new Set([...people.members.values()].flatMap(member => member.peers))
  const strange = [...change.enrolled.map(({ peer }) => peer), ...change.absent].find(peer => !peers.has(peer))
  if (strange !== undefined) return { code: 'WRONG_CHANGE', member: strange, detail: 'it is no peer of a member' }
  if (people.absent.size !== change.absent.length)
    return { code: 'WRONG_CHANGE', member: change.absent[0] ?? '', detail: 'a peer is named absent twice' }
  if (!isStepTowards(roster.voters, wantedVoters(people, charter), change.voters))
    return { code: 'WRONG_VOTERS', detail: 'not a step towards the voters that the roster asks for' }
  if (!sameList(wantedDelegates(people, charter), change.delegates))
    return { code: 'WRONG_VOTERS', detail: 'not the delegates that the roster asks for' }
  return null
}

/** @returns why the charter does not admit the member, or null. */
function whyNot({ admission }: Charter, evicted: ReadonlySet<PeerName>, member: Member): string | null {
  if (member.peers.length === 0) return 'it names no peer'
  if (member.peers.some(peer => evicted.has(peer))) return 'it was evicted'
  if (admission.mode === 'open') return null
  return member.peers.every(peer => admission.peers?.includes(peer) ?? false) ? null : `admission is ${admission.mode}`
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

type People = Omit<Roster, 'voters' | 'delegates'>

interface Signing {
  isThere: (peer: PeerName) => boolean
  /** It is there, and remembers how it voted. */
  isAble: (peer: PeerName) => boolean
}

/** Empty: there is nobody to choose from, and the voters stay. */
function wantedVoters({ members, enrolled, absent }: People, charter: Charter): PeerName[] {
  const candidates = roundRobin(members.values()).filter(peer => enrolled.has(peer) && !absent.has(peer))
  const most = Math.min(charter.voters, candidates.length)
  return candidates.slice(0, most % 2 === 1 ? most : Math.max(0, most - 1))
}

function wantedDelegates({ members, absent }: People, charter: Charter): PeerName[] {
  const standing = roundRobin([...members.values()].filter(member => member.kind !== 'witness'))
  const living = standing.filter(peer => !absent.has(peer))
  return (living.length === 0 ? standing : living).slice(0, charter.delegates)
}

/**
 * One step from `now` to `wanted`: first those go that do not answer (which never asks more of those that do: of three voters a
 * majority is two, and so it is of two), then the missing are added that can sign, then the surplus goes: first those that cannot sign, then
 * those that have left. None goes where too few of the others are known to be able to sign: it stays until they are, or are named absent.
 */
function nextVoters(
  now: readonly PeerName[],
  wanted: readonly PeerName[],
  { absent, evicted, members }: People,
  { isThere, isAble }: Signing
): PeerName[] {
  if (wanted.length === 0) return [...now]
  const without = (gone: PeerName) => now.filter(peer => peer !== gone)
  const surplus = now.filter(peer => !wanted.includes(peer))
  const dead = surplus.find(peer => evicted.has(peer)) ?? surplus.find(peer => absent.has(peer))
  if (dead !== undefined) return without(dead)
  const missing = wanted.filter(peer => !now.includes(peer))
  const coming = missing.find(isAble)
  if (coming !== undefined) return [...now, coming]
  const isMember = (peer: PeerName) => [...members.values()].some(({ peers }) => peers.includes(peer))
  const going =
    [isThere, isAble, isMember].map(is => surplus.find(peer => !is(peer))).find(peer => peer !== undefined) ?? surplus[0]
  if (missing.length > 0 || going === undefined) return [...now]
  const next = without(going)
  const canDecide = next.filter(isAble).length >= majority(next)
  return !canDecide && now.filter(isThere).length >= majority(now) ? [...now] : next
}

/** Whom its proposer hears is for its proposer to know: it may leave the voters as they are, or choose among those that may come or go. */
function isStepTowards(now: readonly PeerName[], wanted: readonly PeerName[], next: readonly PeerName[]): boolean {
  const stay = now.filter(peer => next.includes(peer))
  const come = next.filter(peer => !now.includes(peer))
  const canGo =
    wanted.length === 0 ? stay.length === now.length : now.every(peer => stay.includes(peer) || !wanted.includes(peer))
  return canGo && come.every(peer => wanted.includes(peer)) && sameList([...stay, ...come], next)
}

function votersDiffer(before: readonly PeerName[], after: readonly PeerName[]): number {
  return before.filter(peer => !after.includes(peer)).length + after.filter(peer => !before.includes(peer)).length
}

const sameList = (left: readonly string[], right: readonly string[]): boolean =>
  left.length === right.length && left.every((item, place) => item === right[place])

/** A child that shows a further part of its log has got on, whoever its delegates are after it. */
const sameMember = (known: Member | undefined, asked: Member): boolean =>
  known !== undefined &&
  asked.follows === undefined &&
  known.kind === asked.kind &&
  known.name === asked.name &&
  sameList(known.peers, asked.peers)
