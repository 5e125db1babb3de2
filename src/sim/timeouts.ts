/**
 * How long a peer waits for answers. Most of its questions are answered: one happening waits for the first that is still open, where
 * each would have one that finds nothing to do. Each that is not answered keeps the moment and the tie that its own would have.
 */
import type { Clock, Happening } from './clock.ts'

export interface Waiting {
  readonly isOpen: boolean
  timedOut(): void
}

interface Timeout extends Happening {
  waiting: Waiting
  atMs: number
  tie: number
  isQueued: boolean
}

export class Timeouts {
  readonly #clock: Clock
  /** The soonest first. */
  readonly #timeouts: Timeout[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(delayMs: number, waiting: Waiting): void {
    const timeouts = this.#timeouts
    const [atMs, tie] = [this.#clock.nowMs + delayMs, this.#clock.tie()]
    const timeout: Timeout = { waiting, atMs, tie, isQueued: false, fire: () => this.#due(timeout) }
    let place = timeouts.length
    while (place > 0 && isSooner(timeout, timeouts[place - 1]!)) place--
    timeouts.splice(place, 0, timeout)
    if (place === 0) this.#wait()
  }

  #due(timeout: Timeout): void {
    this.#timeouts.shift()
    this.#wait()
    if (timeout.waiting.isOpen) timeout.waiting.timedOut()
  }

  /** Those that were answered are passed over; not the one that a happening waits for already. */
  #wait(): void {
    const next = this.#timeouts.findIndex(({ waiting, isQueued }) => isQueued || waiting.isOpen)
    this.#timeouts.splice(0, next < 0 ? this.#timeouts.length : next)
    const [first] = this.#timeouts
    if (first === undefined || first.isQueued) return
    first.isQueued = true
    this.#clock.at(first.atMs, first, first.tie)
  }
}

const isSooner = (one: Timeout, other: Timeout): boolean =>
  one.atMs < other.atMs || (one.atMs === other.atMs && one.tie < other.tie)
