/** Small models and batches for the engines' tests, by seed. */
import type { EngineOptions } from '../../src/engine/engine.ts'
import type { Batch } from '../../src/model/batch.ts'
import { Random } from '../../src/math/random.ts'
import { initialParameters } from '../../src/model/initial.ts'
import { createLayout, type ModelConfig } from '../../src/model/layout.ts'

export const micro: ModelConfig = {
  layers: 2,
  width: 8,
  hidden: 12,
  heads: 2,
  context: 6,
  vocabulary: 20,
  ropeBase: 10_000,
  normEpsilon: 1e-5
}

export function engineOptions(config: Partial<ModelConfig> = {}, overrides: Partial<EngineOptions> = {}): EngineOptions {
  const layout = createLayout({ ...micro, ...config }, { keyFraction: 0.5, embeddingIsKey: false })
  return { layout, batch: 2, threads: 1, weightDecay: 0.1, gradientClip: 1, ...overrides }
}

/** Larger than initial ones, norms away from 1: so that every path of the gradient carries weight. */
export function testParameters({ layout }: EngineOptions, seed: number): Float32Array {
  const random = new Random(`test/${seed}`)
  return initialParameters(layout, seed).map(value => value + 0.1 * random.normal())
}

export function randomBatch({ layout, batch }: EngineOptions, seed: number): Batch {
  const random = new Random(`batch/${seed}`)
  const tokens = () => Int32Array.from({ length: batch * layout.config.context }, () => random.below(layout.config.vocabulary))
  return { inputs: tokens(), targets: tokens() }
}
