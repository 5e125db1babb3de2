/**
 * Attention over key layers: how much each candidate's K counts (docs/algorithm.md, "attend").
 *
 *   a = softmax(logits),   result = Σ a_c · c          a logit is score/τ, plus what speaks for the candidate beforehand
 *
 * Online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867): one candidate in memory at a time, the sum is rescaled when the
 * maximum moves. Add candidates in the order of their ids: float addition is not associative, and every replica must get the
 * same bits (I7). Is not: a check; shapes and finiteness are settled when an update arrives.
 */
import type { Vectors } from '../math/vector.ts'
import type { Range } from '../model/layout.ts'

interface GroupSum {
  maximum: number
  total: number
  logits: number[]
}

export class Attention {
  readonly #vectors: Vectors
  readonly #ranges: Range[]
  readonly #result: Float32Array
  readonly #groups: GroupSum[]

  /**
   * @param ranges - the groups; what lies outside them is left alone.
   * @param result - shape [floats], of `vectors`; its groups are overwritten.
   */
  constructor(vectors: Vectors, ranges: Range[], result: Float32Array) {
    this.#vectors = vectors
    this.#ranges = ranges
    this.#result = result
    this.#groups = ranges.map(() => ({ maximum: -Infinity, total: 0, logits: [] }))
  }

  /** @param candidate - shape [floats]; read, not kept. @param logits - one a group; −∞: no weight at all. */
  add(candidate: Float32Array, logits: number[]): void {
    for (const [place, range] of this.#ranges.entries()) this.#addGroup(place, range, candidate, logits[place] ?? -Infinity)
  }

  #addGroup(place: number, { offset, floats }: Range, candidate: Float32Array, logit: number): void {
    const group = this.#groups[place]!
    group.logits.push(logit)
    if (logit === -Infinity) return
    const sum = this.#result.subarray(offset, offset + floats)
    const maximum = Math.max(group.maximum, logit)
    const keep = group.total === 0 ? 0 : Math.exp(group.maximum - maximum)
    const weight = Math.exp(logit - maximum)
    if (group.total === 0) sum.fill(0)
    this.#vectors.scaleAndAdd(sum, group.total === 0 ? 1 : keep, candidate.subarray(offset, offset + floats), weight)
    group.total = group.total * keep + weight
    group.maximum = maximum
  }

  /** Divides by the sums. @returns the weight of each candidate (in the order added) in each group. @throws {RangeError} if nothing was added. */
  finish(): number[][] {
    for (const [place, { offset, floats }] of this.#ranges.entries()) {
      const { total } = this.#groups[place]!
      if (total === 0) throw new RangeError('attention needs at least one candidate')
      const sum = this.#result.subarray(offset, offset + floats)
      this.#vectors.scaleAndAdd(sum, 1 / total, sum, 0)
    }
    const candidates = this.#groups[0]?.logits.length ?? 0
    return Array.from({ length: candidates }, (_, candidate) =>
      this.#groups.map(({ maximum, total, logits }) => Math.exp((logits[candidate] ?? -Infinity) - maximum) / total)
    )
  }
}

/** softmax of each group over the candidates. @param logits - [candidates][groups] @returns [candidates][groups] */
export function softmax(logits: number[][]): number[][] {
  const groups = logits[0]?.length ?? 0
  const weights = logits.map(() => new Array<number>(groups).fill(0))
  for (let group = 0; group < groups; group++) {
    const column = logits.map(row => row[group]!)
    const maximum = Math.max(...column)
    const powers = column.map(logit => Math.exp(logit - maximum))
    const total = powers.reduce((sum, power) => sum + power, 0)
    for (const [candidate, power] of powers.entries()) weights[candidate]![group] = power / total
  }
  return weights
}

/** One candidate of a member's own attention. */
export interface LikelihoodCandidate {
  /** Mean nll per byte of the member's kept-back text under the candidate, in nats. */
  nllPerByte: number
  /** t: mean training bytes behind it. */
  textBytes: number
}

/** Bytes of training text as they are declared to others: rounded to a power of two. */
export const declaredTextBytes = (bytes: number): number => 2 ** Math.round(Math.log2(Math.max(1, bytes)))

/**
 * Score `likelihood` (docs/algorithm.md): −L/τ + β·ln t, the tempered posterior of the candidate; t counts as at most 100 of one's own,
 * and rounded to a power of two. @param candidates - oneself first. @returns a logit each, for all groups.
 */
export function likelihoodLogits(candidates: LikelihoodCandidate[], temperature: number, textPrior: number): number[] {
  const own = Math.max(1, candidates[0]?.textBytes ?? 1)
  return candidates.map(({ nllPerByte, textBytes }) => {
    const text = Math.min(declaredTextBytes(textBytes), 100 * own)
    return -nllPerByte / temperature + textPrior * Math.log(text)
  })
}
