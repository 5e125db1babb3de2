/**
 * The parts of a step that onnxruntime has faster operators of its own for, in two ways: with those (`runtime`, for its CPU kernels), and with
 * ONNX's plain operators (`portable`, which GPU providers have too).
 *
 * Shapes on every line; heads' rows are time-major, [t, B, H, e].
 */
import type { ModelConfig } from '../../model/layout.ts'
import { ropeDivisors } from '../../model/rope.ts'
import type { Graph } from './graph.ts'

export interface Normed {
  /** [N, d] */
  y: string
  /** 1/√(mean x² + ε), [N, 1] */
  inverse: string
}

export interface Product {
  transA?: boolean
  transB?: boolean
  /** Factor of the product. */
  alpha?: number
}

export interface Operators {
  /** Constants that the others read: RoPE's turns. */
  declare(config: ModelConfig, batch: number): void
  /** RMSNorm (Zhang and Sennrich 2019): y = x·inverse·weight. */
  norm(x: string, weight: string, epsilon: number): Normed
  /** x·σ(x) */
  silu(x: string): string
  /** α·a·b of two matrices. */
  product(a: string, b: string, options: Product): string
  /** RoPE (Su et al. 2021), halves of a head's width paired. [T, B, heads·e] → the same; `sine` is a table's name, `sin` or `minusSin`. */
  rotate(x: string, sine: string, heads: number): string
  /** α·q·kᵀ: [t, B, H, e], [s, B, H, e] → [B, H, t, s] */
  scores(q: string, k: string, alpha: number): string
  /** α·w·v: [B, H, t, s], [s, B, H, e] → [t, B, H, e] */
  weighed(weights: string, v: string, alpha: number): string
  /** α·wᵀ·d: [B, H, t, s], [t, B, H, e] → [s, B, H, e] */
  weighedBack(weights: string, d: string, alpha: number): string
}

/** Tables `cos`, `sin` and `minusSin` of [places, e/2], in the shape that is wanted. */
function declareTurns(graph: Graph, config: ModelConfig, places: number, shaped: (shape: [number, number]) => number[]): void {
  const divisors = ropeDivisors(config)
  const half = divisors.length
  const shape = shaped([places, half])
  for (const [name, turn] of [
    ['cos', Math.cos],
    ['sin', Math.sin],
    ['minusSin', (angle: number) => -Math.sin(angle)]
  ] as const) {
    const angle = (place: number) => Math.floor(place / half) / divisors[place % half]!
    graph.constant(
      name,
      'float',
      shape,
      Float32Array.from({ length: places * half }, (_, place) => turn(angle(place)))
    )
  }
}

export function runtimeOperators(graph: Graph): Operators {
  const fused = (a: string, b: string, attributes: Record<string, number | { float: number }>) =>
    graph.runtimeOp('FusedMatMul', [a, b], attributes)
  const timeMajor = (x: string) => graph.op('Transpose', [x], { perm: [2, 0, 1, 3] }) //         [B, H, t, e] → [t, B, H, e]
  return {
    declare(config, batch) {
      // Time lies first, so the operator takes the windows for places: it refuses more of them than its tables have.
      declareTurns(graph, config, Math.max(config.context, batch), turns => turns)
      const places = BigInt64Array.from({ length: config.context * batch }, (_, place) => BigInt(Math.floor(place / batch)))
      graph.constant('positions', 'int64', [config.context, batch], places)
    },
    norm(x, weight, epsilon) {
      const [y, inverse] = graph.pair('SimplifiedLayerNormalization', [x, weight], { axis: -1, epsilon: { float: epsilon } })
      return { y, inverse }
    },
    silu: x => graph.runtimeOp('QuickGelu', [x], { alpha: { float: 1 } }),
    product: (a, b, { transA = false, transB = false, alpha = 1 }) =>
      fused(a, b, { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } }),
    rotate: (x, sine, heads) =>
      graph.runtimeOp('RotaryEmbedding', [x, 'positions', 'cos', sine], { num_heads: heads, interleaved: 0 }),
    // transBatch reads [t, B, H, e] as [B, H, t, e] in place.
    scores: (q, k, alpha) => fused(q, k, { transBatchA: 1, transBatchB: 1, transB: 1, alpha: { float: alpha } }),
    weighed: (weights, v, alpha) => timeMajor(fused(weights, v, { transBatchB: 1, alpha: { float: alpha } })),
    weighedBack: (weights, d, alpha) => timeMajor(fused(weights, d, { transA: 1, transBatchB: 1, alpha: { float: alpha } }))
  }
}

/** @param headWidth - e, even. */
export function portableOperators(graph: Graph, headWidth: number): Operators {
  const half = headWidth / 2
  const scaled = (x: string, factor: number) => (factor === 1 ? x : graph.op('Mul', [x, graph.scalar(factor)]))
  const turned = (x: string, perm: number[]) => graph.op('Transpose', [x], { perm })
  const headMajor = (x: string) => turned(x, [1, 2, 0, 3]) //                                     [t, B, H, e] → [B, H, t, e]
  const timeMajor = (x: string) => turned(x, [2, 0, 1, 3]) //                                     [B, H, t, e] → [t, B, H, e]
  const columns = (x: string, from: number, to: number) =>
    graph.op('Slice', [x, graph.integers([from]), graph.integers([to]), graph.integers([3])])
  return {
    declare: config => declareTurns(graph, config, config.context, ([T, half]) => [T, 1, 1, half]),
    norm(x, weight, epsilon) {
      const mean = graph.op('ReduceMean', [graph.op('Mul', [x, x])], { axes: [-1], keepdims: 1 }) // [N, 1]
      const root = graph.op('Sqrt', [graph.op('Add', [mean, graph.scalar(epsilon)])]) //          [N, 1]
      const inverse = graph.op('Div', [graph.scalar(1), root]) //                                 [N, 1]
      return { y: graph.op('Mul', [graph.op('Mul', [x, inverse]), weight]), inverse }
    },
    silu: x => graph.op('Mul', [x, graph.op('Sigmoid', [x])]),
    product(a, b, { transA = false, transB = false, alpha = 1 }) {
      const [left, right] = [transA ? turned(a, [1, 0]) : a, transB ? turned(b, [1, 0]) : b]
      return scaled(graph.op('MatMul', [left, right]), alpha)
    },
    rotate(x, sine, heads) {
      const split = graph.op('Reshape', [x, graph.integers([0, 0, heads, headWidth])]) //         [T, B, heads, e]
      const [a, b] = [columns(split, 0, half), columns(split, half, headWidth)] //                [T, B, heads, e/2]
      const left = graph.op('Sub', [graph.op('Mul', [a, 'cos']), graph.op('Mul', [b, sine])])
      const right = graph.op('Add', [graph.op('Mul', [b, 'cos']), graph.op('Mul', [a, sine])])
      const joined = graph.op('Concat', [left, right], { axis: 3 }) //                            [T, B, heads, e]
      return graph.op('Reshape', [joined, graph.integers([0, 0, -1])]) //                         [T, B, heads·e]
    },
    scores: (q, k, alpha) => scaled(graph.op('MatMul', [headMajor(q), turned(k, [1, 2, 3, 0])]), alpha),
    weighed: (weights, v, alpha) => timeMajor(scaled(graph.op('MatMul', [weights, headMajor(v)]), alpha)),
    weighedBack: (weights, d, alpha) =>
      timeMajor(scaled(graph.op('MatMul', [turned(weights, [0, 1, 3, 2]), headMajor(d)]), alpha))
  }
}
