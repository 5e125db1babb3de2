/** Named timers of one federation: a name has one timer at most, and starting it again moves it. */
export class Timers {
  readonly #running = new Map<string, NodeJS.Timeout>()
  readonly #fire: (name: string) => void

  constructor(fire: (name: string) => void) {
    this.#fire = fire
  }

  start(name: string, ms: number): void {
    this.stop(name)
    const timer = setTimeout(() => {
      this.#running.delete(name)
      this.#fire(name)
    }, ms)
    this.#running.set(name, timer)
  }

  stop(name: string): void {
    clearTimeout(this.#running.get(name))
    this.#running.delete(name)
  }

  stopAll(): void {
    for (const name of [...this.#running.keys()]) this.stop(name)
  }
}
