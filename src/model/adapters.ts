/**
 * Low-rank adapters over a model that stays as it is (Hu et al. 2021, LoRA): W + α/r·A·B in place of W.
 *
 * Is: names, scale, and what they come to. Is not: their layout (layout.ts), their gradient (the engines), or a rule of aggregation: A and B are
 * aggregated each by itself, as the charter says, though the mean of products is not the product of means (Sun et al. 2024, FFA-LoRA).
 */
import { assert } from '../errors.ts'
import type { Adapters, Layout } from './layout.ts'

/** α/r */
export const adapterScale = ({ rank, alpha }: Adapters): number => alpha / rank

/** Names of A and B of each adapted matrix, by its name. Empty where the layout is of a model. */
export function adaptedMatrices({ tensors, adapters }: Layout): Map<string, { a: string; b: string }> {
  if (adapters === undefined) return new Map()
  const matrices = [...new Set(tensors.map(({ name }) => name.slice(0, name.lastIndexOf('.'))))]
  return new Map(matrices.map(name => [name, { a: `${name}.loraA`, b: `${name}.loraB` }]))
}

/**
 * The model that base and adapters are together.
 * @param layout - of adapters. @param base - shape [layout.base.floats]. @param adapters - shape [layout.floats].
 * @returns shape [layout.base.floats]
 */
export function mergeAdapters(layout: Layout, base: Float32Array, adapters: Float32Array): Float32Array<ArrayBuffer> {
  assert(layout.base !== undefined && layout.adapters !== undefined, 'a layout of adapters has a base')
  assert(base.length === layout.base.floats && adapters.length === layout.floats, 'base and adapters are of their layouts')
  const merged = Float32Array.from(base)
  const scale = adapterScale(layout.adapters)
  const find = (of: Layout, wanted: string) => of.tensors.find(({ name }) => name === wanted)!
  for (const [name, names] of adaptedMatrices(layout)) {
    const [w, a, b] = [find(layout.base, name), find(layout, names.a), find(layout, names.b)]
    const [rows, columns] = w.shape as [number, number]
    const rank = layout.adapters.rank
    const change = new Float64Array(columns)
    for (let row = 0; row < rows; row++) {
      change.fill(0)
      for (let inner = 0; inner < rank; inner++) {
        const factor = scale * adapters[a.offset + row * rank + inner]!
        for (let column = 0; column < columns; column++)
          change[column]! += factor * adapters[b.offset + inner * columns + column]!
      }
      for (let column = 0; column < columns; column++) merged[w.offset + row * columns + column]! += change[column]!
    }
  }
  return merged
}
