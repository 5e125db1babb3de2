/**
 * When something that was said on gossip is said again: gossip loses messages, and who leads may be new. Is: pure, counted in looks that
 * come at even times. Is not: the decision that it is settled, after which nobody asks here.
 */
import type { PeerName } from '../ids.ts'

export interface Repeat {
  /** For whom it was said: `office` of who leads, or what else tells whether its listeners are new. Null: nobody has looked yet. */
  readonly to: string | null
  /** Looks between the last time and the next, and how many of them are left. */
  readonly pause: number
  readonly left: number
}

/**
 * Looks, at most, between two times. A round may take its trainers minutes, and each message is checked, kept and passed on by all: what is
 * said every two seconds by a hundred who wait is most of what they compute meanwhile.
 */
const pauseMax = 4

/** It was said just now. */
export const saidTo = (to: string | null): Repeat => ({ to, pause: 1, left: 1 })

/** One look: after 1, 2, then each 4 looks, and at once where the listeners are new. @returns what follows, and whether it is due. */
export function look(repeat: Repeat, to: string): [Repeat, boolean] {
  if (repeat.to !== null && to !== repeat.to) return [saidTo(to), true]
  if (repeat.left > 1) return [{ ...repeat, to, left: repeat.left - 1 }, false]
  const pause = Math.min(2 * repeat.pause, pauseMax)
  return [{ to, pause, left: pause }, true]
}

interface Office {
  aggregator: PeerName | null
  term: number
}

/** Who leads, and since when, as far as this peer knows. @param heard - from presences: who does not vote hears of it by them alone. */
export function office({ aggregator, term }: Office, heard: Office): string {
  const known = aggregator === null ? heard : { aggregator, term }
  return `${known.aggregator}/${known.term}`
}
