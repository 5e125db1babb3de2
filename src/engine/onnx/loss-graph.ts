/**
 * Head and loss in one place, forward and backward, in chunks of rows: logits of a large vocabulary are the largest tensor of a step, and
 * are never held for all rows at once.
 *
 * Shapes as in step-graph.ts; n rows of a chunk. dL/dlogits = (p − onehot(target))/N. Its products with the head need no onehot: a row of
 * the head is gathered, and a row of its gradient is scattered afterwards (`d.targets`).
 */
import { headNameOf, type ModelConfig } from '../../model/layout.ts'
import type { Graph } from './graph.ts'

/** Floats of a chunk's logits, at most: 32 MB. Fewer rows make the head's matrix products slower than they make memory smaller. */
const logitFloatsMax = 8 * 1024 * 1024
/** A chunk has a multiple of so many rows, which kernels like. */
const rowStep = 64

export const rowsOfChunk = ({ vocabulary }: ModelConfig): number =>
  Math.max(rowStep, Math.floor(logitFloatsMax / vocabulary / rowStep) * rowStep)

interface Chunk {
  /** Final norm's output [n, d]. */
  y: string
  /** [n, 1] */
  targets: string
  /** softmax of the logits [n, V] */
  p: string
  /** [n, 1] */
  nll: string
}

/** @param done - what the chunk before is needed for: its logits are gone before those of the next come. */
function* chunksOf(graph: Graph, config: ModelConfig, tokens: number, y: string, done: () => string[]): Generator<Chunk> {
  const rows = rowsOfChunk(config)
  for (let from = 0; from < tokens; from += rows) {
    const part = (x: string) => (rows >= tokens ? x : slice(graph, x, from, Math.min(tokens, from + rows)))
    const [ownY, targets] = [from === 0 ? part(y) : graph.after(part(y), done()), part('targets')]
    const logits = graph.op('Gemm', [ownY, headNameOf(config)], { transB: 1 }) //                [n, V]
    const p = graph.op('Softmax', [logits], { axis: -1 }) //                                     [n, V]
    yield { y: ownY, targets, p, nll: negativeLog(graph, p, targets) }
  }
}

/** −ln p(target) [n, 1]. p is kept off 0, where its logarithm has no end: 85 nats are enough to say "impossible". */
function negativeLog(graph: Graph, p: string, targets: string): string {
  const chosen = graph.op('GatherElements', [p, targets], { axis: 1 }) //                        [n, 1]
  return graph.op('Neg', [graph.op('Log', [graph.op('Max', [chosen, graph.scalar(1e-37)])])])
}

/** @param y - final norm's output [N, d]. @returns nll [N, 1] */
export function lossForward(graph: Graph, config: ModelConfig, tokens: number, y: string): string {
  const nlls: string[] = []
  for (const { nll } of chunksOf(graph, config, tokens, y, () => [nlls.at(-1)!])) nlls.push(nll)
  return graph.stacked(nlls)
}

/**
 * @param y - final norm's output [N, d]. @param trained - whether the head is.
 * @returns nll [N, 1], the gradient of `y` [N, d], that of the head without the targets' rows [V, d], and those rows [N, d].
 */
export function lossAndBackward(
  graph: Graph,
  config: ModelConfig,
  tokens: number,
  y: string,
  trained: boolean
): { nll: string; dy: string; dHead: string; dTargets: string } {
  const head = headNameOf(config)
  const perToken = 1 / tokens
  const [nlls, dys, scaledRows]: [string[], string[], string[]] = [[], [], []]
  let turned: string | null = null
  const done = () => (trained ? [dys.at(-1)!, turned!] : [dys.at(-1)!])
  for (const { y: own, targets, p, nll } of chunksOf(graph, config, tokens, y, done)) {
    const spread = graph.runtimeOp('FusedMatMul', [p, head], { alpha: { float: perToken } }) //   [n, d]
    const ids = graph.op('Reshape', [targets, graph.integers([-1])]) //                           [n]
    const wanted = graph.op('Mul', [graph.op('Gather', [head, ids], { axis: 0 }), graph.scalar(perToken)]) // [n, d]
    dys.push(graph.op('Sub', [spread, wanted]))
    const scaled = graph.op('Mul', [own, graph.scalar(perToken)]) //                              [n, d]
    scaledRows.push(scaled)
    // (yᵀ·p)ᵀ and not pᵀ·y: [d, V] and [n, d] are turned instead of [n, V], which is the largest of all.
    const columns = graph.op('Transpose', [scaled], { perm: [1, 0] }) //                          [d, n]
    turned = turned === null ? graph.op('MatMul', [columns, p]) : graph.op('Gemm', [columns, p, turned]) // [d, V]
    nlls.push(nll)
  }
  const dHead = graph.op('Transpose', [turned!], { perm: [1, 0] }) //                             [V, d]
  const dTargets = graph.op('Neg', [graph.stacked(scaledRows)]) //                                [N, d]
  return { nll: graph.stacked(nlls), dy: graph.stacked(dys), dHead, dTargets }
}

/** Rows `from` to `to`. */
function slice(graph: Graph, x: string, from: number, to: number): string {
  return graph.op('Slice', [x, graph.integers([from]), graph.integers([to]), graph.integers([0])])
}
