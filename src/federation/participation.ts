/**
 * An organization in its federation's rounds: train, announce, take the result, again (docs/protocol.md, "A round").
 *
 *   away ──in the roster──▶ applying ──▶ training ──▶ announced ──certified──▶ applying ──▶ … ──last round──▶ finished
 *
 * An update is announced until a certified entry settles it: counted, or excluded for a reason. One that came late waits for the
 * next round, which counts it at half its weight (`stale: discount`); its organization does not train in between, so a round has one
 * update of it at most. One whose process died announces from its disk what nobody has counted meanwhile.
 */
import { assertNever } from '../errors.ts'
import type { Link, MemberId } from '../ids.ts'
import type { RoundEntry, Update } from './entry.ts'
import { isForLater } from './fault.ts'
import { longer, repeatMs } from './repeat.ts'

/** The newest certified round; `entry` is null before the first, and `link` then is the federation's id. */
export interface RoundHead {
  round: number
  link: Link
  entry: RoundEntry | null
}

export type Participation =
  | { phase: 'away' }
  | { phase: 'training'; round: number; base: Link }
  | { phase: 'announced'; link: Link; update: Update; accepted: boolean; pauseMs: number }
  | { phase: 'applying'; head: RoundHead }
  | { phase: 'finished'; round: number }

export type ParticipationEvent =
  /** The organization is in the roster, with what its disk holds: the round it applied last, an update not yet settled. */
  | { type: 'ready'; applied: Link; pending: { link: Link; update: Update } | null }
  | { type: 'certified' }
  | { type: 'trained'; link: Link; update: Update }
  | { type: 'untrained' }
  | { type: 'applied'; link: Link }
  | { type: 'receipt'; link: Link; accepted: boolean }
  | { type: 'announce-again' }
  /** Another leads now. */
  | { type: 'led-anew' }
  /** The organization is no member any more. */
  | { type: 'left' }

export interface ParticipationFacts {
  self: MemberId
  head: RoundHead
  /** Rounds in all; 0: no end. */
  rounds: number
  stale: 'discount' | 'drop'
  /** How many rounds ago `base` was the newest; null if it is older than is remembered. */
  staleness: (base: Link) => number | null
  /** The highest round for which an update of this organization is counted; 0 before the first. */
  counted: number
}

export type ParticipationEffect =
  | { do: 'train'; round: number; base: RoundHead }
  | { do: 'announce'; link: Link; update: Update }
  | { do: 'apply'; head: RoundHead }
  | { do: 'finish'; round: number }
  | { do: 'start-timer'; name: 'announce'; ms: number }

/** A later round still counts an update that is at most so many rounds old. */
export const staleRoundsMax = 3

/** A node that comes back looks for what it missed before it trains. */
const catchUpMs = 2_500
/** A log that has lost its end (torn, or moved away) is fetched again: in vain where nobody has it any more. */
const lostEndMs = 60_000

/**
 * How long a node that has come back is to wait yet before it is `ready`, unless its log grows meanwhile. An update that is based on what
 * the log does not hold would be judged too old, and given up though it was accepted (I4).
 */
export function restBeforeReady(
  { id, head }: { id: Link; head: RoundHead },
  { applied, pending }: { applied: Link; pending: { update: Update } | null },
  waitedMs: number
): number {
  if (pending !== null && pending.update.round > head.round + 1) return Math.max(0, lostEndMs - waitedMs)
  return applied === id && head.round === 0 ? 0 : Math.max(0, catchUpMs - waitedMs)
}

type Step = [Participation, ParticipationEffect[]]

/** @returns the next state and what to do, in order. Total: every state answers every event. */
export function stepParticipation(state: Participation, event: ParticipationEvent, facts: ParticipationFacts): Step {
  if (event.type === 'left') return [{ phase: 'away' }, []]
  switch (state.phase) {
    case 'away':
      if (event.type !== 'ready') return [state, []]
      // It was away when its update was excluded, or was to be pulled: it comes late now, as from one that never was.
      if (event.pending !== null && mayCount(event.pending.update, facts)) return announce(event.pending)
      return event.applied === facts.head.link ? next(facts) : apply(facts)
    case 'training':
      if (event.type === 'untrained') return facts.head.link === state.base ? next(facts) : apply(facts)
      return event.type === 'trained' ? afterTraining(event, facts) : [state, []]
    case 'announced':
      return waitForRound(state, event, facts)
    case 'applying':
      if (event.type !== 'applied') return [state, []]
      return event.link === facts.head.link ? next(facts) : apply(facts)
    case 'finished':
      return [state, []]
    default:
      return assertNever(state)
  }
}

function next(facts: ParticipationFacts): Step {
  const { head, rounds } = facts
  if (rounds > 0 && head.round >= rounds)
    return [{ phase: 'finished', round: head.round }, [{ do: 'finish', round: head.round }]]
  return [{ phase: 'training', round: head.round + 1, base: head.link }, [{ do: 'train', round: head.round + 1, base: head }]]
}

const apply = ({ head }: ParticipationFacts): Step => [{ phase: 'applying', head }, [{ do: 'apply', head }]]

function announce({ link, update }: { link: Link; update: Update }): Step {
  return [
    { phase: 'announced', link, update, accepted: false, pauseMs: repeatMs },
    [
      { do: 'announce', link, update },
      { do: 'start-timer', name: 'announce', ms: repeatMs }
    ]
  ]
}

/** Whether a round to come may count an update that none has counted. */
function mayCount({ base, round }: Update, { staleness, stale, rounds, head, counted }: ParticipationFacts): boolean {
  const late = staleness(base)
  if (round <= counted || late === null) return false
  if (late === 0) return true
  return stale === 'discount' && late <= staleRoundsMax && (rounds === 0 || head.round < rounds)
}

function afterTraining(event: { link: Link; update: Update }, facts: ParticipationFacts): Step {
  const staleness = facts.staleness(event.update.base)
  if (staleness === 0) return announce(event)
  // It was made already, by this very peer, which an old copy of its disk had forget it: the round that it was for has counted the first.
  if (event.update.round <= facts.counted) return apply(facts)
  const last = facts.rounds > 0 && facts.head.round >= facts.rounds
  if (last || facts.stale === 'drop' || staleness === null || staleness > staleRoundsMax) return apply(facts)
  return announce(event)
}

/**
 * Whether the round has left this update to the next one. It has, too, where it counted an earlier one of the member, which its
 * aggregator still knew when it returned: training anew would bring the next update late again, and so on for ever.
 */
function isOverlooked(
  { link, update }: { link: Link; update: Update },
  entry: RoundEntry,
  { self }: ParticipationFacts
): boolean {
  const counted = entry.inputs.find(({ member }) => member === self)
  if (counted !== undefined) return counted.update !== link && counted.round < update.round
  return entry.excluded.some(({ member, reason }) => member === self && isForLater(reason))
}

function waitForRound(state: Announced, event: ParticipationEvent, facts: ParticipationFacts): Step {
  switch (event.type) {
    case 'certified': {
      const { entry } = facts.head
      const staleness = facts.staleness(state.update.base)
      const over = facts.rounds > 0 && facts.head.round >= facts.rounds
      const mayWait = facts.stale === 'discount' && staleness !== null && staleness <= staleRoundsMax && !over
      if (entry !== null && isOverlooked(state, entry, facts) && mayWait)
        return [state, [{ do: 'announce', link: state.link, update: state.update }]]
      return apply(facts)
    }
    case 'receipt':
      return event.link === state.link ? takeReceipt(state, event.accepted) : [state, []]
    case 'announce-again':
      return announceAgain(state, state.accepted ? longer(state.pauseMs) : repeatMs)
    case 'led-anew':
      return announceAgain(state, repeatMs)
    default:
      return [state, []]
  }
}

type Announced = Extract<Participation, { phase: 'announced' }>

function announceAgain(state: Announced, pauseMs: number): Step {
  const { link, update } = state
  return [
    { ...state, pauseMs },
    [
      { do: 'announce', link, update },
      { do: 'start-timer', name: 'announce', ms: pauseMs }
    ]
  ]
}

/** Who leads has it: it is said for those alone who may lead next. */
function takeReceipt(state: Announced, accepted: boolean): Step {
  if (!accepted || state.accepted) return [{ ...state, accepted }, []]
  const pauseMs = longer(state.pauseMs)
  return [{ ...state, accepted, pauseMs }, [{ do: 'start-timer', name: 'announce', ms: pauseMs }]]
}
