/**
 * Updates said in a topic to all at once, kept once for all its listeners (voice.ts). A listener looks at them when something may depend
 * on them (mail.ts); most never do, for a round that is certified meanwhile settles what was announced for it.
 */
export interface Announcement<Peer, Signed> {
  atMs: number
  from: Peer
  signed: Signed
  /** What its way to a listener depends on (network.ts). */
  nth: number
  bytes: number
  listeners: number
}

/** Said again by each that waits: looked through for old ones no more often than this many come. */
const sweepEvery = 256
/** Rounds after which an update counts no more, and a few to spare (staleRoundsMax in federation/participation.ts). */
const roundsKept = 6

export class Announced<Peer, Signed extends { update: { round: number } }> {
  /** Place of the first that is kept, among all there ever were. */
  #first = 0
  #kept: Announcement<Peer, Signed>[] = []
  #newestRound = 0

  /** Place of the next. */
  get end(): number {
    return this.#first + this.#kept.length
  }

  add(announcement: Announcement<Peer, Signed>): void {
    this.#kept.push(announcement)
    this.#newestRound = Math.max(this.#newestRound, announcement.signed.update.round)
    if (this.#kept.length % sweepEvery === 0) this.#sweep()
  }

  /** From the place `from` on, as far as they are kept. */
  since(from: number): readonly Announcement<Peer, Signed>[] {
    return from >= this.end ? [] : this.#kept.slice(Math.max(0, from - this.#first))
  }

  #sweep(): void {
    const oldest = this.#newestRound - roundsKept
    const place = this.#kept.findIndex(({ signed }) => signed.update.round >= oldest)
    this.#kept = this.#kept.slice(place)
    this.#first += place
  }
}
