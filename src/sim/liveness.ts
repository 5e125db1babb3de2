/**
 * I8: with a majority of voters up and the network whole, a round is certified within a deadline and two election timeouts.
 *
 * "Within" counts from the last certified round, or from the moment at which the condition began to hold. Added to the bound is what
 * the protocol has no say in: a parent's timeout where there is a parent, the bound of the slowest child where there are children, training and transfer of the slowest member, the grace that
 * a restarted peer takes to look for what it missed, and a deadline's extension where members came too late for it.
 */
import type { FederationId } from '../ids.ts'
import type { Topic } from './core.ts'
import type { Violation } from './invariants.ts'

export interface LivenessFacts {
  nowMs: () => number
  /** No fault of the network or of a voter in force, and a majority of the voters and `minMembers` members up. */
  quiet: (topic: Topic) => boolean
  finished: (topic: Topic) => boolean
  /** Training and aggregation of the slowest member, and all transfers of a round, in milliseconds. */
  slowestMs: (topic: Topic) => number
  report: (invariant: Violation['invariant'], detail: string) => void
}

interface Watch {
  topic: Topic
  /** Since when quiet; null: it is not. */
  sinceMs: number | null
  lastRoundMs: number
  reported: boolean
}

export class Liveness {
  readonly #facts: LivenessFacts
  readonly #watches = new Map<FederationId, Watch>()
  readonly #bounds = new Map<FederationId, number>()
  /** Longest time from quiet, or from the round before, to a certified round. */
  worstMs = 0

  constructor(topics: Iterable<Topic>, facts: LivenessFacts) {
    this.#facts = facts
    for (const topic of topics) this.#watches.set(topic.id, { topic, sinceMs: null, lastRoundMs: 0, reported: false })
  }

  certified(topic: Topic): void {
    const watch = this.#watches.get(topic.id)!
    const now = this.#facts.nowMs()
    if (watch.sinceMs !== null) this.worstMs = Math.max(this.worstMs, now - Math.max(watch.sinceMs, watch.lastRoundMs))
    watch.lastRoundMs = now
  }

  /** Bound for one round of `topic`, in milliseconds. */
  boundMs(topic: Topic): number {
    let bound = this.#bounds.get(topic.id)
    if (bound === undefined) {
      bound = this.#boundOf(topic)
      this.#bounds.set(topic.id, bound)
    }
    return bound
  }

  #boundOf(topic: Topic): number {
    const { charter, id } = topic
    const { deadlineMs, electionTimeoutMs, parentTimeoutMs, startTimeoutMs } = charter.timings
    const parent = charter.parent === null ? 0 : parentTimeoutMs
    let children = 0
    for (const { topic: other } of this.#watches.values())
      if (other.charter.parent === id) children = Math.max(children, this.boundMs(other))
    return deadlineMs + 2 * electionTimeoutMs + parent + this.#facts.slowestMs(topic) + startTimeoutMs + children
  }

  /** Now and then: conditions are looked at anew. */
  look(): void {
    const now = this.#facts.nowMs()
    for (const watch of this.#watches.values()) {
      if (this.#facts.finished(watch.topic) || !this.#facts.quiet(watch.topic)) {
        watch.sinceMs = null
        continue
      }
      watch.sinceMs ??= now
      const begin = Math.max(watch.sinceMs, watch.lastRoundMs)
      if (now - begin <= this.boundMs(watch.topic) || watch.reported) continue
      watch.reported = true
      this.#facts.report(
        'I8',
        `${watch.topic.charter.path}: no round for ${((now - begin) / 1000).toFixed(1)} s, at most ${(this.boundMs(watch.topic) / 1000).toFixed(1)} s are allowed`
      )
    }
  }
}
