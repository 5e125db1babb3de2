/**
 * The forward pass of new tokens behind those that are already known, as one ONNX graph for one text: keys and values of the tokens
 * before come in, those of the new ones go out, so nothing is computed twice.
 *
 * Shapes on every line. S new tokens, n known ones, L = n + S; d width, h hidden, K heads of keys, G queries a key, e = d/(K·G), c = K·e,
 * V vocabulary, R rows whose logits are wanted.
 */
import { createLayout, headNameOf, headWidthOf, kvHeadsOf, type ModelConfig } from '../../model/layout.ts'
import { ropeDivisors } from '../../model/rope.ts'
import { Graph } from './graph.ts'

/**
 * Inputs: `tokens` [S] int32, `positions` [1, S] int64, `mask` [G·S, L] or [1, 1], `wanted` [R] int64, `BLOCK.past.key|value` [n, c], each
 * tensor of the model by name. Outputs: `logits` [R, V], `BLOCK.new.key|value` [S, c].
 * @param parameters - shape [layout.floats]: put into the graph, which then stands alone; left out, they are inputs.
 */
export function buildGenerationGraph(config: ModelConfig, parameters?: Float32Array): Uint8Array {
  const graph = new Graph()
  const { layers } = config
  declareInputs(graph, config, parameters)
  let x = graph.op('Gather', ['embedding', 'tokens'], { axis: 0 }) //                                [S, d]
  for (let block = 0; block < layers; block++) {
    const middle = attention(graph, config, `blocks.${block}`, x) //                                 [S, d]
    x = feedForward(graph, config, `blocks.${block}`, middle) //                                     [S, d]
  }
  const rows = graph.op('Gather', [x, 'wanted'], { axis: 0 }) //                                     [R, d]
  const final = norm(graph, config, rows, 'finalNorm') //                                            [R, d]
  graph.output('logits', graph.op('Gemm', [final, headNameOf(config)], { transB: 1 }), ['R', config.vocabulary])
  return graph.model()
}

/** @returns the residual stream after attention [S, d]. */
function attention(graph: Graph, config: ModelConfig, name: string, x: string): string {
  const [K, e] = [kvHeadsOf(config), headWidthOf(config)]
  const G = config.heads / K
  const normed = norm(graph, config, x, `${name}.attentionNorm`) //                                  [S, d]
  const q = rotate(graph, config, graph.op('MatMul', [normed, `${name}.query`]), config.heads) //    [S, d]
  const k = rotate(graph, config, graph.op('MatMul', [normed, `${name}.key`]), K) //                 [S, c]
  const v = graph.op('MatMul', [normed, `${name}.value`]) //                                         [S, c]
  graph.output(`${name}.new.key`, k, ['S', K * e])
  graph.output(`${name}.new.value`, v, ['S', K * e])
  const heads = graph.integers([-1, K, e])
  const keys = graph.op('Reshape', [graph.op('Concat', [`${name}.past.key`, k], { axis: 0 }), heads]) // [L, K, e]
  const values = graph.op('Reshape', [graph.op('Concat', [`${name}.past.value`, v], { axis: 0 }), heads]) // [L, K, e]
  // Queries that share a key lie in one matrix: no key is repeated.
  const split = graph.op('Reshape', [q, graph.integers([-1, K, G, e])]) //                           [S, K, G, e]
  const turned = graph.op('Transpose', [split], { perm: [1, 2, 0, 3] }) //                           [K, G, S, e]
  const queries = graph.op('Reshape', [turned, graph.integers([K, -1, e])]) //                       [K, G·S, e]
  const alpha = { float: 1 / Math.sqrt(e) }
  const scores = graph.runtimeOp('FusedMatMul', [queries, keys], { transBatchB: 1, transB: 1, alpha }) // [K, G·S, L]
  const weights = graph.op('Softmax', [graph.op('Add', [scores, 'mask'])], { axis: -1 }) //          [K, G·S, L]
  const mixed = graph.runtimeOp('FusedMatMul', [weights, values], { transBatchB: 1 }) //             [K, G·S, e]
  const apart = graph.op('Reshape', [mixed, graph.integers([K, G, -1, e])]) //                       [K, G, S, e]
  const back = graph.op('Transpose', [apart], { perm: [2, 0, 1, 3] }) //                             [S, K, G, e]
  const rows = graph.op('Reshape', [back, graph.integers([-1, config.width])]) //                    [S, d]
  return graph.op('Add', [graph.op('MatMul', [rows, `${name}.output`]), x])
}

/** @returns the residual stream after the block [S, d]. */
function feedForward(graph: Graph, config: ModelConfig, name: string, x: string): string {
  const normed = norm(graph, config, x, `${name}.feedForwardNorm`) //                                [S, d]
  const gate = graph.op('MatMul', [normed, `${name}.gate`]) //                                       [S, h]
  const up = graph.op('MatMul', [normed, `${name}.up`]) //                                           [S, h]
  const silu = graph.runtimeOp('QuickGelu', [gate], { alpha: { float: 1 } }) //                      [S, h], x·σ(x)
  return graph.op('Add', [graph.op('MatMul', [graph.op('Mul', [silu, up]), `${name}.down`]), x])
}

function norm(graph: Graph, config: ModelConfig, x: string, weight: string): string {
  const [y] = graph.pair('SimplifiedLayerNormalization', [x, weight], {
    axis: -1,
    epsilon: { float: config.normEpsilon }
  })
  return y
}

/** RoPE at the tokens' places. [S, heads·e] → the same */
function rotate(graph: Graph, config: ModelConfig, x: string, heads: number): string {
  const columns = heads * headWidthOf(config)
  const cube = graph.op('Reshape', [x, graph.integers([1, -1, columns])])
  const turned = graph.runtimeOp('RotaryEmbedding', [cube, 'positions', 'cos', 'sin'], { num_heads: heads, interleaved: 0 })
  return graph.op('Reshape', [turned, graph.integers([-1, columns])])
}

function declareInputs(graph: Graph, config: ModelConfig, parameters: Float32Array | undefined): void {
  const [K, e] = [kvHeadsOf(config), headWidthOf(config)]
  graph.input('tokens', 'int32', ['S'])
  graph.input('positions', 'int64', [1, 'S'])
  graph.input('mask', 'float', ['rows', 'columns'])
  graph.input('wanted', 'int64', ['R'])
  for (let block = 0; block < config.layers; block++) {
    graph.input(`blocks.${block}.past.key`, 'float', ['n', K * e])
    graph.input(`blocks.${block}.past.value`, 'float', ['n', K * e])
  }
  const { tensors } = createLayout(config, { keyFraction: 0, embeddingIsKey: false })
  for (const { name, shape, offset, floats } of tensors) {
    if (parameters === undefined) graph.input(name, 'float', shape)
    else graph.constant(name, 'float', shape, parameters.subarray(offset, offset + floats))
  }
  const divisors = ropeDivisors(config)
  const angles = Array.from({ length: config.context * divisors.length }, (_, place) => {
    const half = divisors.length
    return Math.floor(place / half) / divisors[place % half]!
  })
  for (const [name, turn] of [
    ['cos', Math.cos],
    ['sin', Math.sin]
  ] as const)
    graph.constant(
      name,
      'float',
      [config.context, divisors.length],
      Float32Array.from(angles, angle => turn(angle))
    )
}
