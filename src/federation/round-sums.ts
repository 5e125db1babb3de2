/** What a round’s inputs weigh, each and together: said by its aggregator, and computed again by each voter (checks.ts). */
import type { Received } from './round-state.ts'

/** An update counts half for each round that it is late. */
export const discounted = (weight: number, staleness: number): number => weight * 0.5 ** staleness

/** Sums over what was put in, in its order; `textBytes` is the mean over the organizations below. */
export function totals(inputs: readonly Pick<Received, 'weight' | 'update'>[]): {
  weight: number
  organizations: number
  textBytes: number
} {
  const organizations = inputs.reduce((sum, input) => sum + input.update.organizations, 0)
  const text = inputs.reduce((sum, input) => sum + input.update.textBytes * input.update.organizations, 0)
  return {
    weight: inputs.reduce((sum, input) => sum + input.weight, 0),
    organizations,
    textBytes: organizations === 0 ? 0 : Math.round(text / organizations)
  }
}
