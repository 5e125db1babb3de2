/**
 * Who holds each blob, and who waits until somebody who has it can send it: receivers that find every line taken are served in turn, as
 * lines become free and as others get the blob. That is what chunks from many holders come to (docs/protocol.md, "Blobs"), a blob at a time.
 *
 * Is not: a choice of whom to ask; that is the receiver's (pulling.ts). Time costs one happening a blob, however many wait.
 */
import type { Link } from '../ids.ts'
import type { Clock } from './clock.ts'

/** Asks once more. @returns when a line that it found taken is free, or null where it waits no longer. */
type Attempt = () => number | null

interface Waiting {
  attempts: Attempt[]
  /** When the next line is free, as far as anybody has found. */
  wakeMs: number
}

const nobody: readonly never[] = []

export class Swarm<Peer> {
  readonly #clock: Clock
  /** In the order in which they got it. */
  readonly #holders = new Map<Link, Peer[]>()
  readonly #waiting = new Map<Link, Waiting>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  holdersOf(link: Link): readonly Peer[] {
    return this.#holders.get(link) ?? nobody
  }

  add(link: Link, holder: Peer): void {
    const holders = this.#holders.get(link)
    if (holders === undefined) this.#holders.set(link, [holder])
    else holders.push(holder)
    const waiting = this.#waiting.get(link)
    if (waiting !== undefined) this.#serve(link, waiting)
  }

  /** Of an old round: nobody is asked for it any more. */
  forget(link: Link): void {
    this.#holders.delete(link)
  }

  /** @param freeMs - when the line that the receiver would rather use is free. */
  wait(link: Link, freeMs: number, attempt: Attempt): void {
    let waiting = this.#waiting.get(link)
    if (waiting === undefined) {
      waiting = { attempts: [], wakeMs: Number.POSITIVE_INFINITY }
      this.#waiting.set(link, waiting)
    }
    waiting.attempts.push(attempt)
    this.#wakeAt(link, waiting, freeMs)
  }

  /** One after another, until one of them has to wait on: then the others would, too. */
  #serve(link: Link, waiting: Waiting): void {
    for (let attempt = waiting.attempts.shift(); attempt !== undefined; attempt = waiting.attempts.shift()) {
      const freeMs = attempt()
      if (freeMs === null) continue
      waiting.attempts.push(attempt)
      this.#wakeAt(link, waiting, freeMs)
      return
    }
    if (this.#waiting.get(link) === waiting) this.#waiting.delete(link)
  }

  #wakeAt(link: Link, waiting: Waiting, atMs: number): void {
    if (waiting.wakeMs <= atMs) return
    waiting.wakeMs = atMs
    this.#clock.call(Math.max(0, atMs - this.#clock.nowMs), () => {
      // A line that was free sooner was found since.
      if (waiting.wakeMs !== atMs) return
      waiting.wakeMs = Number.POSITIVE_INFINITY
      this.#serve(link, waiting)
    })
  }
}
