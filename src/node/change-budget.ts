/**
 * How often one peer may have its place in a roster changed. Each change is an entry that all keep for good, and goes before the round that is
 * to be proposed; a number to enroll by, or a name, costs nothing to change. Is: pure, the time comes in.
 */
import type { PeerName } from '../ids.ts'
import { limits } from '../wire/limits.ts'

/** A newcomer makes one; a child whose delegates come and go, some. */
const burst = 10
const refillMs = 10_000

interface Asked {
  /** What it asked for last. */
  wish: string
  left: number
  atMs: number
}

export class ChangeBudget {
  readonly #asked = new Map<PeerName, Asked>()

  /** @param wish - the same one asked again costs nothing. */
  allows(peer: PeerName, wish: string, nowMs: number): boolean {
    const known = this.#asked.get(peer) ?? { wish: '', left: burst, atMs: nowMs }
    if (known.wish === wish) return true
    const left = Math.min(burst, known.left + (nowMs - known.atMs) / refillMs)
    if (left < 1) return false
    // Over the months there are many; whoever comes anew then has its burst.
    if (this.#asked.size >= 2 * limits.membersMax && !this.#asked.has(peer)) this.#asked.clear()
    this.#asked.set(peer, { wish, left: left - 1, atMs: nowMs })
    return true
  }
}
