/**
 * Which chunk is asked of whom next, for one blob (docs/protocol.md, "Blobs").
 *
 * Is: pure; time comes in as `nowMs`, chance as a seed. Rarest first; among equally rare ones a random order of one's own, so that
 * receivers that begin together ask for different chunks. A holder of the whole is asked for what it offers while companions (others
 * that are still receiving) may bring the rest: so it uploads about one copy, not one a receiver. Once all that is missing has been
 * asked for, what waits long is asked of a second holder.
 * Is not: a judge of bytes, nor a connection.
 */
import { Random } from '../math/random.ts'
import type { PeerName } from '../ids.ts'
import { clearBit, countBits, hasBit } from '../wire/bitmap.ts'
import { limits } from '../wire/limits.ts'

export interface Ask {
  peer: PeerName
  chunk: number
}

interface Holder {
  held: Uint8Array
  heldCount: number
  /** In the order that it would like them to be taken; only what is still lacking. */
  offers: number[]
  /** Chunk → when it was asked for. */
  asked: Map<number, number>
  /** How many may be outstanding: grows while answers are quick, shrinks while they are slow. */
  window: number
  /** Smoothed time from asking to arrival; null before the first. */
  latencyMs: number | null
  /** When it last had something new. */
  progressMs: number
}

/** A quick holder is asked for more at once, a slow one for less: no queue of seconds builds up at it. */
const latencyMsQuick = 600
const latencyMsSlow = 2_000
const windowAtFirst = 4
/** Offers beyond the window: they last until the next answer. */
const offersAhead = 2
/** So long companions are trusted to bring what the whole holder has given them: as long as three answers take, within these bounds. */
const patienceMsMin = 2_000
const patienceMsMax = 15_000
const patienceAnswers = 3
/** A chunk is asked of a second holder when the first has had so many times as long as the second takes, and this besides. */
const overdueAnswers = 3
const overdueMs = 250
const askedTwice = 2

export class BlobScheduler {
  readonly #chunkCount: number
  readonly #holders = new Map<PeerName, Holder>()
  /** Chunks that are not here. */
  readonly #missing: Set<number>
  /** Of these, the ones that nobody is asked for. */
  readonly #unasked: Set<number>
  /** How many holders have a chunk. */
  readonly #holderCount: Uint16Array
  /** Place of a chunk in this receiver's own random order. */
  readonly #rank: Uint32Array
  #outstanding = 0
  #arrivedMs: number

  constructor(chunkCount: number, missing: Iterable<number>, seed: string, nowMs: number) {
    this.#chunkCount = chunkCount
    this.#missing = new Set(missing)
    this.#unasked = new Set(this.#missing)
    this.#holderCount = new Uint16Array(chunkCount)
    this.#rank = shuffled(chunkCount, seed)
    this.#arrivedMs = nowMs
  }

  get done(): boolean {
    return this.#missing.size === 0
  }
  /** Asked for and not here yet, over all holders. */
  get outstanding(): number {
    return this.#outstanding
  }
  get unasked(): ReadonlySet<number> {
    return this.#unasked
  }

  /** A holder that is being asked for the first time: it may turn out to be a companion. */
  expect(peer: PeerName, nowMs: number): void {
    if (!this.#holders.has(peer)) this.#holders.set(peer, newHolder(nowMs))
  }

  /** What `peer` holds, and what it offers. */
  learn(peer: PeerName, held: Uint8Array, offers: number[], nowMs: number): void {
    const known = this.#holders.get(peer)
    const holder = known ?? newHolder(nowMs)
    const heldCount = countBits(held, this.#chunkCount)
    for (let chunk = 0; chunk < this.#chunkCount; chunk++)
      this.#holderCount[chunk]! += Number(hasBit(held, chunk)) - Number(hasBit(holder.held, chunk))
    if (heldCount > holder.heldCount) holder.progressMs = nowMs
    holder.held = held
    holder.heldCount = heldCount
    holder.offers = [...new Set([...holder.offers, ...offers])].filter(chunk => this.#unasked.has(chunk))
    this.#holders.set(peer, holder)
  }

  /** A holder that is gone: what it was asked for may be asked of others. */
  drop(peer: PeerName): void {
    const holder = this.#holders.get(peer)
    if (holder === undefined) return
    this.#holders.delete(peer)
    for (let chunk = 0; chunk < this.#chunkCount; chunk++) if (hasBit(holder.held, chunk)) this.#holderCount[chunk]!--
    for (const chunk of holder.asked.keys()) this.#takeBack(chunk)
    this.#outstanding -= holder.asked.size
  }

  /** `peer` will not give this chunk after all. */
  refused(peer: PeerName, chunk: number): void {
    const holder = this.#holders.get(peer)
    if (holder === undefined || !holder.asked.delete(chunk)) return
    this.#outstanding--
    if (hasBit(holder.held, chunk)) {
      holder.held = holder.held.slice()
      clearBit(holder.held, chunk)
      holder.heldCount--
      this.#holderCount[chunk]!--
      // It has lost something: no companion, until it has something new.
      holder.progressMs = Number.NEGATIVE_INFINITY
    }
    this.#takeBack(chunk)
  }

  /** @returns false if another holder was quicker. */
  arrived(peer: PeerName, chunk: number, nowMs: number): boolean {
    const holder = this.#holders.get(peer)
    const askedMs = holder?.asked.get(chunk)
    if (holder !== undefined && askedMs !== undefined) {
      holder.asked.delete(chunk)
      this.#outstanding--
      const latencyMs = nowMs - askedMs
      holder.latencyMs = holder.latencyMs === null ? latencyMs : 0.7 * holder.latencyMs + 0.3 * latencyMs
      if (latencyMs < latencyMsQuick) holder.window = Math.min(limits.blobChunksPerHolderMax, holder.window + 1)
      else if (latencyMs > latencyMsSlow) holder.window = Math.max(1, holder.window - 1)
    }
    this.#arrivedMs = nowMs
    this.#unasked.delete(chunk)
    return this.#missing.delete(chunk)
  }

  /** How many more chunks `peer` might be asked for soon: what its offers should last for. */
  wanted(peer: PeerName): number {
    const holder = this.#holders.get(peer)
    if (holder === undefined) return windowAtFirst
    return Math.max(0, holder.window + offersAhead - holder.offers.length)
  }

  /** How many chunks `peer` is known to hold. */
  heldCount(peer: PeerName): number {
    return this.#holders.get(peer)?.heldCount ?? 0
  }

  /** Asks to send now; they count as sent. One a holder in turn, the least busy first. */
  next(nowMs: number): Ask[] {
    const asks: Ask[] = []
    const open = new Set(this.#holders.keys())
    while (open.size > 0 && this.#outstanding < limits.blobChunksOutstandingMax) {
      const [peer, holder] = this.#leastBusy(open)
      const chunk = holder.asked.size < holder.window ? this.#choose(holder, nowMs) : null
      if (chunk === null) {
        open.delete(peer)
        continue
      }
      holder.asked.set(chunk, nowMs)
      holder.offers = holder.offers.filter(offered => offered !== chunk)
      this.#unasked.delete(chunk)
      this.#outstanding++
      asks.push({ peer, chunk })
    }
    return asks
  }

  #leastBusy(open: ReadonlySet<PeerName>): [PeerName, Holder] {
    let least: [PeerName, Holder] | null = null
    for (const peer of open) {
      const holder = this.#holders.get(peer)!
      if (least === null || holder.asked.size < least[1].asked.size) least = [peer, holder]
    }
    return least!
  }

  #choose(holder: Holder, nowMs: number): number | null {
    const offered = holder.offers.find(chunk => this.#unasked.has(chunk))
    if (offered !== undefined) return offered
    const waits = this.#isWhole(holder) && nowMs - this.#arrivedMs < this.#patienceMs() && this.#hasCompanions(nowMs)
    return waits ? null : (this.#rarest(holder) ?? this.#overdue(holder, nowMs))
  }

  #rarest(holder: Holder): number | null {
    let best: number | null = null
    for (const chunk of this.#unasked) {
      if (!hasBit(holder.held, chunk)) continue
      if (best === null || this.#isBefore(chunk, best)) best = chunk
    }
    return best
  }

  #isBefore(chunk: number, other: number): boolean {
    const difference = this.#holderCount[chunk]! - this.#holderCount[other]!
    return difference === 0 ? this.#rank[chunk]! < this.#rank[other]! : difference < 0
  }

  /** What another holder has been asked for long ago, the longest first. Only when nothing is unasked. */
  #overdue(holder: Holder, nowMs: number): number | null {
    if (this.#unasked.size > 0) return null
    const least = overdueAnswers * (holder.latencyMs ?? latencyMsQuick) + overdueMs
    let oldest: { chunk: number; askedMs: number } | null = null
    for (const other of this.#holders.values()) {
      if (other === holder) continue
      for (const [chunk, askedMs] of other.asked) {
        if (!this.#missing.has(chunk) || !hasBit(holder.held, chunk) || nowMs - askedMs < least) continue
        if (this.#timesAsked(chunk) >= askedTwice) continue
        if (oldest === null || askedMs < oldest.askedMs) oldest = { chunk, askedMs }
      }
    }
    return oldest?.chunk ?? null
  }

  #timesAsked(chunk: number): number {
    let times = 0
    for (const { asked } of this.#holders.values()) if (asked.has(chunk)) times++
    return times
  }

  #isWhole({ heldCount }: Holder): boolean {
    return heldCount === this.#chunkCount
  }

  /** Others that are still receiving, and get on. */
  #hasCompanions(nowMs: number): boolean {
    const patienceMs = this.#patienceMs()
    for (const holder of this.#holders.values())
      if (!this.#isWhole(holder) && nowMs - holder.progressMs < patienceMs) return true
    return false
  }

  /** Where links are slow, or machines busy, companions need longer. */
  #patienceMs(): number {
    let slowest = 0
    for (const { latencyMs } of this.#holders.values()) slowest = Math.max(slowest, latencyMs ?? 0)
    return Math.max(patienceMsMin, Math.min(patienceMsMax, patienceAnswers * slowest))
  }

  #takeBack(chunk: number): void {
    if (this.#missing.has(chunk) && this.#timesAsked(chunk) === 0) this.#unasked.add(chunk)
  }
}

const newHolder = (nowMs: number): Holder => ({
  held: new Uint8Array(),
  heldCount: 0,
  offers: [],
  asked: new Map(),
  window: windowAtFirst,
  latencyMs: null,
  progressMs: nowMs
})

/** Fisher and Yates. */
function shuffled(count: number, seed: string): Uint32Array {
  const random = new Random(seed)
  const order = Uint32Array.from({ length: count }, (_, place) => place)
  for (let place = count - 1; place > 0; place--) {
    const other = random.below(place + 1)
    const kept = order[place]!
    order[place] = order[other]!
    order[other] = kept
  }
  return order
}
