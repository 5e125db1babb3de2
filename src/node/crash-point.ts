/**
 * Deaths at a chosen moment, for tests: `WORLDLM_CRASH_AT=<point>[:round]` makes a node kill itself with SIGKILL just before it performs
 * an effect (docs/operating.md, "Testing aids"). Only the composition root reads the variable.
 *
 * Is not: a way to lie. What the node says and writes until then is what any node does.
 */
import { WorldlmError } from '../errors.ts'
import type { FederationEffect } from '../federation/federation.ts'
import type { FederationState } from '../federation/federation-state.ts'

/** In the order in which an aggregator comes by them in a round; the last five are any member's. */
export const crashPoints = {
  open: 'the round has just been opened, nothing was asked for yet',
  pull: 'the first update is about to be fetched',
  receipt: 'the first update has been fetched and found good; its receipt is not given',
  aggregate: 'all updates are in, nothing is aggregated yet',
  contribute: 'aggregated, nothing was handed to the parent yet',
  accept: 'aggregated, nothing is proposed yet; for a voter: before it stores that it accepts',
  sign: 'stored that it accepts the round, nothing is signed yet',
  store: 'a majority has signed, the certified round is not stored yet',
  publish: 'the certified round is stored and nobody knows of it yet',
  train: 'about to train',
  announce: 'trained and stored, about to announce its update',
  apply: 'about to take the certified round over'
} as const

type CrashPoint = keyof typeof crashPoints

/** The point that an effect is, and its round; null for an effect that is none. */
export function pointOf(state: FederationState, effect: FederationEffect): { point: CrashPoint; round: number } | null {
  const round = state.round.phase === 'idle' ? state.head.round + 1 : state.round.round
  switch (effect.do) {
    case 'start-timer':
      return effect.name === 'deadline' ? { point: 'open', round } : null
    case 'pull':
    case 'receipt':
    case 'aggregate':
    case 'contribute':
      return { point: effect.do, round }
    case 'persist': {
      const entry = effect.accepted?.entry
      return entry?.kind === 'round' ? { point: 'accept', round: entry.round } : null
    }
    case 'sign': {
      const entry = state.consensus.accepted?.entry
      return entry?.kind === 'round' && entry.index === effect.index ? { point: 'sign', round: entry.round } : null
    }
    case 'store':
    case 'publish':
      return effect.entry.kind === 'round' ? { point: effect.do, round: effect.entry.round } : null
    case 'train':
      return { point: 'train', round: effect.round }
    case 'announce':
      return { point: 'announce', round: effect.update.round }
    case 'apply':
      return { point: 'apply', round: effect.head.round }
    default:
      return null
  }
}

/** @param at - `<point>[:round]`. @returns what is to be asked before each effect. @throws {WorldlmError} USAGE */
export function crashAt(at: string, kill: () => void): (state: FederationState, effect: FederationEffect) => void {
  const [point, round] = at.split(':')
  if (point === undefined || !(point in crashPoints) || (round !== undefined && !/^\d+$/.test(round)))
    throw new WorldlmError(
      'USAGE',
      `WORLDLM_CRASH_AT=${at} is no point of a round`,
      `Write <point> or <point>:<round>; points are ${Object.keys(crashPoints).join(', ')}.`
    )
  return (state, effect) => {
    const reached = pointOf(state, effect)
    if (reached?.point === point && (round === undefined || reached.round === Number(round))) kill()
  }
}
