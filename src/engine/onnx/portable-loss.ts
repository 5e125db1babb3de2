/**
 * Head and loss of the portable graph: as loss-graph.ts has it, with rows of zeros and a one where that gathers and scatters, so that nothing
 * is left to do outside the graph. Its products with those rows cost as much as a third of the head's.
 *
 * Shapes as in step-graph.ts; n rows of a chunk.
 */
import { headNameOf, type ModelConfig } from '../../model/layout.ts'
import type { Graph } from './graph.ts'
import { rowsOfChunk } from './loss-graph.ts'

interface PortableLoss {
  /** [N, 1] */
  nll: string
  /** Gradient of the final norm's output [N, d]. */
  dy: string
  /** Gradient of the head [V, d]. */
  dHead: string
}

/** Input `ids` are [N, 1] int32. @returns [n, V] of each chunk */
function oneHot(graph: Graph, ids: string): string {
  return graph.cast(graph.op('Equal', [ids, 'vocabulary']), 'float')
}

/** Constant `vocabulary` [1, V]. */
export function declareVocabulary(graph: Graph, { vocabulary }: ModelConfig): void {
  graph.constant(
    'vocabulary',
    'int32',
    [1, vocabulary],
    Int32Array.from({ length: vocabulary }, (_, id) => id)
  )
}

function chunks(graph: Graph, config: ModelConfig, tokens: number) {
  const rows = rowsOfChunk(config)
  return Array.from({ length: Math.ceil(tokens / rows) }, (_, place) => {
    const [from, to] = [place * rows, Math.min(tokens, (place + 1) * rows)]
    const part = (x: string) =>
      rows >= tokens ? x : graph.op('Slice', [x, graph.integers([from]), graph.integers([to]), graph.integers([0])])
    return { rows: to - from, part }
  })
}

/** @param y - final norm's output [N, d]. */
export function portableLoss(graph: Graph, config: ModelConfig, tokens: number, y: string): PortableLoss {
  const head = headNameOf(config)
  const [nlls, dys, dHeads]: [string[], string[], string[]] = [[], [], []]
  for (const { part } of chunks(graph, config, tokens)) {
    const [own, wanted] = [part(y), oneHot(graph, part('targets'))] //                            [n, d], [n, V]
    const p = graph.op('Softmax', [graph.op('Gemm', [own, head], { transB: 1 })], { axis: -1 }) // [n, V]
    const chosen = graph.op('ReduceSum', [graph.op('Mul', [p, wanted]), graph.integers([1])], { keepdims: 1 }) // [n, 1]
    nlls.push(graph.op('Neg', [graph.op('Log', [graph.op('Max', [chosen, graph.scalar(1e-37)])])]))
    const dLogits = graph.op('Mul', [graph.op('Sub', [p, wanted]), graph.scalar(1 / tokens)]) //   [n, V]
    dys.push(graph.op('MatMul', [dLogits, head])) //                                               [n, d]
    dHeads.push(graph.op('Gemm', [dLogits, own], { transA: 1 })) //                                [V, d]
  }
  return { nll: graph.stacked(nlls), dy: graph.stacked(dys), dHead: graph.sum(dHeads) }
}

/** Gradient of the embedding, from that of its rows [N, d]: onehot(inputs)ᵀ·dx, [V, d]. */
export function portableEmbedding(graph: Graph, config: ModelConfig, tokens: number, dx: string): string {
  const ids = graph.op('Reshape', ['inputs', graph.integers([tokens, 1])]) //                     [N, 1]
  return graph.sum(
    chunks(graph, config, tokens).map(({ part }) => graph.op('Gemm', [oneHot(graph, part(ids)), part(dx)], { transA: 1 }))
  )
}
