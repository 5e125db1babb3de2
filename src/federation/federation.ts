/**
 * One federation on one peer: consensus, roster, round and participation put together (docs/protocol.md).
 *
 *   event ──▶ step ──▶ [state, effects]        the daemon performs the effects (node/effects.ts), the simulator predicts them
 *
 * Is: the only place where the four machines meet. What one asks of another is a call here, never a message.
 * Is not: the judge of bytes. Signatures, proofs and blobs are checked by who performs the effects, before they come in as events.
 */
import { assert } from '../errors.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import {
  type Accepted,
  type ConsensusEffect,
  type ConsensusEvent,
  type ConsensusState,
  initialConsensus,
  stepConsensus
} from './consensus.ts'
import type { Certificate, Entry, Member, MembersEntry, RoundEntry, Update } from './entry.ts'
import type { EntryFault, UpdateFault } from './fault.ts'
import { applyMembers, checkMembers, contributors, genesisRoster, planMembers, type Roster } from './membership.ts'
import {
  type Participation,
  type ParticipationEffect,
  type ParticipationEvent,
  type RoundHead,
  staleRoundsMax,
  stepParticipation
} from './participation.ts'
import {
  type Aggregated,
  type ParentHead,
  type RoundBody,
  type RoundEffect,
  type RoundEvent,
  type RoundState,
  stepRound
} from './round.ts'

/** A member's newest announced update. */
export interface KnownUpdate {
  link: Link
  update: Update
}

export interface FederationState {
  readonly id: FederationId
  readonly charter: Charter
  readonly self: PeerName
  readonly consensus: ConsensusState<Entry>
  readonly roster: Roster
  readonly head: RoundHead
  /** Newest bases, the current one last: what a late update may still name. */
  readonly bases: readonly { link: Link; round: number }[]
  /** The highest round of each member that a certified entry counts: an update for it or an earlier one is settled. */
  readonly counted: ReadonlyMap<MemberId, number>
  readonly known: ReadonlyMap<MemberId, KnownUpdate>
  readonly pending: ReadonlyMap<MemberId, Member>
  readonly present: ReadonlySet<PeerName>
  readonly round: RoundState
  readonly participation: Participation
  readonly parentHead: ParentHead | null
  readonly startTimedOut: boolean
}

export type FederationEvent =
  | { type: 'consensus'; event: ConsensusEvent<Entry> }
  | { type: 'join'; member: Member }
  | { type: 'presence'; peer: PeerName; present: boolean }
  /** Its signature is good; `by` is who signed. */
  | { type: 'update'; link: Link; update: Update }
  | { type: 'pulled'; link: Link; keysDistance: number }
  | { type: 'unpulled'; link: Link; fault: UpdateFault }
  | { type: 'aggregated'; round: number; result: Aggregated }
  | { type: 'combined'; round: number; model: Link; modelBytes: number }
  | { type: 'parent-head'; head: ParentHead }
  /** Answer to the effect `verify`. */
  | ({ type: 'verified'; fault: EntryFault | null } & Question)
  | { type: 'participation'; event: ParticipationEvent }
  | { type: 'timer'; name: 'deadline' | 'parent' | 'start' }

export type FederationEffect =
  | Exclude<ConsensusEffect<Entry>, { do: 'commit' | 'check' }>
  | RoundEffectToPerform
  | ParticipationEffect
  /** Makes the entry durable; all that follows may rely on it. */
  | { do: 'store'; link: Link; entry: Entry; certificate: Certificate }
  /** Checks what only bytes can tell (proofs, attention, that the model is held here) and answers `verified`. */
  | ({ do: 'verify' } & Question)
  | { do: 'refused'; peer: PeerName; fault: UpdateFault }
  | { do: 'refused-entry'; link: Link; fault: EntryFault }

/** An entry that a voter is asked to accept. */
export interface Question {
  from: PeerName
  link: Link
  term: number
  entry: Entry
}
type RoundEffectToPerform = Exclude<RoundEffect, { do: 'propose' }>

/** What was on the disk: the certified log, folded, and consensus's own state. */
export interface FederationStart {
  id: FederationId
  charter: Charter
  self: PeerName
  entries: Iterable<{ link: Link; entry: Entry }>
  persisted: { term: number; votedFor: PeerName | null; accepted: Accepted<Entry> | null }
  /** See `ConsensusState.rank`. */
  rank: number
}

/** The state that a peer begins with, from nothing or from its disk. */
export function initialFederation({ id, charter, self, entries, persisted, rank }: FederationStart): FederationState {
  let roster = genesisRoster(charter)
  let head: RoundHead = { round: 0, link: id, entry: null }
  let bases = [{ link: id, round: 0 }]
  let counted: ReadonlyMap<MemberId, number> = new Map()
  let tip = { index: 0, link: id }
  for (const { link, entry } of entries) {
    tip = { index: entry.index, link }
    if (entry.kind === 'members') roster = applyMembers(roster, entry)
    else {
      head = { round: entry.round, link, entry }
      counted = countInputs(counted, entry)
      bases = [...bases, { link, round: entry.round }].slice(-(staleRoundsMax + 1))
    }
  }
  const consensus = initialConsensus<Entry>({
    self,
    federation: id,
    ...persisted,
    commitIndex: tip.index,
    head: tip.link,
    voters: roster.voters,
    timing: charter.timings,
    rank
  })
  const empty = { known: new Map(), pending: new Map(), present: new Set<PeerName>() }
  const idle = { round: { phase: 'idle' }, participation: { phase: 'away' }, parentHead: null, startTimedOut: false } as const
  return { id, charter, self, consensus, roster, head, bases, counted, ...empty, ...idle }
}

/** What is the same for every event; injected, because a link is a hash of bytes and this folder knows none. */
export interface Environment {
  linkOf: (entry: Entry) => Link
  /** Bytes of an update's sketches: groups × 512 × 2. */
  sketchBytes: number
  /** Tokens that one organization can train on in a round: steps × batch × context. */
  roundTokens: number
}

type Step = [FederationState, FederationEffect[]]

/** One event of one federation: collects effects while the state moves on. Lives for a single `step`. */
class Turn {
  state: FederationState
  readonly effects: FederationEffect[] = []
  readonly #env: Environment

  constructor(state: FederationState, env: Environment) {
    this.state = state
    this.#env = env
  }

  consensus(event: ConsensusEvent<Entry>): void {
    const [consensus, effects] = stepConsensus(this.state.consensus, event)
    this.state = { ...this.state, consensus }
    for (const effect of effects) {
      switch (effect.do) {
        case 'commit':
          this.#commit(effect.entry, effect.link, effect.certificate)
          break
        case 'check':
          this.#check(effect)
          break
        case 'became-aggregator':
          this.effects.push(effect)
          this.#openRound()
          break
        case 'stepped-down':
          this.effects.push(effect)
          this.round({ type: 'close' })
          break
        default:
          this.effects.push(effect)
      }
    }
    this.tryPropose()
  }

  round(event: RoundEvent): void {
    const [round, effects] = stepRound(this.state.round, event, this.#roundFacts())
    this.state = { ...this.state, round }
    for (const effect of effects) {
      if (effect.do === 'propose') this.tryPropose()
      else this.effects.push(effect)
    }
  }

  participate(event: ParticipationEvent): void {
    const { self, head, charter } = this.state
    const facts = {
      self,
      head,
      rounds: charter.algorithm.rounds,
      stale: charter.algorithm.stale,
      staleness: (base: Link) => staleness(this.state, base)
    }
    const [participation, effects] = stepParticipation(this.state.participation, event, facts)
    this.state = { ...this.state, participation }
    this.effects.push(...effects)
  }

  takeUpdate(link: Link, update: Update): void {
    const fault = checkUpdate(this.state, update, this.#env)
    if (fault !== null) {
      this.effects.push({ do: 'refused', peer: update.by, fault })
      return
    }
    const known = this.state.known.get(update.member)
    if (known?.link === link) return
    const older =
      known !== undefined && (staleness(this.state, known.update.base) ?? 0) < (staleness(this.state, update.base) ?? 0)
    if (older) return
    this.state = { ...this.state, known: new Map(this.state.known).set(update.member, { link, update }) }
    this.round({ type: 'update', link, update, staleness: staleness(this.state, update.base) ?? 0 })
  }

  /** Proposes what is due, if this peer is the aggregator and no entry is open: members first, for they are quick. */
  tryPropose(): void {
    const { consensus, roster, charter, pending, round } = this.state
    if (consensus.role !== 'leader' || consensus.accepted !== null) return
    const change = planMembers(roster, charter, pending.values())
    if (change !== null) this.#propose({ kind: 'members', ...change })
    else if (round.phase === 'proposing') this.#propose(withLatecomers(round.body, this.state))
  }

  #propose(body: RoundBody | Omit<MembersEntry, 'federation' | 'index' | 'prev' | 'term' | 'proposer'>): void {
    const { id, consensus, self } = this.state
    const head = {
      federation: id,
      index: consensus.commitIndex + 1,
      prev: consensus.head,
      term: consensus.term,
      proposer: self
    }
    const entry: Entry = { ...head, ...body }
    this.consensus({ type: 'propose', entry, link: this.#env.linkOf(entry) })
  }

  #check({ from, link, term, entry }: Question): void {
    const fault =
      entry.kind === 'members' ? checkMembers(this.state.roster, this.state.charter, entry) : checkRound(this.state, entry)
    if (fault === null) {
      this.effects.push({ do: 'verify', from, link, term, entry })
      return
    }
    this.effects.push({ do: 'refused-entry', link, fault })
    this.consensus({ type: 'checked', from, link, term, entry, ok: false })
  }

  #commit(entry: Entry, link: Link, certificate: Certificate): void {
    this.effects.push({ do: 'store', link, entry, certificate })
    if (entry.kind === 'members') this.#commitMembers(entry)
    else this.#commitRound(entry, link)
  }

  #commitMembers(entry: MembersEntry): void {
    const roster = applyMembers(this.state.roster, entry)
    const pending = new Map(this.state.pending)
    for (const { member } of entry.joined) pending.delete(member)
    this.state = { ...this.state, roster, pending }
    this.round({ type: 'look' })
  }

  #commitRound(entry: RoundEntry, link: Link): void {
    const { head } = this.state
    assert(entry.round === head.round + 1, 'rounds are certified in order', { got: entry.round, head: head.round })
    assertRound(entry)
    const counted = countInputs(this.state.counted, entry)
    const known = new Map([...this.state.known].filter(([member, { update }]) => update.round > (counted.get(member) ?? 0)))
    const bases = [...this.state.bases, { link, round: entry.round }].slice(-(staleRoundsMax + 1))
    this.state = { ...this.state, head: { round: entry.round, link, entry }, bases, counted, known }
    this.round({ type: 'close' })
    this.participate({ type: 'certified' })
    if (this.state.consensus.role === 'leader') this.#openRound()
  }

  #openRound(): void {
    const { head, charter } = this.state
    if (charter.algorithm.rounds > 0 && head.round >= charter.algorithm.rounds) return
    this.round({ type: 'open', round: head.round + 1, base: head.link })
    for (const { link, update } of this.state.known.values()) {
      const late = staleness(this.state, update.base)
      if (late !== null && checkUpdate(this.state, update, this.#env) === null)
        this.round({ type: 'update', link, update, staleness: late })
    }
    this.round({ type: 'look' })
  }

  #roundFacts() {
    const { id, charter, self, consensus, roster, present, parentHead, startTimedOut } = this.state
    const isPresent = (member: Member) => member.peers.some(peer => peer === self || present.has(peer))
    const all = contributors(roster).map(member => ({ member, present: isPresent(member) }))
    return { id, charter, self, term: consensus.term, contributors: all, parentHead, startTimedOut }
  }
}

/** @returns the next state and what to do, in order; each effect ends before the next begins, unless it answers by an event. */
export function stepFederation(env: Environment, state: FederationState, event: FederationEvent): Step {
  const turn = new Turn(state, env)
  switch (event.type) {
    case 'consensus':
      turn.consensus(event.event)
      break
    case 'join':
      turn.state = { ...state, pending: new Map(state.pending).set(event.member.member, event.member) }
      turn.tryPropose()
      break
    case 'presence':
      turn.state = { ...state, present: withPeer(state.present, event.peer, event.present) }
      turn.round({ type: 'look' })
      break
    case 'update':
      turn.takeUpdate(event.link, event.update)
      break
    case 'pulled':
    case 'unpulled':
      turn.round(event)
      break
    case 'aggregated':
      if (state.round.phase === 'aggregating' && state.round.round === event.round) turn.round(event)
      break
    case 'combined':
      if (state.round.phase === 'combining' && state.round.round === event.round) turn.round(event)
      break
    case 'parent-head':
      if (event.head.round > (state.parentHead?.round ?? 0)) turn.state = { ...state, parentHead: event.head }
      turn.round({ type: 'parent-head' })
      break
    case 'verified':
      if (event.fault !== null) turn.effects.push({ do: 'refused-entry', link: event.link, fault: event.fault })
      turn.consensus({
        type: 'checked',
        from: event.from,
        link: event.link,
        term: event.term,
        entry: event.entry,
        ok: event.fault === null
      })
      break
    case 'participation':
      turn.participate(event.event)
      break
    case 'timer':
      if (event.name === 'start') turn.state = { ...state, startTimedOut: true }
      turn.round({ type: 'timer', name: event.name })
      break
  }
  return [turn.state, turn.effects]
}

/** How many rounds ago `base` was the newest; null if that is longer ago than late updates are counted. */
function staleness(state: FederationState, base: Link): number | null {
  const found = state.bases.find(({ link }) => link === base)
  return found === undefined ? null : state.head.round - found.round
}

function checkUpdate(state: FederationState, update: Update, env: Environment): UpdateFault | null {
  // [IGNORE] Its entry into the roster may not have reached us yet.
  const member = state.roster.members.get(update.member)
  if (member === undefined || member.kind === 'witness')
    return { code: 'NOT_A_MEMBER', verdict: 'ignore', member: update.member }
  // [REJECT] A member speaks through its own peers: its key, or its delegates.
  if (!member.peers.includes(update.by))
    return { code: 'NOT_ITS_PEER', verdict: 'reject', member: update.member, by: update.by }
  // [IGNORE] It may know a round that we do not, or have been away for long.
  const late = staleness(state, update.base)
  const counted = state.counted.get(update.member) ?? 0
  // [IGNORE] Several delegates hand the same contribution in, and one of them may be late: it counts once (I4).
  if (update.round <= counted) return { code: 'SETTLED', verdict: 'ignore', round: update.round, counted }
  if (late === null || update.round !== state.head.round - late + 1)
    return { code: 'WRONG_BASE', verdict: 'ignore', base: update.base, want: state.head.link }
  if (late > 0 && (state.charter.algorithm.stale === 'drop' || late > staleRoundsMax))
    return { code: 'STALE', verdict: 'ignore', staleness: late }
  // [REJECT] The charter's model says how many groups there are.
  if (update.sketches.length !== env.sketchBytes) {
    return { code: 'WRONG_SKETCHES', verdict: 'reject', gotBytes: update.sketches.length, wantBytes: env.sketchBytes }
  }
  // [REJECT] Nobody trains on more tokens than the charter's steps hold.
  const limit = env.roundTokens * (member.kind === 'organization' ? 1 : update.organizations)
  if (update.weight > limit) return { code: 'TOO_HEAVY', verdict: 'reject', weight: update.weight, limit }
  return null
}

/** What a voter checks of a round that is proposed, from what it knows itself. */
function checkRound(state: FederationState, entry: RoundEntry): EntryFault | null {
  const { head, roster, charter, participation } = state
  if (entry.round !== head.round + 1) return { code: 'WRONG_ROUND', got: entry.round, want: head.round + 1 }
  if (entry.base !== head.link) return { code: 'WRONG_BASE', base: entry.base, want: head.link }
  const counted = new Set<MemberId>()
  for (const { member, round } of entry.inputs) {
    const before = state.counted.get(member) ?? 0
    if (round <= before) return { code: 'COUNTED_BEFORE', member, round, counted: before }
    const known = roster.members.get(member)
    if (known === undefined || known.kind === 'witness') return { code: 'NOT_A_MEMBER', member }
    if (counted.has(member)) return { code: 'COUNTED_TWICE', member }
    counted.add(member)
  }
  const both = entry.excluded.find(({ member }) => counted.has(member))
  if (both !== undefined) return { code: 'BOTH_COUNTED_AND_EXCLUDED', member: both.member }
  const want = Math.max(1, charter.minMembers)
  if (counted.size < want) return { code: 'TOO_FEW_MEMBERS', got: counted.size, want }
  if (participation.phase === 'announced' && participation.accepted) {
    const mine = entry.inputs.some(({ update }) => update === participation.link)
    if (!mine && !entry.excluded.some(({ member }) => member === state.self))
      return { code: 'OWN_UPDATE_MISSING', member: state.self }
  }
  return null
}

function countInputs(counted: ReadonlyMap<MemberId, number>, { inputs }: RoundEntry): ReadonlyMap<MemberId, number> {
  const next = new Map(counted)
  for (const { member, round } of inputs) next.set(member, Math.max(round, next.get(member) ?? 0))
  return next
}

function assertRound({ inputs, excluded, round }: RoundEntry): void {
  const members = new Set(inputs.map(({ member }) => member))
  assert(members.size === inputs.length, 'I3: a member is counted twice', { round })
  assert(!excluded.some(({ member }) => members.has(member)), 'I4: both counted and excluded', { round })
}

/** Members that joined after the round was closed are named too: each contributor is either counted or excluded. */
function withLatecomers(body: RoundBody, state: FederationState): RoundBody {
  const named = new Set([...body.inputs, ...body.excluded].map(({ member }) => member))
  const late = contributors(state.roster).filter(({ member }) => !named.has(member))
  return { ...body, excluded: [...body.excluded, ...late.map(({ member }) => ({ member, reason: 'late' }))] }
}

function withPeer(peers: ReadonlySet<PeerName>, peer: PeerName, present: boolean): ReadonlySet<PeerName> {
  const next = new Set(peers)
  if (present) next.add(peer)
  else next.delete(peer)
  return next
}
