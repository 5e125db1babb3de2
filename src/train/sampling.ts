/** Which token comes next, from the logits. */
import type { Random } from '../math/random.ts'

export interface SamplingOptions {
  /** Logits are divided by it; 0: always the likeliest. */
  temperature: number
  /** Of the likeliest tokens so many as together have this probability; 0 < p ≤ 1 (Holtzman et al. 2020). */
  topP: number
}

/** @param logits - of the tokens that may come. @returns an id below `logits.length`; equal states of `random` give equal ids. */
export function sampleToken(logits: Float32Array, { temperature, topP }: SamplingOptions, random: Random): number {
  let best = 0
  for (let token = 1; token < logits.length; token++) if (logits[token]! > logits[best]!) best = token
  if (temperature === 0) return best
  const most = logits[best]!
  const weights = Float64Array.from(logits, logit => Math.exp((logit - most) / temperature))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  if (topP >= 1) return draw(weights, null, random.float() * total)
  // Ties by id, so that the order does not depend on the sort.
  const order = Array.from(weights.keys()).sort((a, b) => weights[b]! - weights[a]! || a - b)
  let kept = weights[order[0]!]!
  let count = 1
  while (count < order.length && kept < topP * total) kept += weights[order[count++]!]!
  return draw(weights, order.slice(0, count), random.float() * kept)
}

function draw(weights: Float64Array, order: number[] | null, place: number): number {
  let rest = place
  const count = order === null ? weights.length : order.length
  for (let at = 0; at < count; at++) {
    const token = order === null ? at : order[at]!
    rest -= weights[token]!
    if (rest < 0) return token
  }
  // Rounding may leave a little over: the last one that can come.
  for (let at = count - 1; at > 0; at--) {
    const token = order === null ? at : order[at]!
    if (weights[token]! > 0) return token
  }
  return order === null ? 0 : order[0]!
}
