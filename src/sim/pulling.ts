/** A peer's blobs, and how it comes by those of others (net/blob-exchange.ts): from whoever has them and can send. */
import type { Link, PeerName } from '../ids.ts'
import type { Random } from '../math/random.ts'
import type { Blob, PeerCore, Services, Topic } from './core.ts'
import { blobLink } from './mixing.ts'

/** A holder that does not answer is given up after so long. */
const dialTimeoutMs = 3_000
/** Rounds whose blobs are kept; more than are ever asked for again. */
const roundsKept = 5
/** Named holders that a receiver weighs at a time: the likeliest come first. */
const namedMax = 6
/** Holders besides the named ones that a receiver knows of and weighs. */
const swarmSample = 4

interface Pull {
  link: Link
  named: ReadonlySet<PeerName>
  topic: Topic
  round: number
  tried: Set<PeerName>
  incarnation: number
}

export class Pulling {
  readonly #peer: PeerCore
  readonly #services: Services
  readonly #random: Random
  readonly #open = new Map<Link, ((got: boolean) => void)[]>()
  #sweptRound = 0

  constructor(peer: PeerCore, services: Services, random: Random) {
    this.#peer = peer
    this.#services = services
    this.#random = random
  }

  put(model: Float32Array, round: number): Link {
    const link = blobLink(model)
    this.#hold(link, { model, round })
    return link
  }

  pull(link: Link, holders: readonly PeerName[], topic: Topic, round: number, done: (got: boolean) => void): void {
    const { blobs, incarnation, name } = this.#peer
    if (blobs.has(link)) {
      this.#services.clock.call(0, () => {
        if (this.#peer.incarnation === incarnation) done(blobs.has(link))
      })
      return
    }
    const others = this.#open.get(link)
    if (others !== undefined) {
      others.push(done)
      return
    }
    this.#open.set(link, [done])
    this.#begin({ link, named: new Set(holders), topic, round, tried: new Set([name]), incarnation })
  }

  /** Its peer has died. */
  end(): void {
    this.#open.clear()
  }

  #begin(pull: Pull): void {
    const freeMs = this.#from(pull)
    if (freeMs !== null) this.#services.swarm.wait(pull.link, freeMs, () => this.#from(pull))
  }

  /** From one holder; from the others when that one fails. @returns when one is free, where all that have it are busy. */
  #from(pull: Pull): number | null {
    const { network, clock } = this.#services
    const [peer, { link, tried }] = [this.#peer, pull]
    if (peer.incarnation !== pull.incarnation) return null
    const source = this.#holderOf(pull)
    if (source === null) {
      this.#pulled(link, false)
      return null
    }
    const again = () => this.#begin(pull)
    if (this.#gives(source, link)) {
      const freeMs = network.freeMs(source, peer)
      if (freeMs > clock.nowMs) return freeMs
      tried.add(source.name)
      this.#transfer(source, pull, again)
      return null
    }
    tried.add(source.name)
    const silent = !network.reaches(peer, source) || !network.reaches(source, peer)
    clock.call(silent ? dialTimeoutMs : network.roundTripMs(peer, source), again)
    return null
  }

  #transfer(source: PeerCore, { link, topic, round }: Pull, again: () => void): void {
    const { network, blobBytes, observer } = this.#services
    network.transfer(source, this.#peer, blobBytes, topic.level, whole => {
      const blob = source.blobs.get(link)
      if (!whole || blob === undefined) {
        again()
        return
      }
      observer.moved(this.#peer, link)
      this.#hold(link, { model: blob.model, round })
      this.#pulled(link, true)
    })
  }

  /** Whether `source` has it and is heard here. */
  #gives(source: PeerCore, link: Link): boolean {
    const { network } = this.#services
    return source.up && source.blobs.has(link) && network.reaches(this.#peer, source) && network.reaches(source, this.#peer)
  }

  /**
   * Of those that have it the one whose line is free the soonest: the likeliest of those that are free now, where there is any. Where none
   * has it the likeliest, who has to say so. Null: all were asked.
   */
  #holderOf({ link, named, tried }: Pull): PeerCore | null {
    const { peers, swarm, network, clock } = this.#services
    let [best, bestMs, first]: [PeerCore | null, number, PeerCore | null] = [null, 0, null]
    /** @returns whether there can be no better. */
    const weigh = (peer: PeerCore): boolean => {
      if (tried.has(peer.name)) return false
      first ??= peer
      if (!this.#gives(peer, link)) return false
      const freeMs = network.freeMs(peer, this.#peer)
      if (best === null || freeMs < bestMs) [best, bestMs] = [peer, freeMs]
      return freeMs <= clock.nowMs
    }
    let left = namedMax
    for (const name of named) {
      if (left === 0) break
      const peer = tried.has(name) ? undefined : peers.get(name)
      if (peer === undefined) continue
      if (weigh(peer)) return peer
      left--
    }
    const known = swarm.holdersOf(link)
    for (let count = 0; count < swarmSample && known.length > 0; count++) {
      const peer = known[this.#random.below(known.length)]!
      if (weigh(peer)) return peer
    }
    return best ?? first
  }

  #pulled(link: Link, got: boolean): void {
    const waiting = this.#open.get(link) ?? []
    this.#open.delete(link)
    for (const done of waiting) done(got)
  }

  #hold(link: Link, blob: Blob): void {
    const { blobs } = this.#peer
    const isNew = !blobs.has(link)
    blobs.set(link, blob)
    if (isNew) this.#services.swarm.add(link, this.#peer)
  }

  /** Blobs of old rounds go. They lie about in the order of their rounds: one that came late goes with those that it came among. */
  sweep(round: number): void {
    if (round <= this.#sweptRound) return
    this.#sweptRound = round
    const { blobs } = this.#peer
    for (const [link, blob] of blobs) {
      if (blob.round >= round - roundsKept) break
      blobs.delete(link)
      this.#services.swarm.forget(link)
    }
  }
}
