/** How large a blob may be that a node has any use for: what is larger is of a stranger who wants its disk to be full. */
import { outerStateVectors } from '../aggregate/outer-step.ts'
import { modelBytesMax } from '../model/checkpoint.ts'
import type { Layout } from '../model/layout.ts'
import { limits } from '../wire/limits.ts'

/** Sections of the largest file of a model: the outer optimizer's state, if that is more than the model itself. */
const sectionsMax = Math.max(1, ...Object.values(outerStateVectors))

/** @param layouts - of the federations that the node follows. */
export function largestBlobBytes(layouts: readonly Layout[]): number {
  // Adapters stand on a model that travels whole, once.
  const models = layouts.flatMap(layout => [layout, layout.base ?? layout]).map(layout => modelBytesMax(layout, sectionsMax))
  return Math.max(limits.tokenizerBytesMax, ...models)
}
