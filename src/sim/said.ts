/**
 * What a peer said last in a topic to all at once: kept once for all its listeners, instead of once with each (voice.ts). Whoever asks when
 * it heard the peer last is told what it would have noted itself; what became of the message on its way is drawn then (network.ts).
 */
import type { PeerName } from '../ids.ts'
import type { Endpoint, Network } from './network.ts'

/** Of the newest that came: older ones matter only where these were lost, or are still on their way. */
const kept = 4

interface Saying {
  atMs: number
  nth: number
  bytes: number
  listeners: number
}

export class Said {
  /** Among those that were heard of in the topic. */
  readonly place: number
  /** When the last presence was said, however it was delivered. */
  presenceMs = Number.NEGATIVE_INFINITY
  /** Listeners that did not get the newest one, where it was said to all at once. */
  lost: readonly number[] = []
  #count = 0
  readonly #sayings: Saying[] = []
  #newest = -1

  constructor(place: number) {
    this.place = place
  }

  /** The number of the next message. */
  next(): number {
    return this.#count++
  }

  note(atMs: number, nth: number, bytes: number, listeners: number): void {
    this.#newest = (this.#newest + 1) % kept
    const saying = this.#sayings[this.#newest]
    if (saying === undefined) this.#sayings.push({ atMs, nth, bytes, listeners })
    else {
      saying.atMs = atMs
      saying.nth = nth
      saying.bytes = bytes
      saying.listeners = listeners
    }
  }

  /** When `to` heard the newest of these, or will, by the world's clock; −∞ where it heard none. @param sinceMs - since when it listens. */
  heardMs(network: Network, from: Endpoint, to: Endpoint, sinceMs: number): number {
    for (let back = 0; back < this.#sayings.length; back++) {
      const { atMs, nth, bytes, listeners } = this.#sayings[(this.#newest - back + kept) % kept]!
      if (atMs < sinceMs) break
      const delay = network.gossipDelayMs(from, to, bytes, listeners, nth)
      if (delay >= 0) return atMs + delay
    }
    return Number.NEGATIVE_INFINITY
  }
}

export function saidOf(said: Map<PeerName, Said>, peer: PeerName): Said {
  let known = said.get(peer)
  if (known === undefined) {
    known = new Said(said.size)
    said.set(peer, known)
  }
  return known
}
