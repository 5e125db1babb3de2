/**
 * One federation on one peer: consensus, roster, round and participation put together (docs/protocol.md).
 *
 *   event ──▶ step ──▶ [state, effects]        the daemon performs the effects (node/effects.ts), the simulator predicts them
 *
 * Is: the only place where the four machines meet. What one asks of another is a call here, never a message.
 * Is not: the judge of bytes. Signatures, proofs and blobs are checked by who performs the effects, before they come in as events.
 */
import { isAnswer, withLatecomers } from './round-answers.ts'
import { assert } from '../errors.ts'
import type { Link, PeerName } from '../ids.ts'
import { assertRound, checkRound, checkUpdate, countInputs, staleness } from './checks.ts'
import { stepConsensus } from './consensus.ts'
import type { ConsensusEffect, ConsensusEvent } from './consensus-state.ts'
import type { Certificate, Enrolled, Entry, Evicted, Left, Member, MembersEntry, RoundEntry, Update } from './entry.ts'
import type { EntryFault, UpdateFault } from './fault.ts'
import { nobodyVouched } from './federation-start.ts'
import type { Environment, FederationState } from './federation-state.ts'
import { countLate } from './lateness.ts'
import { isForDeputy } from './levels.ts'
import type { KnownUpdate } from './known-updates.ts'
import { applyMembers, checkMembers, planMembers } from './membership.ts'
import { type ParticipationEffect, type ParticipationEvent, staleRoundsMax, stepParticipation } from './participation.ts'
import { type RoundEffect, type RoundEvent, stepRound } from './round.ts'
import { StateFacts } from './state-facts.ts'
import type { Aggregated, ParentHead, RoundBody, RoundState } from './round-state.ts'
import { asked, enrolledBy, enrolling, hasForgotten, heardOf, withPeer, without } from './requests.ts'

export type FederationEvent =
  | { type: 'consensus'; event: ConsensusEvent<Entry> }
  | { type: 'join'; member: Member }
  | { type: 'leave'; left: Left }
  | { type: 'enroll'; enrolled: Enrolled }
  /** It has been proven that a peer lied: nothing it says counts from here on, and it is to be evicted. */
  | { type: 'accuse'; evicted: Evicted }
  /** `remembers`: whether it remembers how it voted, if it says that. */
  | { type: 'presence'; peer: PeerName; present: boolean; remembers?: boolean }
  /** Nothing was heard of it for long. */
  | { type: 'away'; peer: PeerName }
  /** Its signature is good; `by` is who signed. */
  | { type: 'update'; link: Link; update: Update }
  | { type: 'pulled'; link: Link; keysDistance: number }
  | { type: 'unpulled'; link: Link; fault: UpdateFault }
  /** `inputs`: links of the updates, in the order in which they were asked for: a round may have been opened again meanwhile. */
  | { type: 'aggregated'; round: number; inputs: readonly Link[]; result: Aggregated }
  /** `own`: the federation's own model that was combined; `parent`: the parent's round that it was combined with. */
  | { type: 'combined'; round: number; own: Link; parent: ParentHead; model: Link; modelBytes: number }
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
  /** Says an update of a member that is away: who leads now may never have heard of it. */
  | { do: 'pass-on'; link: Link; update: Update }
  /** Fetches the aggregator's own update, so that it survives its aggregator (levels.ts, `isDeputy`). */
  | { do: 'hold'; update: Update }
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
    const before = this.state.consensus
    const [consensus, effects] = stepConsensus(before, event)
    // Most messages are heartbeats, which change nothing.
    if (consensus !== before) this.state = { ...this.state, consensus }
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
        case 'aggregator-changed':
          this.effects.push(effect)
          if (effect.peer !== null && effect.peer !== this.state.self) this.#passOn()
          break
        default:
          this.effects.push(effect)
      }
    }
    if (before.accepted !== consensus.accepted || before.role !== consensus.role) this.tryPropose()
  }

  round(event: RoundEvent): void {
    // Nothing else moves an idle round; most peers hear of most updates while theirs is idle.
    if (this.state.round.phase === 'idle' && event.type !== 'open' && event.type !== 'close') return
    const [round, effects] = stepRound(this.state.round, event, new StateFacts(this.state))
    if (round !== this.state.round) this.state = { ...this.state, round }
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
      staleness: (base: Link) => staleness(this.state, base),
      counted: this.state.counted.get(self) ?? 0
    }
    const [participation, effects] = stepParticipation(this.state.participation, event, facts)
    if (participation !== this.state.participation) this.state = { ...this.state, participation }
    this.effects.push(...effects)
  }

  takeUpdate(link: Link, update: Update): void {
    const fault = checkUpdate(this.state, update, this.#env)
    if (fault !== null) {
      this.effects.push({ do: 'refused', peer: update.by, fault })
      return
    }
    const known = this.state.known.get(update.member)
    const again = known?.link === link
    const older =
      known !== undefined && (staleness(this.state, known.update.base) ?? 0) < (staleness(this.state, update.base) ?? 0)
    if (older) return
    if (isForDeputy(this.state, update)) this.effects.push({ do: 'hold', update })
    // Delegates hand one contribution in, each under its own name: the first is kept, and the round hears of the others.
    const equal =
      known !== undefined && known.update.base === update.base && known.update.term >= update.term && update.term > 0
    if (!again && !equal) this.state = { ...this.state, known: this.state.known.with({ link, update }) }
    else if (this.state.round.phase !== 'collecting') return
    this.round({ type: 'update', link, update, staleness: staleness(this.state, update.base) ?? 0 })
  }

  /** Who is there says its own update again (participation.ts); an aggregator's that died is with its deputy, and known to those that were there. */
  #passOn(): void {
    const { known, present, self } = this.state
    for (const { link, update } of known.values())
      if (update.by !== self && !present.has(update.by)) this.effects.push({ do: 'pass-on', link, update })
  }

  /** Proposes what is due, if this peer is the aggregator and no entry is open: members first, for they are quick. */
  tryPropose(): void {
    const { consensus, roster, charter, round, self } = this.state
    if (consensus.role !== 'leader' || consensus.accepted !== null) return
    // Whose update is being aggregated goes after the round: its entry counts members alone (I3).
    const open = round.phase === 'idle' || round.phase === 'collecting'
    const change = planMembers(roster, charter, {
      joining: this.state.pending.values(),
      enrolling: this.state.enrolling.values(),
      leaving: open ? this.state.leaving.values() : [],
      accused: open ? this.state.accused.values() : [],
      isPresent: peer => peer === self || this.state.present.has(peer),
      remembers: peer => peer === self || this.state.remembering.has(peer),
      isAway: peer => this.state.away.has(peer)
    })
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
    const fault = entry.kind === 'members' ? this.#checkMembers(entry, from) : checkRound(this.state, entry)
    if (fault === null) {
      this.effects.push({ do: 'verify', from, link, term, entry })
      return
    }
    this.effects.push({ do: 'refused-entry', link, fault })
    this.consensus({ type: 'checked', from, link, term, entry, ok: false })
  }

  #checkMembers(entry: MembersEntry, from: PeerName): EntryFault | null {
    const { roster, charter, present, self } = this.state
    // A cut between two others is no reason to take a peer's vote away.
    const heard = entry.absent.filter(peer => !roster.absent.has(peer) && (peer === self || present.has(peer)))
    for (const peer of heard) this.#vouch(peer, from)
    const peer = heard.find(one => one === self || !this.#isVouchedFor(one))
    return peer === undefined ? checkMembers(roster, charter, entry) : { code: 'STILL_PRESENT', peer }
  }

  /** Who proposes an entry has accepted it: it did not hear `peer` either. */
  #vouch(peer: PeerName, voter: PeerName): void {
    const { vouched } = this.state
    const by = vouched.get(peer) ?? new Set()
    if (!by.has(voter)) this.state = { ...this.state, vouched: new Map(vouched).set(peer, new Set(by).add(voter)) }
  }

  /**
   * Half of the voters have accepted that it is absent, for the open index: of an even number the others could certify nothing else,
   * whoever is heard again meanwhile. And half are more than may lie (docs/protocol.md, "Members that leave, lie, or are gone").
   */
  #isVouchedFor(peer: PeerName): boolean {
    const { vouched, consensus } = this.state
    const by = vouched.get(peer)
    return 2 * consensus.voters.filter(voter => by?.has(voter)).length >= consensus.voters.length
  }

  #commit(entry: Entry, link: Link, certificate: Certificate): void {
    this.effects.push({ do: 'store', link, entry, certificate })
    if (this.state.vouched !== nobodyVouched) this.state = { ...this.state, vouched: nobodyVouched }
    if (entry.kind === 'members') this.#commitMembers(entry)
    else this.#commitRound(entry, link)
  }

  #commitMembers(entry: MembersEntry): void {
    const before = this.state.roster
    const roster = applyMembers(before, entry)
    const { self } = this.state
    const stays = ({ update }: KnownUpdate) => roster.members.get(update.member)?.peers.includes(update.by) ?? false
    this.state = {
      ...this.state,
      roster,
      known: this.state.known.filter(stays),
      pending: without(this.state.pending, [...entry.joined.map(({ member }) => member)]),
      leaving: without(this.state.leaving, [...entry.left.map(({ member }) => member)]),
      accused: without(this.state.accused, [...entry.evicted.map(({ peer }) => peer)]),
      ...enrolledBy(this.state, entry)
    }
    if (before.members.has(self) && !roster.members.has(self)) this.participate({ type: 'left' })
    const wasOpen = this.state.round.phase !== 'idle'
    this.round({ type: 'roster' })
    // An input's member has gone, or speaks through others now: the round is opened again without it.
    if (wasOpen && (this.state.round as RoundState).phase === 'idle') this.#openRound()
  }

  #commitRound(entry: RoundEntry, link: Link): void {
    const { head } = this.state
    assert(entry.round === head.round + 1, 'rounds are certified in order', { got: entry.round, head: head.round })
    assertRound(entry)
    const counted = countInputs(this.state.counted, entry)
    const known = this.state.known.filter(({ update }) => update.round > (counted.get(update.member) ?? 0))
    const bases = [...this.state.bases, { link, round: entry.round }].slice(-(staleRoundsMax + 1))
    this.state = {
      ...this.state,
      head: { round: entry.round, link, entry },
      bases,
      counted,
      late: countLate(this.state.late, entry),
      known
    }
    this.round({ type: 'close' })
    this.participate({ type: 'certified' })
    if (this.state.consensus.role === 'leader') this.#openRound()
  }

  #openRound(): void {
    const { head, charter, consensus } = this.state
    if (charter.algorithm.rounds > 0 && head.round >= charter.algorithm.rounds) return
    // A round entry that another aggregator proposed, and that is proposed again now, settles this round: a receipt given meanwhile would
    // be for an update that it knows nothing of (I4).
    if (consensus.accepted?.entry.kind === 'round') return
    this.round({ type: 'open', round: head.round + 1, base: head.link })
    for (const { link, update } of this.state.known.values()) {
      const late = staleness(this.state, update.base)
      if (late !== null && checkUpdate(this.state, update, this.#env) === null)
        this.round({ type: 'update', link, update, staleness: late })
    }
    this.round({ type: 'look' })
  }
}

/** @returns the next state and what to do, in order; each effect ends before the next begins, unless it answers by an event. */
export function stepFederation(env: Environment, state: FederationState, event: FederationEvent): Step {
  const turn = new Turn(state, env)
  switch (event.type) {
    case 'consensus':
      // Whoever speaks is not away, though its presence may come later: named absent, it would be asked to sign that it is.
      if (event.event.type === 'message' && state.away.has(event.event.from))
        turn.state = { ...state, away: withPeer(state.away, event.event.from, false) }
      turn.consensus(event.event)
      break
    case 'join':
      turn.state = { ...state, pending: asked(state.pending, event.member.member, event.member) }
      turn.tryPropose()
      break
    case 'leave':
      // Who has no place asks for none any more.
      turn.state = state.roster.members.has(event.left.member)
        ? { ...state, leaving: asked(state.leaving, event.left.member, event.left) }
        : { ...state, pending: without(state.pending, [event.left.member]) }
      turn.tryPropose()
      break
    case 'enroll':
      turn.state = { ...state, ...enrolling(state, event.enrolled) }
      if (hasForgotten(state, event.enrolled)) turn.consensus({ type: 'forgot', peer: event.enrolled.peer })
      turn.tryPropose()
      break
    case 'accuse':
      if (event.evicted.peer === state.self || state.roster.evicted.has(event.evicted.peer)) break
      turn.state = { ...state, accused: asked(state.accused, event.evicted.peer, event.evicted) }
      turn.consensus({ type: 'distrust', peer: event.evicted.peer })
      turn.tryPropose()
      break
    case 'presence':
      turn.state = { ...state, ...heardOf(state, event) }
      turn.round({ type: 'look' })
      turn.tryPropose()
      break
    case 'away':
      turn.state = { ...state, away: withPeer(state.away, event.peer, true) }
      turn.tryPropose()
      break
    case 'update':
      turn.takeUpdate(event.link, event.update)
      break
    case 'pulled':
    case 'unpulled':
      turn.round(event)
      break
    case 'aggregated':
      if (isAnswer(state.round, event)) turn.round(event)
      break
    case 'combined':
      if (isAnswer(state.round, event)) turn.round(event)
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
