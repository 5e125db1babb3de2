/**
 * Which candidates of an organization's attention are asked for in a round (docs/algorithm.md, "Scores"): one that got under 1 % of the
 * weight, only every five rounds; a forward pass over the kept-back slice and a model's transfer are saved in between.
 */

/** A candidate with less weight than this changes nothing that can be measured. */
export const lightWeight = 0.01
/** Rounds until a light candidate is asked for again. */
const askAgainRounds = 5

/** When a candidate was weighed last, and how much it got by its likelihood alone. By name; JSON. */
export type Memory = Readonly<Record<string, { round: number; weight: number }>>

export function isDue(memory: Memory, name: string, round: number): boolean {
  const last = memory[name]
  return last === undefined || last.weight >= lightWeight || round >= last.round + askAgainRounds
}

/** @param weighed - of `round`. */
export function remember(memory: Memory, round: number, weighed: readonly { name: string; warmWeight: number }[]): Memory {
  return { ...memory, ...Object.fromEntries(weighed.map(({ name, warmWeight }) => [name, { round, weight: warmWeight }])) }
}
