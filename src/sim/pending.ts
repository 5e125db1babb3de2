/** What a learner computes outside virtual time (experiment/engine-learner.ts), until the clock goes on. */
export class Pending {
  readonly #isStopped: () => boolean
  readonly #open: Promise<void>[] = []

  /** @param isStopped - then failures are those of who was told to stop. */
  constructor(isStopped: () => boolean) {
    this.#isStopped = isStopped
  }

  /** Calls `then` at once, or when the result is there. */
  wait<Result>(result: Result | Promise<Result>, then: (result: Result) => void): void {
    if (result instanceof Promise)
      this.#open.push(
        result.then(then, error => {
          if (!this.#isStopped()) throw error
        })
      )
    else then(result)
  }

  /** Asked at every event: to await nothing costs a simulation of millions of them its speed. */
  get isOpen(): boolean {
    return this.#open.length > 0
  }

  async settled(): Promise<void> {
    while (this.isOpen) await this.#open.shift()
  }
}
