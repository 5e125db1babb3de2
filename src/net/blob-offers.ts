/**
 * What a holder offers to whom, for one blob: each chunk to one receiver, until it is clear that the others will not get it from there
 * (docs/protocol.md, "Blobs"). Receivers cannot see each other's questions; the holder sees them all.
 *
 * Is: pure; what it remembers is one promise a chunk. Is not: a refusal. Any chunk that is asked for is given.
 */
import type { PeerName } from '../ids.ts'
import { hasBit } from '../wire/bitmap.ts'

interface Promised {
  peer: PeerName
  ms: number
  given: boolean
}

/** An offer that was not taken up is free again. */
const offeredMs = 10_000
/** Whoever got a chunk has had the time to pass it on. Not shorter: a receiver that waits in vain asks without an offer. */
const givenMs = 60_000

export class BlobOffers {
  readonly #chunkCount: number
  readonly #promised = new Map<number, Promised>()
  /** Where the next offer begins: receivers get different stretches. */
  #place = 0

  constructor(chunkCount: number) {
    this.#chunkCount = chunkCount
  }

  /** @param held - null: every chunk. @param lacks - null: the asker lacks all. @returns at most `most` chunks, and notes them as promised. */
  offer(asker: PeerName, held: Uint8Array | null, lacks: Uint8Array | null, most: number, nowMs: number): number[] {
    const offers: number[] = []
    for (let step = 0; step < this.#chunkCount && offers.length < most; step++) {
      const chunk = (this.#place + step) % this.#chunkCount
      if ((held !== null && !hasBit(held, chunk)) || (lacks !== null && !hasBit(lacks, chunk))) continue
      if (this.#isPromised(chunk, asker, nowMs)) continue
      offers.push(chunk)
      this.#promised.set(chunk, { peer: asker, ms: nowMs, given: false })
    }
    const last = offers.at(-1)
    if (last !== undefined) this.#place = (last + 1) % this.#chunkCount
    return offers
  }

  /** `peer` has asked for the chunk, and is given it. The first to have it is to pass it on. */
  gave(peer: PeerName, chunk: number, nowMs: number): void {
    if (!this.#isPromised(chunk, peer, nowMs)) this.#promised.set(chunk, { peer, ms: nowMs, given: true })
  }

  /** A peer that is gone passes nothing on. */
  forget(peer: PeerName): void {
    for (const [chunk, promised] of this.#promised) if (promised.peer === peer) this.#promised.delete(chunk)
  }

  #isPromised(chunk: number, asker: PeerName, nowMs: number): boolean {
    const promised = this.#promised.get(chunk)
    if (promised === undefined || promised.peer === asker) return false
    return nowMs - promised.ms < (promised.given ? givenMs : offeredMs)
  }
}
