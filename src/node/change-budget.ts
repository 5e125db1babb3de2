/**
 * How often one peer may have its place in a roster changed. Each change is an entry that all keep for good, and goes before the round that is
 * to be proposed; a number to enroll by, or a name, costs nothing to change. Is: pure, the time comes in.
 */
import type { PeerName } from '../ids.ts'
import { TokenBucket } from '../token-bucket.ts'
import { limits } from '../wire/limits.ts'

/** A newcomer makes one; a child whose delegates come and go, some. */
const burst = 10
const perSecond = 0.1

interface Asked {
  /** What it asked for last. */
  wish: string
  budget: TokenBucket
}

export class ChangeBudget {
  readonly #asked = new Map<PeerName, Asked>()

  /** @param wish - the same one asked again costs nothing. */
  allows(peer: PeerName, wish: string, nowMs: number): boolean {
    const { budget, wish: last } = this.#asked.get(peer) ?? { wish: '', budget: new TokenBucket(burst, perSecond, nowMs) }
    if (last === wish) return true
    if (!budget.take(nowMs)) return false
    // Over the months there are many; whoever comes anew then has its burst.
    if (this.#asked.size >= 2 * limits.membersMax && !this.#asked.has(peer)) this.#asked.clear()
    this.#asked.set(peer, { wish, budget })
    return true
  }
}
