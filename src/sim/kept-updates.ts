/** The updates that a replica keeps: those that an open entry may count, or that somebody may ask for. */
import type { Update } from '../federation/entry.ts'
import { staleRoundsMax } from '../federation/participation.ts'
import type { Link } from '../ids.ts'
import type { SignedRecord } from './core.ts'

/** Updates of so many rounds before the newest one are kept, which is more than an entry under way holds; a daemon keeps more. */
const roundsKept = staleRoundsMax + 1

export class KeptUpdates extends Map<Link, Update> {
  keep({ link, update }: SignedRecord): void {
    this.set(link, update)
    for (const [known, { round }] of this) {
      if (round >= update.round - roundsKept) break
      this.delete(known)
    }
  }
}
