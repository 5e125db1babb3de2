/** What every side of the engine benchmark trains: the same weights, the same tokens. */
import { Random } from '../src/math/random.ts'
import type { Batch } from '../src/model/batch.ts'
import { initialParameters } from '../src/model/initial.ts'
import { createLayout, type Layout, type ModelConfig } from '../src/model/layout.ts'
import { presets } from '../src/model/presets.ts'

export type BenchSize = 'S' | 'M' | 'L'

const sizes: Record<BenchSize, { model: ModelConfig; batch: number }> = {
  S: presets.small,
  M: presets.medium,
  /** 110 M parameters: memory matters here, and the logits of a batch would be the largest tensor. */
  L: {
    model: { ...presets.medium.model, layers: 12, width: 768, hidden: 2048, heads: 12, context: 512, vocabulary: 32_000 },
    batch: 2
  }
}

export function benchModel(size: BenchSize): {
  layout: Layout
  parameters: Float32Array<ArrayBuffer>
  batch: number
  data: Batch
} {
  const { model, batch } = sizes[size]
  const layout = createLayout(model, { keyFraction: 1, embeddingIsKey: true })
  const random = new Random('bench')
  const tokens = () => Int32Array.from({ length: batch * model.context }, () => random.below(model.vocabulary))
  return { layout, parameters: initialParameters(layout, 0), batch, data: { inputs: tokens(), targets: tokens() } }
}
