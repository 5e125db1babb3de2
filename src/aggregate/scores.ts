/**
 * Scores of the paper's family, over the key layers themselves (docs/algorithm.md, "Scores"): a query q, candidates c, a reference.
 *
 *   cosine     cos(q − ref, c − ref)             the paper's, τ 0.25
 *   dot        ⟨q, c⟩ / √dim                     over raw weights nearly uniform; kept for comparison
 *   distance   −‖q − c‖ / mean distance          FedAtt (Ji et al. 2019) with its sign turned round
 */
import { assertNever } from '../errors.ts'
import type { Vectors } from '../math/vector.ts'
import type { Range } from '../model/layout.ts'

export type WeightScore = 'cosine' | 'dot' | 'distance'

/** @returns a number a group: the cosine, the scaled product, or the plain distance (see `normalizeDistances`). */
export function scoreOf(
  vectors: Vectors,
  ranges: Range[],
  score: WeightScore,
  query: Float32Array,
  candidate: Float32Array,
  reference: Float32Array
): number[] {
  return ranges.map(({ offset, floats }) => {
    const [q, c, ref] = [query, candidate, reference].map(whole => whole.subarray(offset, offset + floats)) as [
      Float32Array,
      Float32Array,
      Float32Array
    ]
    return scoreOfGroup(vectors, score, q, c, ref)
  })
}

function scoreOfGroup(vectors: Vectors, score: WeightScore, q: Float32Array, c: Float32Array, ref: Float32Array): number {
  switch (score) {
    case 'cosine': {
      const lengths = Math.sqrt(vectors.dot(q, q, ref, ref) * vectors.dot(c, c, ref, ref))
      return lengths > 0 ? vectors.dot(q, c, ref, ref) / lengths : 0
    }
    case 'dot':
      return vectors.dot(q, c) / Math.sqrt(q.length)
    case 'distance':
      return Math.sqrt(vectors.distanceSquared(q, c))
    default:
      return assertNever(score)
  }
}

/** Distances of all candidates [candidates][groups] into scores: −d / mean of the others' d; the query itself, at 0, is the first. */
export function normalizeDistances(distances: number[][]): number[][] {
  const groups = distances[0]?.length ?? 0
  const means = Array.from({ length: groups }, (_, group) => {
    const others = distances.slice(1).map(row => row[group]!)
    return others.reduce((sum, distance) => sum + distance, 0) / Math.max(1, others.length)
  })
  return distances.map(row => row.map((distance, group) => (means[group]! > 0 ? -distance / means[group]! : 0)))
}
