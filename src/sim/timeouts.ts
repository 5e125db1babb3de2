/**
 * How long a peer waits for answers. Most of its questions are answered: one happening waits for the first that is still open, where
 * each would have one that finds nothing to do. Each that is not answered keeps the moment and the tie that its own would have.
 */
import type { Clock, Happening } from './clock.ts'

export interface Waiting {
  readonly isOpen: boolean
  timedOut(): void
}

interface Timeout {
  waiting: Waiting
  atMs: number
  tie: number
}

export class Timeouts implements Happening {
  readonly #clock: Clock
  /** The soonest first. */
  readonly #timeouts: Timeout[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(delayMs: number, waiting: Waiting): void {
    const timeouts = this.#timeouts
    const timeout = { waiting, atMs: this.#clock.nowMs + delayMs, tie: this.#clock.tie() }
    let place = timeouts.length
    while (place > 0 && isSooner(timeout, timeouts[place - 1]!)) place--
    timeouts.splice(place, 0, timeout)
    if (place === 0) this.#wait()
  }

  fire(): void {
    const [first] = this.#timeouts
    // It waits for one that another has come before, and is no longer the first.
    if (first === undefined || first.atMs > this.#clock.nowMs) return
    this.#timeouts.shift()
    this.#wait()
    if (first.waiting.isOpen) first.waiting.timedOut()
  }

  #wait(): void {
    const open = this.#timeouts.findIndex(({ waiting }) => waiting.isOpen)
    this.#timeouts.splice(0, open < 0 ? this.#timeouts.length : open)
    const [first] = this.#timeouts
    if (first !== undefined) this.#clock.at(first.atMs, this, first.tie)
  }
}

const isSooner = (one: Timeout, other: Timeout): boolean =>
  one.atMs < other.atMs || (one.atMs === other.atMs && one.tie < other.tie)
