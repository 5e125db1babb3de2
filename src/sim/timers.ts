/** A replica's timers, by its peer's own clock. Each is one happening that is moved, not queued again, when it is started anew. */
import type { Clock, Happening } from './clock.ts'
import type { ReplicaCore } from './core.ts'

const never = Number.POSITIVE_INFINITY

class Timer implements Happening {
  dueMs = never
  #queuedMs = never
  readonly #owner: ReplicaCore
  readonly #clock: Clock
  readonly #fire: () => void

  constructor(owner: ReplicaCore, clock: Clock, fire: () => void) {
    this.#owner = owner
    this.#clock = clock
    this.#fire = fire
  }

  start(atMs: number): void {
    this.dueMs = atMs
    this.#queue()
  }

  /** Comes early when the timer was moved back: then it is queued again for its new time. */
  fire(): void {
    if (!this.#owner.alive) return
    const { nowMs } = this.#clock
    if (this.#queuedMs <= nowMs) this.#queuedMs = never
    if (this.dueMs > nowMs) {
      // Without a drawn tie: how often that happens shall change nothing else.
      if (this.dueMs !== never) this.#queue(0)
      return
    }
    this.dueMs = never
    this.#fire()
  }

  #queue(tie?: number): void {
    if (this.#queuedMs <= this.dueMs) return
    this.#queuedMs = this.dueMs
    this.#clock.at(this.dueMs, this, tie)
  }
}

/** Named: a name has one timer at most, and starting it again moves it. */
export class Timers<Name extends string> {
  readonly #timers = new Map<Name, Timer>()
  readonly #owner: ReplicaCore
  readonly #clock: Clock
  readonly #fire: (name: Name) => void

  constructor(owner: ReplicaCore, clock: Clock, fire: (name: Name) => void) {
    this.#owner = owner
    this.#clock = clock
    this.#fire = fire
  }

  /** @param localMs - by the peer's own clock, from the moment that comes after `delayMs` of the world's. */
  start(name: Name, localMs: number, delayMs = 0): void {
    let timer = this.#timers.get(name)
    if (timer === undefined) {
      timer = new Timer(this.#owner, this.#clock, () => this.#fire(name))
      this.#timers.set(name, timer)
    }
    timer.start(this.#clock.nowMs + delayMs + this.#owner.peer.worldMs(localMs))
  }

  stop(name: Name): void {
    const timer = this.#timers.get(name)
    if (timer !== undefined) timer.dueMs = never
  }
}

/** Ticks at fixed moments of its peer's clock while there is something to do, and sleeps in between. */
export class Ticker {
  readonly #owner: ReplicaCore
  readonly #everyMs: number
  readonly #work: () => boolean
  #awake = false

  /** @param work - returns whether to go on. */
  constructor(owner: ReplicaCore, everyMs: number, work: () => boolean) {
    this.#owner = owner
    this.#everyMs = everyMs
    this.#work = work
  }

  wake(): void {
    if (this.#awake) return
    this.#awake = true
    this.#next()
  }

  #next(): void {
    const nowMs = this.#owner.peer.localMs()
    this.#owner.later(this.#everyMs - (nowMs % this.#everyMs), () => {
      if (this.#work()) this.#next()
      else this.#awake = false
    })
  }
}
