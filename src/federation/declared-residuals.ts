/**
 * Residuals in the certified log: an organization declares in its update which ones its start was mixed from, and the round entry that
 * counts the update repeats them. So whoever holds the log can check I6: a residual is used at most once per target and round.
 */
import type { MemberId } from '../ids.ts'
import type { MemberResidual, RoundEntry, RoundResidual, Update } from './entry.ts'

/** What a round entry declares, in the order of its inputs. */
export const residualsOf = (updates: readonly Update[]): RoundResidual[] =>
  updates.flatMap(({ member, residuals = [] }) => residuals.map(residual => ({ ...residual, to: member })))

/** @returns a source that is named twice, or whose model is, or null (I6). */
export function usedTwice(residuals: readonly MemberResidual[]): MemberId | null {
  const seen = new Set<string>()
  for (const { from, model } of residuals) {
    if (seen.has(from) || seen.has(model)) return from
    seen.add(from).add(model)
  }
  return null
}

/** @returns a target with a residual that it uses twice in this round, or null (I6). */
export function targetUsingTwice({ residuals }: Pick<RoundEntry, 'residuals'>): MemberId | null {
  for (const target of new Set(residuals.map(({ to }) => to))) {
    if (usedTwice(residuals.filter(({ to }) => to === target)) !== null) return target
  }
  return null
}

/** @returns a member whose residuals the entry tells otherwise than its update does, or null. */
export function wronglyDeclared({ residuals }: Pick<RoundEntry, 'residuals'>, updates: readonly Update[]): MemberId | null {
  const want = residualsOf(updates)
  const most = Math.max(want.length, residuals.length)
  for (let place = 0; place < most; place++) {
    const [got, told] = [residuals[place], want[place]]
    const same =
      got !== undefined &&
      told !== undefined &&
      got.from === told.from &&
      got.to === told.to &&
      got.via === told.via &&
      got.model === told.model &&
      got.similarity === told.similarity &&
      got.weight === told.weight
    if (!same) return (told ?? got)?.to ?? null
  }
  return null
}
