/**
 * Gossip topics: one a federation, metadata only (docs/protocol.md, "Messages").
 *
 * Each message passes a validator before it is passed on: `ignore` for what an honest peer may send, `reject` for what costs its
 * sender score. A sender past its budget is ignored.
 */
import { type GossipSub, type Message, TopicValidatorResult } from '@libp2p/gossipsub'
import type { PeerName } from '../ids.ts'
import { TokenBucket } from '../token-bucket.ts'
import { limits } from '../wire/limits.ts'
import { keepGossipStreams } from './gossip-streams.ts'
import type { Host } from './host.ts'

export type Verdict = 'accept' | 'ignore' | 'reject'
type Validator = (from: PeerName, bytes: Uint8Array) => Verdict

const verdicts = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject
} as const

/**
 * Which of a sender's numbered messages were heard: the newest, and those of the last `gossipWindow` before it (as IPsec has it, RFC 4303
 * §3.4.3). gossipsub forgets what it has seen after two minutes, and signatures do not age: whoever has listened could say a dead
 * member's presence again for as long as it likes, or a living one's until its budget is spent and itself is not heard.
 */
class Heard {
  #newest: bigint | null = null
  /** Bit b: the b-th before the newest. */
  #bits = 0n

  /** @returns false for what was heard before, or may have been. */
  isNew(number: bigint): boolean {
    const ahead = this.#newest === null ? gossipWindow : number - this.#newest
    if (ahead > 0n) {
      this.#bits = ahead >= gossipWindow ? 1n : BigInt.asUintN(limits.gossipWindow, (this.#bits << ahead) | 1n)
      this.#newest = number
      return true
    }
    const bit = -ahead >= gossipWindow ? 0n : 1n << -ahead
    if (bit === 0n || (this.#bits & bit) !== 0n) return false
    this.#bits |= bit
    return true
  }
}

const gossipWindow = BigInt(limits.gossipWindow)

interface Sender {
  /** Bursts of a new aggregator pass, floods do not. */
  budget: TokenBucket
  heard: Heard
}

/**
 * gossipsub scores only topics that it is given the weights of. Nothing counts but what was rejected: nine such messages, and nothing is taken from
 * that neighbour any more; a hundredth is forgotten a second.
 */
const scores = {
  topicWeight: 1,
  timeInMeshWeight: 0,
  timeInMeshQuantum: 1,
  timeInMeshCap: 1,
  firstMessageDeliveriesWeight: 0,
  firstMessageDeliveriesDecay: 0.5,
  firstMessageDeliveriesCap: 1,
  meshMessageDeliveriesWeight: 0,
  meshMessageDeliveriesDecay: 0.5,
  meshMessageDeliveriesCap: 1,
  meshMessageDeliveriesThreshold: 1,
  meshMessageDeliveriesWindow: 0,
  meshMessageDeliveriesActivation: 1000,
  meshFailurePenaltyWeight: 0,
  meshFailurePenaltyDecay: 0.5,
  invalidMessageDeliveriesWeight: -1,
  invalidMessageDeliveriesDecay: 0.99
}

interface Scored {
  opts: { scoreParams: { topics: Record<string, typeof scores> } }
}

export class Gossip {
  /** Messages by what became of them. */
  readonly counts = { accept: 0, ignore: 0, reject: 0, overBudget: 0, again: 0 }
  readonly #pubsub: GossipSub
  /** The weights by topic, which gossipsub reads anew for each score. Its type leaves out its options, and they take topics before there are any. */
  readonly #scored: Record<string, typeof scores>
  readonly #listeners = new Map<string, (from: PeerName, bytes: Uint8Array) => void>()
  /** By topic. */
  readonly #senders = new Map<string, Map<PeerName, Sender>>()

  constructor(host: Host) {
    this.#pubsub = host.libp2p.services.pubsub as GossipSub
    keepGossipStreams(host, this.#pubsub)
    this.#scored = (this.#pubsub as unknown as Scored).opts.scoreParams.topics
    this.#pubsub.addEventListener('message', ({ detail }) => {
      if (detail.type === 'signed' && detail.from.toString() !== host.peer)
        this.#listeners.get(detail.topic)?.(detail.from.toString(), detail.data)
    })
    // Its numbers begin with the time at which its process began: after a clock that was set back they are lower. Who connects lives, and is believed anew.
    host.libp2p.addEventListener('peer:connect', ({ detail }) => {
      for (const senders of this.#senders.values()) {
        const sender = senders.get(detail.toString())
        if (sender !== undefined) sender.heard = new Heard()
      }
    })
  }

  join(topic: string, validator: Validator, onMessage: (from: PeerName, bytes: Uint8Array) => void): void {
    this.#listeners.set(topic, onMessage)
    this.#pubsub.topicValidators.set(topic, (_relay, message) => verdicts[this.#judge(topic, message, validator)])
    this.#scored[topic] = scores
    this.#pubsub.subscribe(topic)
  }

  leave(topic: string): void {
    this.#pubsub.unsubscribe(topic)
    this.#pubsub.topicValidators.delete(topic)
    this.#listeners.delete(topic)
    this.#senders.delete(topic)
    delete this.#scored[topic]
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

  #judge(topic: string, message: Message, validator: Validator): Verdict {
    const verdict = this.#verdictOf(topic, message, validator)
    this.counts[verdict]++
    return verdict
  }

  #verdictOf(topic: string, message: Message, validator: Validator): Verdict {
    // [REJECT] StrictSign: whoever sends unsigned or oversize messages runs other software.
    if (message.type !== 'signed' || message.data.length > limits.gossipBytesMax) return 'reject'
    const from = message.from.toString()
    const verdict = validator(from, message.data)
    if (verdict !== 'accept') return verdict
    const { budget, heard } = this.#senderOf(topic, from)
    // [IGNORE] A neighbour that has it from another may bring it once more.
    if (!heard.isNew(message.sequenceNumber)) {
      this.counts.again++
      return 'ignore'
    }
    if (budget.take(performance.now())) return 'accept'
    this.counts.overBudget++
    return 'ignore'
  }

  /** Validators let members of a roster through alone; a roster changes over the months. */
  #senderOf(topic: string, from: PeerName): Sender {
    const senders = this.#senders.get(topic) ?? new Map<PeerName, Sender>()
    this.#senders.set(topic, senders)
    const known = senders.get(from)
    if (known !== undefined) return known
    if (senders.size >= 2 * limits.membersMax) senders.clear()
    const sender = {
      budget: new TokenBucket(limits.gossipBurst, limits.gossipPerSecond, performance.now()),
      heard: new Heard()
    }
    senders.set(from, sender)
    return sender
  }
}
