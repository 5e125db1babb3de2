/** Named timers of one federation: a name has one timer at most, and starting it again moves it. */

/** Longer ones Node fires at once: an election's may be twice as long as what a charter can have. */
const timerMsMax = 2 ** 31 - 1
/** A timer that is later than this was held up by the process, not by its length. */
const lateMs = 100
/** Time to read what came in meanwhile; given once and again, for a process under load may be held up twice. */
const graceMs = 100
const gracesMax = 3

export class Timers<Name extends string> {
  readonly #running = new Map<Name, NodeJS.Timeout>()
  readonly #fire: (name: Name) => void

  constructor(fire: (name: Name) => void) {
    this.#fire = fire
  }

  /**
   * @param listens - it stands for somebody's silence. Where the process stood still, or its cores were busy with others, heartbeats
   *   that came in time lie unread in the sockets, and Node runs timers before it reads: those are read first.
   */
  start(name: Name, ms: number, listens = false): void {
    this.#start(name, ms, listens ? gracesMax : 0)
  }

  #start(name: Name, wantedMs: number, graces: number): void {
    this.stop(name)
    const ms = Math.min(wantedMs, timerMsMax)
    const dueMs = performance.now() + ms
    const timer = setTimeout(() => {
      this.#running.delete(name)
      if (graces > 0 && performance.now() - dueMs > lateMs) this.#start(name, graceMs, graces - 1)
      else this.#fire(name)
    }, ms)
    this.#running.set(name, timer)
  }

  stop(name: Name): void {
    clearTimeout(this.#running.get(name))
    this.#running.delete(name)
  }

  stopAll(): void {
    for (const name of [...this.#running.keys()]) this.stop(name)
  }
}
