/**
 * Virtual time: what happens next, and when. A binary heap over (time, tie); ties are drawn from the seed, so
 * that events of one moment come in any order, and in the same order for the same seed.
 *
 * Is not: the clock of a peer. Those drift (peer.ts); this one is the world's, in milliseconds from 0.
 */
import type { Random } from '../math/random.ts'

/** Something that is due. */
export interface Happening {
  fire(): void
}

export class Clock {
  nowMs = 0
  /** Happenings fired so far. */
  fired = 0
  readonly #random: Random
  readonly #times: number[] = []
  readonly #ties: number[] = []
  readonly #items: Happening[] = []
  #size = 0
  #reachedMs = 0
  /** Of those without a tie of their own. */
  #scheduled = 0

  constructor(random: Random) {
    this.#random = random
  }

  get waiting(): number {
    return this.#size
  }

  /** What decides between happenings of one moment. */
  tie(): number {
    return this.#random.uint32()
  }

  /**
   * @param atMs - not in the past. @param given - its tie, which is drawn else. 0: before all that are drawn, and of these in the order in
   * which they are scheduled, whatever else waits.
   */
  at(atMs: number, happening: Happening, given = this.tie()): void {
    const time = Math.max(atMs, this.#reachedMs)
    const tie = given === 0 ? ++this.#scheduled / 2 ** 53 : given
    let place = this.#size++
    // Sift up with a hole: each parent that is later moves down.
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!this.#later(parent, time, tie)) break
      this.#move(parent, place)
      place = parent
    }
    this.#set(place, time, tie, happening)
  }

  /** A plain function, where there is no class for it. */
  call(delayMs: number, work: () => void): void {
    this.at(this.nowMs + delayMs, { fire: work })
  }

  /** Does now what was to happen at `atMs`, as if it were then; what it schedules comes from now on. */
  asOf(atMs: number, work: () => void): void {
    this.nowMs = atMs
    try {
      work()
    } finally {
      this.nowMs = this.#reachedMs
    }
  }

  /** Fires the next happening. @returns false when none is left. */
  next(): boolean {
    if (this.#size === 0) return false
    const first = this.#items[0]!
    this.nowMs = this.#times[0]!
    this.#reachedMs = this.nowMs
    this.#size--
    if (this.#size > 0) this.#siftDown()
    this.#items.pop()
    this.#times.pop()
    this.#ties.pop()
    this.fired++
    first.fire()
    return true
  }

  /** The last item goes to the top, and sinks. */
  #siftDown(): void {
    const size = this.#size
    const time = this.#times[size]!
    const tie = this.#ties[size]!
    const item = this.#items[size]!
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= size) break
      if (child + 1 < size && this.#later(child, this.#times[child + 1]!, this.#ties[child + 1]!)) child++
      if (this.#later(child, time, tie)) break
      this.#move(child, place)
      place = child
    }
    this.#set(place, time, tie, item)
  }

  /** Whether what lies at `place` comes after (time, tie). */
  #later(place: number, time: number, tie: number): boolean {
    const other = this.#times[place]!
    return other > time || (other === time && this.#ties[place]! > tie)
  }

  #move(from: number, to: number): void {
    this.#set(to, this.#times[from]!, this.#ties[from]!, this.#items[from]!)
  }

  #set(place: number, time: number, tie: number, item: Happening): void {
    this.#times[place] = time
    this.#ties[place] = tie
    this.#items[place] = item
  }
}
