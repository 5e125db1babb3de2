/** What a round’s inputs weigh, each and together: said by its aggregator, and computed again by each voter (checks.ts). */
import type { Received } from './round-state.ts'

/** An update counts half for each round that it is late. */
export const discounted = (weight: number, staleness: number): number => weight * 0.5 ** staleness

/** The largest amount that a record holds (wire/codec.ts): what is told of many together may be more. */
const amountMax = 1e18

/** Sums over what was put in, in its order, as far as a record can tell them; `textBytes` is the mean over the organizations below. */
export function totals(inputs: readonly Pick<Received, 'weight' | 'update'>[]): {
  weight: number
  organizations: number
  textBytes: number
} {
  const organizations = Math.min(
    Number.MAX_SAFE_INTEGER,
    inputs.reduce((sum, input) => sum + input.update.organizations, 0)
  )
  const text = inputs.reduce((sum, input) => sum + input.update.textBytes * input.update.organizations, 0)
  return {
    weight: Math.min(
      amountMax,
      inputs.reduce((sum, input) => sum + input.weight, 0)
    ),
    organizations,
    textBytes: organizations === 0 ? 0 : Math.min(amountMax, Math.round(text / organizations))
  }
}
