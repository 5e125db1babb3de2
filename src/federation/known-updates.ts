/**
 * Members' newest announced updates, as a value: each change makes a new one. A list, not a map: every peer takes every update of every
 * round, and to copy a list of pointers costs a tenth of copying a map.
 */
import type { Link, MemberId } from '../ids.ts'
import type { Update } from './entry.ts'

/** A member's newest announced update. */
export interface KnownUpdate {
  link: Link
  update: Update
}

export class KnownUpdates {
  static readonly none = new KnownUpdates([])
  readonly #updates: readonly KnownUpdate[]

  private constructor(updates: readonly KnownUpdate[]) {
    this.#updates = updates
  }

  get(member: MemberId): KnownUpdate | undefined {
    return this.#updates.find(({ update }) => update.member === member)
  }

  has(member: MemberId): boolean {
    return this.get(member) !== undefined
  }

  /** In the order in which the members first had one. */
  values(): readonly KnownUpdate[] {
    return this.#updates
  }

  /** Instead of the member's earlier one, in its place. */
  with(known: KnownUpdate): KnownUpdates {
    const place = this.#updates.findIndex(({ update }) => update.member === known.update.member)
    return new KnownUpdates(place < 0 ? [...this.#updates, known] : this.#updates.with(place, known))
  }

  filter(keep: (known: KnownUpdate) => boolean): KnownUpdates {
    const kept = this.#updates.filter(keep)
    return kept.length === this.#updates.length ? this : new KnownUpdates(kept)
  }
}
