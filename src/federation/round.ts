/**
 * A round, as its aggregator sees it (docs/protocol.md, "A round").
 *
 *   idle ──open──▶ collecting ──all in, or deadline──▶ aggregating ──▶ waiting-for-parent ──▶ combining ──▶ proposing ──commit──▶ idle
 *                     │   ▲                                                   (only below a parent)
 *                     └───┘ extended: fewer than `minMembers` at the deadline
 *
 * Is: pure; one value a state. Is not: the judge of an update (federation.ts checks who sent it, the mixer what is in it), nor of
 * the time: timers come in as events. Losing the aggregator's office leads back to idle from everywhere; nothing is lost by that,
 * because members keep their updates until a certified entry settles them.
 */
import type { Aggregated, Closed, Open, ParentHead, Received, RoundBody, RoundState } from './round-state.ts'
import { assert, assertNever } from '../errors.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import { residualsOf } from './declared-residuals.ts'
import type { Ancestor, Member, RoundInput, Update } from './entry.ts'
import { discounted, totals } from './round-sums.ts'
import { exclusionReason, type UpdateFault } from './fault.ts'

export type RoundEvent =
  | { type: 'open'; round: number; base: Link }
  | { type: 'update'; link: Link; update: Update; staleness: number }
  | { type: 'pulled'; link: Link; keysDistance: number }
  | { type: 'unpulled'; link: Link; fault: UpdateFault }
  | { type: 'look' }
  | { type: 'timer'; name: 'deadline' | 'parent' | 'start' }
  | { type: 'aggregated'; result: Aggregated }
  | { type: 'parent-head' }
  | { type: 'combined'; parent: ParentHead; model: Link; modelBytes: number }
  /** Members have come, gone, or speak through other peers. */
  | { type: 'roster' }
  | { type: 'close' }

/** What a decision depends on besides the state. */
export interface RoundFacts {
  readonly id: FederationId
  readonly charter: Charter
  readonly self: PeerName
  readonly term: number
  /** Members that contribute. */
  readonly contributors: readonly Member[]
  isPresent(member: Member): boolean
  /** Whether a round that all others are in waits for it. */
  isAwaited(member: Member): boolean
  /** Whether a member that is gone was evicted; else it left. */
  evicted(member: MemberId): boolean
  readonly parentHead: ParentHead | null
  /** Round 1 may open although members are missing. */
  readonly startTimedOut: boolean
}

export type RoundEffect =
  | { do: 'pull'; link: Link; update: Update }
  | { do: 'receipt'; member: MemberId; update: Link; verdict: 'accepted' | UpdateFault }
  | { do: 'aggregate'; round: number; base: Link; inputs: Received[] }
  | { do: 'contribute'; update: Update }
  | { do: 'combine'; model: Link; parent: ParentHead }
  | { do: 'propose'; body: RoundBody }
  | { do: 'start-timer'; name: 'deadline' | 'parent'; ms: number }
  | { do: 'stop-timer'; name: 'deadline' | 'parent' }
  | { do: 'tell'; code: 'ROUND_EXTENDED' | 'PARENT_AWAY' | 'PARENT_AHEAD'; message: string }

/** @returns the next state and what to do, in order. Total: every state answers every event. */
export function stepRound(state: RoundState, event: RoundEvent, facts: RoundFacts): [RoundState, RoundEffect[]] {
  if (event.type === 'close') return [{ phase: 'idle' }, [stop('deadline'), stop('parent')]]
  switch (state.phase) {
    case 'idle':
      return event.type === 'open' ? open(event.round, event.base, facts) : [state, []]
    case 'collecting':
      return collect(state, event, facts)
    case 'aggregating':
      if (event.type === 'roster') return keepIfSpokenFor(state, facts)
      return event.type === 'aggregated' ? afterAggregation(state, event.result, facts) : [state, []]
    case 'waiting-for-parent':
      return waitForParent(state, event, facts)
    case 'combining':
      return combine(state, event, facts)
    case 'proposing':
      return event.type === 'roster' ? keepIfSpokenFor(state, facts) : [state, []]
    default:
      return assertNever(state)
  }
}

type Collecting = Extract<RoundState, { phase: 'collecting' }>
type Aggregating = Extract<RoundState, { phase: 'aggregating' }>
type Waiting = Extract<RoundState, { phase: 'waiting-for-parent' }>
type Combining = Extract<RoundState, { phase: 'combining' }>

function open(round: number, base: Link, facts: RoundFacts): [RoundState, RoundEffect[]] {
  const nothing = { received: new Map(), refused: new Map(), pulled: new Map(), extensions: 0 }
  const state: Collecting = { phase: 'collecting', round, base, ...nothing }
  return [state, [{ do: 'start-timer', name: 'deadline', ms: facts.charter.timings.deadlineMs }]]
}

function collect(state: Collecting, event: RoundEvent, facts: RoundFacts): [RoundState, RoundEffect[]] {
  switch (event.type) {
    case 'update':
      return take(state, event.link, event.update, event.staleness)
    case 'pulled': {
      const found = byLink(state, event.link)
      if (found === null) return [state, []]
      const accepted: Received = { ...found, state: 'accepted', keysDistance: event.keysDistance }
      const received = new Map(state.received).set(found.update.member, accepted)
      const receipt: RoundEffect = { do: 'receipt', member: found.update.member, update: found.link, verdict: 'accepted' }
      return closeIfComplete({ ...state, received }, facts, [receipt])
    }
    case 'unpulled': {
      const found = byLink(state, event.link)
      if (found === null) return [state, []]
      const { member } = found.update
      const received = new Map(state.received)
      received.delete(member)
      const refused = new Map(state.refused).set(member, {
        link: event.link,
        reason: exclusionReason(event.fault),
        final: event.fault.verdict === 'reject'
      })
      return closeIfComplete({ ...state, received, refused }, facts, [
        { do: 'receipt', member, update: event.link, verdict: event.fault }
      ])
    }
    case 'look':
      return closeIfComplete(state, facts, [])
    case 'roster': {
      // A child whose delegates changed hands in again, by one that speaks for it now; who left is named as such when the round closes.
      const received = new Map([...state.received].filter(([, one]) => speaksFor(one, facts) !== false))
      return closeIfComplete({ ...state, received }, facts, [])
    }
    case 'timer':
      return event.name === 'deadline' ? atDeadline(state, facts) : closeIfComplete(state, facts, [])
    default:
      return [state, []]
  }
}

/** Whether the peer that signed it speaks for its member; null: the member is none any more. */
function speaksFor({ update }: Received, { contributors }: RoundFacts): boolean | null {
  const found = contributors.find(({ member }) => member === update.member)
  return found === undefined ? null : found.peers.includes(update.by)
}

/** A certified round counts members alone, each by its own word (I3): else it is given up here, and opened again. */
function keepIfSpokenFor<State extends Open & Closed & RoundState>(
  state: State,
  facts: RoundFacts
): [RoundState, RoundEffect[]] {
  if (state.inputs.every(input => speaksFor(input, facts) === true)) return [state, []]
  return [{ phase: 'idle' }, [stop('deadline'), stop('parent')]]
}

/**
 * Updates of one peer that are asked for in a round. An honest one makes one; another after it lost its disk, or as a delegate whose
 * federation elects anew. One whose every blob is none, or never whole, fills no disk with them: what nobody needs is removed after each round.
 */
const pulledMax = 8

function take(state: Collecting, link: Link, update: Update, staleness: number): [RoundState, RoundEffect[]] {
  const known = state.received.get(update.member)
  // An accepted update is settled: its receipt is out (I4). Of one that is still being pulled, a higher term is newer.
  if (known !== undefined && (known.link === link || known.state === 'accepted' || known.update.term >= update.term))
    return [state, []]
  // Announced again after its blob could not be had: its holder may be back, and a round that was extended waits for it.
  const refused = state.refused.get(update.member)
  if (refused?.final === true && refused.link === link) return [state, []]
  const mine = state.pulled.get(update.by) ?? new Set()
  if (!mine.has(link) && mine.size >= pulledMax) return [state, []]
  const entry: Received = { link, update, weight: discounted(update.weight, staleness), state: 'pulling', keysDistance: 0 }
  const received = new Map(state.received).set(update.member, entry)
  const pulled = new Map(state.pulled).set(update.by, new Set(mine).add(link))
  return [{ ...state, received, pulled }, [{ do: 'pull', link, update }]]
}

/** Who left since its update was accepted counts no more: the entry's inputs are members (I3). */
function accepted(state: Collecting, { contributors }: RoundFacts): Received[] {
  const standing = new Set(contributors.map(({ member }) => member))
  return [...state.received.values()]
    .filter(received => received.state === 'accepted' && standing.has(received.update.member))
    .sort((left, right) => (left.update.member < right.update.member ? -1 : 1))
}

const byLink = (state: Collecting, link: Link): Received | null =>
  [...state.received.values()].find(received => received.link === link && received.state === 'pulling') ?? null

/** All that are waited for have answered, and nobody's blob is still on its way. */
function closeIfComplete(state: Collecting, facts: RoundFacts, effects: RoundEffect[]): [RoundState, RoundEffect[]] {
  const enough = state.round > 1 || facts.startTimedOut || facts.contributors.length >= facts.charter.startMembers
  if (!enough || isPulling(state) || isMissing(state, facts)) return [state, effects]
  if (accepted(state, facts).length < facts.charter.minMembers) return [state, effects]
  return close(state, facts, effects)
}

function isPulling({ received }: Collecting): boolean {
  for (const { state } of received.values()) if (state === 'pulling') return true
  return false
}

const isMissing = ({ received, refused }: Collecting, facts: RoundFacts): boolean =>
  facts.contributors.some(member => !received.has(member.member) && !refused.has(member.member) && facts.isAwaited(member))

function atDeadline(state: Collecting, facts: RoundFacts): [RoundState, RoundEffect[]] {
  const count = accepted(state, facts).length
  if (count >= Math.max(1, facts.charter.minMembers)) return close(state, facts, [])
  const extensions = state.extensions + 1
  const message = `round ${state.round}: ${count} of at least ${facts.charter.minMembers} members at the deadline, extended (${extensions})`
  return [
    { ...state, extensions },
    [
      { do: 'tell', code: 'ROUND_EXTENDED', message },
      { do: 'start-timer', name: 'deadline', ms: facts.charter.timings.deadlineMs }
    ]
  ]
}

function close(state: Collecting, facts: RoundFacts, effects: RoundEffect[]): [RoundState, RoundEffect[]] {
  const inputs = accepted(state, facts)
  const counted = new Set(inputs.map(input => input.update.member))
  const excluded = facts.contributors
    .filter(({ member }) => !counted.has(member))
    .map(member => ({
      member: member.member,
      reason: state.refused.get(member.member)?.reason ?? (facts.isPresent(member) ? 'late' : 'absent')
    }))
  const standing = new Set(facts.contributors.map(({ member }) => member))
  for (const { update, state: reached } of state.received.values()) {
    if (reached !== 'accepted' || standing.has(update.member)) continue
    excluded.push({ member: update.member, reason: facts.evicted(update.member) ? 'evicted' : 'left' })
  }
  assert(counted.size === inputs.length, 'I3: a member is counted twice', { round: state.round })
  const next: Aggregating = { phase: 'aggregating', round: state.round, base: state.base, inputs, excluded }
  return [next, [...effects, stop('deadline'), { do: 'aggregate', round: state.round, base: state.base, inputs }]]
}

function afterAggregation(state: Aggregating, result: Aggregated, facts: RoundFacts): [RoundState, RoundEffect[]] {
  const { charter, parentHead } = facts
  if (charter.parent === null) return propose(state, result, null, null)
  const parentRound = (parentHead?.round ?? 0) + 1
  // It made its rounds without this federation, which was behind: nothing will come of waiting.
  if (charter.algorithm.rounds > 0 && parentRound > charter.algorithm.rounds)
    return propose(state, result, null, 'the parent has made all its rounds')
  if (result.contribution === null) return goOnAlone(state, result, 'the parent’s model could not be had')
  // The parent certified a round while the change against the one before was written: under the new base it would be wrong, and named
  // with the old one it would come late.
  if (result.contributionBase !== null && result.contributionBase !== (parentHead?.entry ?? charter.parent))
    return behindParent(state, result, facts)
  const effects: RoundEffect[] = [{ do: 'contribute', update: contribution(state, result, parentRound, facts) }]
  if (charter.algorithm.levels === 'pipelined' && parentHead !== null) {
    const [next, more] = takeNewest(state, result, parentHead, facts)
    return [next, [...effects, ...more]]
  }
  if (charter.algorithm.levels === 'pipelined') {
    const [next, more] = propose(state, result, null, 'the parent has no certified round yet')
    return [next, [...effects, ...more]]
  }
  effects.push({ do: 'start-timer', name: 'parent', ms: charter.timings.parentTimeoutMs })
  return [{ ...state, phase: 'waiting-for-parent', result, parentRound }, effects]
}

/**
 * Once more, against the newest. A parent whose rounds are shorter than its model takes to come is not run after: this round has what is
 * there, and hands nothing in.
 */
function behindParent(state: Aggregating, result: Aggregated, facts: RoundFacts): [RoundState, RoundEffect[]] {
  const { parentHead } = facts
  if (state.again !== true)
    return [{ ...state, again: true }, [{ do: 'aggregate', round: state.round, base: state.base, inputs: state.inputs }]]
  const why = 'the parent certifies rounds faster than its model comes'
  if (parentHead === null) return goOnAlone(state, result, why)
  const [next, effects] = takeNewest(state, result, parentHead, facts)
  return [next, [{ do: 'tell', code: 'PARENT_AHEAD', message: `round ${state.round}: ${why}, handing in nothing` }, ...effects]]
}

/** What the parent has now, without waiting for what it makes next. */
function takeNewest(
  state: Open & Closed,
  result: Aggregated,
  parent: ParentHead,
  { charter }: RoundFacts
): [RoundState, RoundEffect[]] {
  const { round, base, inputs, excluded } = state
  return [
    { phase: 'combining', round, base, inputs, excluded, result, parent },
    [
      { do: 'start-timer', name: 'parent', ms: charter.timings.parentTimeoutMs },
      { do: 'combine', model: result.model, parent }
    ]
  ]
}

/** The federation as a member of its parent: it counts with the weight of all below it. */
function contribution(state: Aggregating, result: Aggregated, parentRound: number, facts: RoundFacts): Update {
  assert(facts.charter.parent !== null && result.contribution !== null, 'a contribution needs a parent')
  return {
    federation: facts.charter.parent,
    round: parentRound,
    base: facts.parentHead?.entry ?? facts.charter.parent,
    member: facts.id,
    by: facts.self,
    term: facts.term,
    blob: result.contribution,
    blobBytes: result.contributionBytes,
    holders: [facts.self],
    ...totals(state.inputs),
    sketches: result.sketches,
    loss: null,
    trainSeconds: Math.max(0, ...state.inputs.map(input => input.update.trainSeconds))
  }
}

function waitForParent(state: Waiting, event: RoundEvent, facts: RoundFacts): [RoundState, RoundEffect[]] {
  const { parentHead } = facts
  if (event.type === 'roster') return keepIfSpokenFor(state, facts)
  if (event.type === 'timer' && event.name === 'parent')
    return goOnAlone(state, state.result, 'the parent certified nothing in time')
  if (parentHead === null || parentHead.round < state.parentRound) return [state, []]
  return [
    { ...state, phase: 'combining', parent: parentHead },
    [{ do: 'combine', model: state.result.model, parent: parentHead }]
  ]
}

/** The parent's model may be as far away as its certificate was: its timer runs on. */
function combine(state: Combining, event: RoundEvent, facts: RoundFacts): [RoundState, RoundEffect[]] {
  switch (event.type) {
    case 'roster':
      return keepIfSpokenFor(state, facts)
    case 'timer':
      return event.name === 'parent'
        ? goOnAlone(state, state.result, 'the parent’s model could not be had in time')
        : [state, []]
    case 'combined': {
      const [next, effects] = propose(
        state,
        { ...state.result, model: event.model, modelBytes: event.modelBytes },
        event.parent,
        null
      )
      return [next, [stop('parent'), ...effects]]
    }
    default:
      return [state, []]
  }
}

function goOnAlone(state: Open & Closed, result: Aggregated, why: string): [RoundState, RoundEffect[]] {
  const [next, effects] = propose(state, result, null, why)
  return [next, [{ do: 'tell', code: 'PARENT_AWAY', message: `round ${state.round}: ${why}, going on alone` }, ...effects]]
}

function propose(
  state: Open & Closed,
  result: Aggregated,
  parent: ParentHead | null,
  alone: string | null
): [RoundState, RoundEffect[]] {
  const inputs: RoundInput[] = state.inputs.map((input, place) => ({
    member: input.update.member,
    round: input.update.round,
    update: input.link,
    weight: input.weight,
    attention: result.attention[place] ?? []
  }))
  const body: RoundBody = {
    kind: 'round',
    round: state.round,
    base: state.base,
    inputs,
    excluded: state.excluded,
    model: result.model,
    modelBytes: result.modelBytes,
    outer: result.outer,
    ...totals(state.inputs),
    ancestors: parent === null ? [] : [ancestor(parent), ...parent.ancestors],
    alone,
    residuals: residualsOf(state.inputs.map(({ update }) => update)),
    charterVersion: 1,
    measured: { ...result.measured, trainSeconds: Math.max(0, ...state.inputs.map(input => input.update.trainSeconds)) }
  }
  const { round, base, inputs: closedInputs, excluded } = state
  return [{ phase: 'proposing', round, base, inputs: closedInputs, excluded, body }, [{ do: 'propose', body }]]
}

const ancestor = ({ federation, path, entry, model, textBytes }: ParentHead): Ancestor => ({
  federation,
  path,
  entry,
  model,
  textBytes
})

const stop = (name: 'deadline' | 'parent'): RoundEffect => ({ do: 'stop-timer', name })
