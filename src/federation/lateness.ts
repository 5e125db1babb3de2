/**
 * For whom an aggregator waits (docs/protocol.md, "A round"). A member may be there and send nothing: its trainer hangs, or takes longer than
 * rounds do. The others would wait for it to the deadline of each round, for good.
 *
 * Is: pure. Is not: a matter of votes; each aggregator decides for itself when it closes a round.
 */
import type { MemberId } from '../ids.ts'
import type { RoundEntry } from './entry.ts'
import { staleRoundsMax } from './participation.ts'

/** In how many rounds in a row, up to the newest, each member was late; who was not is not in it. */
export type Lateness = ReadonlyMap<MemberId, number>

export const nobodyLate: Lateness = new Map()

export function countLate(before: Lateness, { excluded }: RoundEntry): Lateness {
  const late = excluded.filter(({ reason }) => reason === 'late')
  if (late.length === 0) return nobodyLate
  return new Map(late.map(({ member }) => [member, (before.get(member) ?? 0) + 1]))
}

/**
 * For who is late an update that it makes still counts as long as its base is no older than `staleRoundsMax` rounds. After that it is waited
 * for in every round whose number of those before it is a power of two: twenty deadlines in a million rounds. Whatever it sends counts as before.
 *
 * @param roundsLate - in a row, up to the newest.
 */
export const isAwaited = (roundsLate: number): boolean =>
  roundsLate <= staleRoundsMax || Number.isInteger(Math.log2(roundsLate))
