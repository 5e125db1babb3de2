/**
 * Gossip topics: one a federation, metadata only (docs/protocol.md, "Messages").
 *
 * Each message passes a validator before it is passed on: `ignore` for what an honest peer may send, `reject` for what costs its
 * sender score. A sender past its budget is ignored.
 */
import { type GossipSub, TopicValidatorResult } from '@libp2p/gossipsub'
import type { PeerName } from '../ids.ts'
import { limits } from '../wire/limits.ts'
import type { Host } from './host.ts'

export type Verdict = 'accept' | 'ignore' | 'reject'
type Validator = (from: PeerName, bytes: Uint8Array) => Verdict

const verdicts = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject
} as const

/** A token bucket a sender and topic: bursts of a new aggregator pass, floods do not. */
class Budget {
  #tokens: number = limits.gossipBurst
  #at = performance.now()

  take(): boolean {
    const now = performance.now()
    this.#tokens = Math.min(limits.gossipBurst, this.#tokens + ((now - this.#at) / 1000) * limits.gossipPerSecond)
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

export class Gossip {
  /** Messages by what became of them. */
  readonly counts = { accept: 0, ignore: 0, reject: 0, overBudget: 0 }
  readonly #pubsub: GossipSub
  readonly #listeners = new Map<string, (from: PeerName, bytes: Uint8Array) => void>()
  readonly #budgets = new Map<string, Budget>()

  constructor(host: Host) {
    this.#pubsub = host.libp2p.services.pubsub as GossipSub
    this.#pubsub.addEventListener('message', ({ detail }) => {
      if (detail.type === 'signed' && detail.from.toString() !== host.peer)
        this.#listeners.get(detail.topic)?.(detail.from.toString(), detail.data)
    })
  }

  join(topic: string, validator: Validator, onMessage: (from: PeerName, bytes: Uint8Array) => void): void {
    this.#listeners.set(topic, onMessage)
    this.#pubsub.topicValidators.set(topic, (_relay, message) => verdicts[this.#judge(topic, message, validator)])
    this.#pubsub.subscribe(topic)
  }

  leave(topic: string): void {
    this.#pubsub.unsubscribe(topic)
    this.#pubsub.topicValidators.delete(topic)
    this.#listeners.delete(topic)
  }

  /** Peers that follow the topic, as far as this host is connected to them. */
  subscribers(topic: string): PeerName[] {
    return this.#pubsub.getSubscribers(topic).map(String)
  }

  /** Says it to whoever listens; lost where nobody does. */
  async publish(topic: string, bytes: Uint8Array): Promise<void> {
    try {
      await this.#pubsub.publish(topic, bytes)
    } catch {
      // Not started, or nobody there: everything on gossip is said again.
    }
  }

  #judge(
    topic: string,
    message: { type: string; from?: { toString(): string }; data: Uint8Array },
    validator: Validator
  ): Verdict {
    const verdict = this.#verdictOf(topic, message, validator)
    this.counts[verdict]++
    return verdict
  }

  #verdictOf(
    topic: string,
    message: { type: string; from?: { toString(): string }; data: Uint8Array },
    validator: Validator
  ): Verdict {
    // [REJECT] StrictSign: whoever sends unsigned or oversize messages runs other software.
    if (message.type !== 'signed' || message.from === undefined || message.data.length > limits.gossipBytesMax) return 'reject'
    const from = message.from.toString()
    const verdict = validator(from, message.data)
    if (verdict !== 'accept') return verdict
    const key = `${topic} ${from}`
    const budget = this.#budgets.get(key) ?? new Budget()
    if (this.#budgets.size > limits.membersMax * limits.depthMax) this.#budgets.clear()
    this.#budgets.set(key, budget)
    if (budget.take()) return 'accept'
    this.counts.overBudget++
    return 'ignore'
  }
}
