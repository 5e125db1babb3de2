/**
 * A limit of bytes a second, shared in turns: whoever waits is served one slice, then the next one is, so that a peer with many
 * questions does not crowd out one with few.
 */
import type { PeerName } from '../ids.ts'

/** What may be sent at once after a pause. */
const burstSeconds = 0.02

export class Bandwidth {
  readonly #bytesPerSecond: number
  /** Who waits, in turn; each with its slices in order. */
  readonly #waiting = new Map<PeerName, { bytes: number; go: () => void }[]>()
  #allowance = 0
  #filledMs = performance.now()
  #timer: NodeJS.Timeout | null = null

  /** @param bytesPerSecond - 0: no limit. */
  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Resolves when `bytes` may be sent to `peer`. */
  take(peer: PeerName, bytes: number): Promise<void> {
    if (this.#bytesPerSecond === 0) return Promise.resolve()
    return new Promise(resolve => {
      const queue = this.#waiting.get(peer)
      if (queue === undefined) this.#waiting.set(peer, [{ bytes, go: resolve }])
      else queue.push({ bytes, go: resolve })
      this.#serve()
    })
  }

  #serve(): void {
    if (this.#timer !== null) return
    const now = performance.now()
    const burst = this.#bytesPerSecond * burstSeconds
    this.#allowance = Math.min(burst, this.#allowance + ((now - this.#filledMs) / 1000) * this.#bytesPerSecond)
    this.#filledMs = now
    // A slice may be larger than the burst: it goes as soon as nothing is owed, and what it took is owed by the next.
    while (this.#allowance >= 0) {
      const next = this.#waiting.entries().next()
      if (next.done === true) return
      const [peer, queue] = next.value
      const { bytes, go } = queue.shift()!
      this.#waiting.delete(peer)
      if (queue.length > 0) this.#waiting.set(peer, queue)
      this.#allowance -= bytes
      go()
    }
    const waitMs = (-this.#allowance / this.#bytesPerSecond) * 1000
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#serve()
    }, waitMs)
    this.#timer.unref()
  }
}
