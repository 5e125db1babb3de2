/**
 * The outer optimizer at the root: what the members' mean change does to the backbone (docs/algorithm.md, "A round", 3).
 *
 *   average    B ← B + Δ
 *   nesterov   v ← μ·v + Δ;  B ← B + η·(Δ + μ·v)                              DiLoCo (Douillard et al. 2023)
 *   adam       m ← β₁m + (1−β₁)Δ;  s ← β₂s + (1−β₂)Δ²;  B ← B + η·m/(√s + ε)    FedOpt's FedAdam (Reddi et al. 2020, Algorithm 2)
 */
import type { Vectors } from '../math/vector.ts'

/** A charter's choice of outer optimizer; learning rate > 0, momentum 0 to 1. */
export interface OuterOptions {
  outer: 'average' | 'nesterov' | 'adam'
  outerLearningRate: number
  outerMomentum: number
}

/** Vectors of state that the optimizer carries from round to round, each as long as what it steps. */
export const outerStateVectors: Record<OuterOptions['outer'], number> = { average: 0, nesterov: 1, adam: 2 }

const adamBeta1 = 0.9
const adamBeta2 = 0.99
/** τ of Reddi et al.: the degree of adaptivity. */
const adamEpsilon = 1e-3

/** Steps `backbone` in place. @param delta - Δ, same shape; @param state - see `outerStateVectors`; changed in place. */
export function outerStep(
  vectors: Vectors,
  { outer, outerLearningRate, outerMomentum }: OuterOptions,
  backbone: Float32Array,
  delta: Float32Array,
  state: Float32Array[]
): void {
  switch (outer) {
    case 'average':
      vectors.scaleAndAdd(backbone, 1, delta, 1)
      return
    case 'nesterov': {
      const [velocity] = state as [Float32Array]
      vectors.scaleAndAdd(velocity, outerMomentum, delta, 1)
      vectors.scaleAndAdd(backbone, 1, delta, outerLearningRate)
      vectors.scaleAndAdd(backbone, 1, velocity, outerLearningRate * outerMomentum)
      return
    }
    case 'adam': {
      const [first, second] = state as [Float32Array, Float32Array]
      for (let place = 0; place < delta.length; place++) {
        const d = delta[place]!
        first[place] = adamBeta1 * first[place]! + (1 - adamBeta1) * d
        second[place] = adamBeta2 * second[place]! + (1 - adamBeta2) * d * d
        backbone[place]! += (outerLearningRate * first[place]!) / (Math.sqrt(second[place]!) + adamEpsilon)
      }
    }
  }
}
