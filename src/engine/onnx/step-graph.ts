/**
 * One training step as one ONNX graph: forward, loss, and the backward pass derived by hand.
 *
 * Shapes on every line. N = B·T tokens, time-major: row t·B + b. d width, h hidden, H heads, K heads of keys and values, e = d/H,
 * c = K·e, V vocabulary. The head is the embedding, or a tensor of the same shape.
 * Heads are split by a reshape alone, [N, d] → [T, B, H, e]: FusedMatMul's transBatch reads it as [B, H, T, e] in place.
 *
 * Three gradients are left to kernels outside (adam.as.ts), because ScatterND races with itself on two threads:
 * the head's is `d.HEAD` + scatter(targets, `d.targets`), the embedding's scatter(inputs, `d.embedded`); where they are one, the sum.
 */
import { assert } from '../../errors.ts'
import { adaptedMatrices, adapterScale } from '../../model/adapters.ts'
import { headWidthOf, kvHeadsOf, type Layout, type ModelConfig } from '../../model/layout.ts'
import { ropeDivisors } from '../../model/rope.ts'
import { Graph } from './graph.ts'
import { lossAndBackward, lossForward } from './loss-graph.ts'

/** What the backward pass of a block needs of its forward pass. */
interface Saved {
  /** Residual stream before the block [N, d], and between its halves. */
  x: string
  middle: string
  attentionNorm: Normed
  feedForwardNorm: Normed
  /** [T, B, H, e] */
  q: string
  k: string
  v: string
  /** softmax(QKᵀ/√e) [B, H, T, T] */
  attention: string
  /** Attention's output [N, d], before its projection. */
  mixed: string
  /** [N, h] */
  gate: string
  up: string
}
interface Normed {
  /** [N, d] */
  y: string
  /** 1/√(mean x² + ε), [N, 1] */
  inverse: string
}

/**
 * @param layout - of the model, or of adapters over it. @param batch - windows B.
 * Inputs: `inputs` [N] int32, `targets` [N, 1] int64, each tensor by name, with those of the base where the layout is of adapters.
 */
export function buildStepGraph(layout: Layout, batch: number): Uint8Array {
  const builder = new StepGraph(layout, batch)
  const forward = builder.forward()
  builder.backward(forward)
  return builder.graph.model()
}

/** The forward pass alone. Output: `nll` [N, 1]. */
export function buildEvaluationGraph(layout: Layout, batch: number): Uint8Array {
  const builder = new StepGraph(layout, batch)
  builder.evaluation()
  return builder.graph.model()
}

interface Forward {
  saved: Saved[]
  /** Residual stream after the last block [N, d]. */
  x: string
  final: Normed
}

class StepGraph {
  readonly graph = new Graph()
  readonly #config: ModelConfig
  readonly #batch: number
  readonly #tokens: number
  readonly #headWidth: number
  readonly #layout: Layout
  readonly #shapes: Map<string, number[]>
  readonly #transposed = new Map<string, string>()
  readonly #adapted = new Map<string, string>()

  constructor(layout: Layout, batch: number) {
    const { config } = layout
    this.#config = config
    this.#batch = batch
    this.#tokens = batch * config.context
    this.#headWidth = headWidthOf(config)
    this.#layout = layout
    this.#shapes = new Map([...(layout.base?.tensors ?? []), ...layout.tensors].map(({ name, shape }) => [name, shape]))
    this.#declareInputs()
    this.#declareTables()
  }

  forward(): Forward {
    const { graph } = this
    const { layers } = this.#config
    let x = graph.op('Gather', ['embedding', 'inputs'], { axis: 0 }) //                          [N, d]
    const saved: Saved[] = []
    for (let block = 0; block < layers; block++) {
      const one = this.#block(`blocks.${block}`, x)
      saved.push(one.saved)
      x = one.x
    }
    return { saved, x, final: this.#norm(x, 'finalNorm') }
  }

  evaluation(): void {
    const { graph } = this
    let x = graph.op('Gather', ['embedding', 'inputs'], { axis: 0 }) //                          [N, d]
    for (let block = 0; block < this.#config.layers; block++) x = this.#block(`blocks.${block}`, x).x
    const nll = lossForward(graph, this.#config, this.#tokens, this.#norm(x, 'finalNorm').y) //   [N, 1]
    graph.output('nll', nll, [this.#tokens, 1])
  }

  backward({ saved, x, final }: Forward): void {
    const { graph } = this
    const { nll, dy } = lossAndBackward(graph, this.#config, this.#tokens, final.y, this.#trains('embedding')) // [N, 1], [N, d]
    graph.output('loss', graph.op('ReduceMean', [nll], { keepdims: 0 }), [])
    let dx = this.#normBackward(dy, x, final, 'finalNorm', null) //                               [N, d]
    for (let block = this.#config.layers - 1; block >= 0; block--)
      dx = this.#blockBackward(`blocks.${block}`, saved[block]!, dx)
    if (this.#trains('embedding')) graph.output('d.embedded', dx, [this.#tokens, this.#config.width])
  }

  // ── a block ──

  #block(name: string, x: string): { x: string; saved: Saved } {
    const { graph } = this
    const attentionNorm = this.#norm(x, `${name}.attentionNorm`) //                               [N, d]
    const kvHeads = kvHeadsOf(this.#config)
    const project = (matrix: string) => graph.op('MatMul', [attentionNorm.y, this.#matrix(`${name}.${matrix}`)]) // [N, d] or [N, c]
    const q = this.#heads(this.#rotate(project('query'), 'sin', this.#config.heads)) //           [T, B, H, e]
    const k = this.#shared(this.#rotate(project('key'), 'sin', kvHeads)) //                       [T, B, H, e]
    const v = this.#shared(project('value')) //                                                   [T, B, H, e]
    const alpha = { float: 1 / Math.sqrt(this.#headWidth) }
    const scores = this.#fused(q, k, { transBatchA: 1, transBatchB: 1, transB: 1, alpha }) //     [B, H, T, T]
    const attention = graph.op('Softmax', [graph.op('Add', [scores, 'mask'])], { axis: -1 }) //   [B, H, T, T]
    const mixed = this.#rows(this.#fused(attention, v, { transBatchB: 1 })) //                    [N, d]
    const middle = this.#gemm(mixed, this.#matrix(`${name}.output`), {}, x) //                                  [N, d], the residual added
    const feedForwardNorm = this.#norm(middle, `${name}.feedForwardNorm`) //                      [N, d]
    const gate = graph.op('MatMul', [feedForwardNorm.y, this.#matrix(`${name}.gate`)]) //                       [N, h]
    const up = graph.op('MatMul', [feedForwardNorm.y, this.#matrix(`${name}.up`)]) //                           [N, h]
    const silu = graph.runtimeOp('QuickGelu', [gate], { alpha: { float: 1 } }) //                 [N, h], x·σ(x)
    const product = this.#times(silu, up) //                                                      [N, h]
    const out = this.#gemm(product, this.#matrix(`${name}.down`), {}, middle) //                                [N, d], the residual added
    return { x: out, saved: { x, middle, attentionNorm, feedForwardNorm, q, k, v, attention, mixed, gate, up } }
  }

  /** @param dy - gradient after the block [N, d]. @returns the gradient before it [N, d]. */
  #blockBackward(name: string, saved: Saved, dy: string): string {
    const middle = this.#feedForwardBackward(name, saved, dy)
    return this.#attentionBackward(name, saved, middle)
  }

  #feedForwardBackward(name: string, saved: Saved, dy: string): string {
    const { graph } = this
    // silu and its product are made again: half of what a block would keep, for two products of numbers.
    const sigma = graph.op('Sigmoid', [saved.gate]) //                                            [N, h]
    const silu = this.#times(saved.gate, sigma) //                                                [N, h]
    const dProduct = this.#gemm(dy, this.#matrix(`${name}.down`), { transB: 1 }) //                             [N, h]
    this.#weight(`${name}.down`, this.#times(silu, saved.up), dy)
    const dUp = this.#times(dProduct, silu) //                                                    [N, h]
    // silu′ = σ + silu·(1 − σ) = σ + (silu − silu·σ)
    const slope = graph.op('Add', [graph.op('Sub', [silu, this.#times(silu, sigma)]), sigma]) //  [N, h]
    const dGate = this.#times(this.#times(dProduct, saved.up), slope) //                          [N, h]
    this.#weight(`${name}.gate`, saved.feedForwardNorm.y, dGate)
    this.#weight(`${name}.up`, saved.feedForwardNorm.y, dUp)
    const dNorm = this.#gemm(
      dGate,
      this.#matrix(`${name}.gate`),
      { transB: 1 },
      this.#gemm(dUp, this.#matrix(`${name}.up`), { transB: 1 })
    ) // [N, d]
    return this.#normBackward(dNorm, saved.middle, saved.feedForwardNorm, `${name}.feedForwardNorm`, dy) // [N, d]
  }

  #attentionBackward(name: string, saved: Saved, dy: string): string {
    const { graph } = this
    const { heads: H, context: T } = this.#config
    const dMixed = this.#gemm(dy, this.#matrix(`${name}.output`), { transB: 1 }) //                             [N, d]
    this.#weight(`${name}.output`, saved.mixed, dy)
    // softmax′ needs Σ_j dP·P of each row, which is Σ over the head's width of dMixed·mixed (Dao et al. 2022, §3.1).
    const products = graph.op('Reshape', [
      this.#times(dMixed, saved.mixed),
      graph.integers([T, this.#batch, H, this.#headWidth])
    ])
    const sums = graph.op('ReduceSum', [products, graph.integers([3])], { keepdims: 0 }) //       [T, B, H]
    const row = graph.op('Reshape', [
      graph.op('Transpose', [sums], { perm: [1, 2, 0] }),
      graph.integers([this.#batch, H, T, 1])
    ])
    const dHeads = this.#heads(dMixed) //                                                         [T, B, H, e]
    const dAttention = this.#fused(dHeads, saved.v, { transBatchA: 1, transBatchB: 1, transB: 1 }) // [B, H, T, T]
    const dScores = this.#times(saved.attention, graph.op('Sub', [dAttention, row])) //           [B, H, T, T]
    const alpha = { float: 1 / Math.sqrt(this.#headWidth) }
    const kvHeads = kvHeadsOf(this.#config)
    const dV = this.#unshared(this.#rows(this.#fused(saved.attention, dHeads, { transA: 1, transBatchB: 1 }))) // [N, c]
    const dQ = this.#rotate(this.#rows(this.#fused(dScores, saved.k, { transBatchB: 1, alpha })), 'minusSin', H) // [N, d]
    const kRows = this.#rows(this.#fused(dScores, saved.q, { transA: 1, transBatchB: 1, alpha })) // [N, d]
    const dK = this.#rotate(this.#unshared(kRows), 'minusSin', kvHeads) //                        [N, c]
    this.#weight(`${name}.query`, saved.attentionNorm.y, dQ)
    this.#weight(`${name}.key`, saved.attentionNorm.y, dK)
    this.#weight(`${name}.value`, saved.attentionNorm.y, dV)
    const fromQ = this.#gemm(dQ, this.#matrix(`${name}.query`), { transB: 1 }) //                               [N, d]
    const fromK = this.#gemm(dK, this.#matrix(`${name}.key`), { transB: 1 }, fromQ) //                          [N, d]
    const dNorm = this.#gemm(dV, this.#matrix(`${name}.value`), { transB: 1 }, fromK) //                        [N, d]
    return this.#normBackward(dNorm, saved.x, saved.attentionNorm, `${name}.attentionNorm`, dy) // [N, d]
  }

  // ── parts ──

  /** RMSNorm (Zhang and Sennrich 2019). @returns y = x·inverse·weight [N, d] and inverse [N, 1]. */
  #norm(x: string, weight: string): Normed {
    const [y, inverse] = this.graph.pair('SimplifiedLayerNormalization', [x, weight], {
      axis: -1,
      epsilon: { float: this.#config.normEpsilon }
    })
    return { y, inverse }
  }

  /** @param dy - gradient of the norm's output [N, d]. @param residual - gradient that flows past it [N, d]. @returns [N, d] */
  #normBackward(dy: string, x: string, { inverse }: Normed, weight: string, residual: string | null): string {
    const { graph } = this
    const { width: d } = this.#config
    const products = this.#times(dy, x) //                                                        [N, d]
    const dWeight = this.#fused(inverse, products, { transA: 1 }) //                              [1, d]
    if (this.#trains(weight)) graph.output(`d.${weight}`, graph.op('Reshape', [dWeight, graph.integers([d])]), [d])
    const dots = graph.op('MatMul', [products, graph.op('Reshape', [weight, graph.integers([d, 1])])]) // [N, 1], Σ dy·w·x
    const cubed = this.#times(this.#times(inverse, inverse), inverse) //                          [N, 1]
    const pull = this.#times(this.#times(dots, cubed), graph.scalar(1 / d)) //                    [N, 1]
    const direct = this.#times(this.#times(dy, weight), inverse) //                               [N, d]
    const dx = graph.op('Sub', [direct, this.#times(x, pull)]) //                                 [N, d]
    return residual === null ? dx : graph.op('Add', [dx, residual])
  }

  /**
   * Gradient of a matrix: Xᵀ·dY. Explicit transposes beat Gemm's transA here, and X's is shared by all its matrices.
   * Of its adapters, where those are trained instead: s·Xᵀ·(dY·Bᵀ) and s·(X·A)ᵀ·dY.
   */
  #weight(name: string, x: string, dy: string): void {
    const { graph } = this
    if (this.#trains(name)) graph.output(`d.${name}`, graph.op('MatMul', [this.#transpose(x), dy]), this.#shapeOf(name))
    const adapter = adaptedMatrices(this.#layout).get(name)
    if (adapter === undefined) return
    const { a, b } = adapter
    const alpha = { float: adapterScale(this.#layout.adapters!) }
    const throughB = this.#fused(dy, b, { transB: 1, alpha }) //                                  [N, r]
    graph.output(`d.${a}`, graph.op('MatMul', [this.#transpose(x), throughB]), this.#shapeOf(a))
    const throughA = this.#fused(x, a, { alpha }) //                                              [N, r]
    graph.output(`d.${b}`, graph.op('MatMul', [this.#transpose(throughA), dy]), this.#shapeOf(b))
  }

  /** The matrix that tokens are multiplied with: its own, or with its adapters, which costs less than two products of all tokens with them. */
  #matrix(name: string): string {
    const adapter = adaptedMatrices(this.#layout).get(name)
    if (adapter === undefined) return name
    const known = this.#adapted.get(name)
    if (known !== undefined) return known
    const alpha = { float: adapterScale(this.#layout.adapters!) }
    const made = this.graph.op('Gemm', [adapter.a, adapter.b, name], { alpha }) //                W + s·A·B
    this.#adapted.set(name, made)
    return made
  }

  /** Whether a tensor is trained; what is below adapters is not. */
  #trains(name: string): boolean {
    return this.#layout.tensors.some(tensor => tensor.name === name)
  }

  #transpose(x: string): string {
    const known = this.#transposed.get(x)
    if (known !== undefined) return known
    const made = this.graph.op('Transpose', [x], { perm: [1, 0] })
    this.#transposed.set(x, made)
    return made
  }

  /** RoPE (Su et al. 2021), halves of a head's width paired; its backward pass turns the other way. [N, heads·e] → the same */
  #rotate(x: string, sine: 'sin' | 'minusSin', heads: number): string {
    const { graph } = this
    const columns = heads * this.#headWidth
    const cube = graph.op('Reshape', [x, graph.integers([this.#config.context, this.#batch, columns])])
    const turned = graph.runtimeOp('RotaryEmbedding', [cube, 'positions', 'cos', sine], { num_heads: heads, interleaved: 0 })
    return graph.op('Reshape', [turned, graph.integers([this.#tokens, columns])])
  }

  /** Keys or values, each repeated for the queries that share it: [N, c] → [T, B, H, e]. */
  #shared(x: string): string {
    const { graph } = this
    const { heads } = this.#config
    const kvHeads = kvHeadsOf(this.#config)
    if (kvHeads === heads) return this.#heads(x)
    const one = graph.op('Reshape', [x, graph.integers([this.#tokens, kvHeads, 1, this.#headWidth])])
    const shape = graph.integers([this.#tokens, kvHeads, heads / kvHeads, this.#headWidth])
    return this.#heads(graph.op('Expand', [one, shape]))
  }

  /** The backward pass of `#shared`: the sum over the queries that share a head. [N, d] → [N, c] */
  #unshared(x: string): string {
    const { graph } = this
    const { heads } = this.#config
    const kvHeads = kvHeadsOf(this.#config)
    if (kvHeads === heads) return x
    const parts = graph.op('Reshape', [x, graph.integers([this.#tokens, kvHeads, heads / kvHeads, this.#headWidth])])
    const sums = graph.op('ReduceSum', [parts, graph.integers([2])], { keepdims: 0 }) //          [N, K, e]
    return graph.op('Reshape', [sums, graph.integers([this.#tokens, kvHeads * this.#headWidth])])
  }

  /** [N, d] → [T, B, H, e], a view. */
  #heads(x: string): string {
    return this.graph.op('Reshape', [
      x,
      this.graph.integers([this.#config.context, this.#batch, this.#config.heads, this.#headWidth])
    ])
  }

  /** [B, H, T, e] → [N, d]. */
  #rows(x: string): string {
    const timeMajor = this.graph.op('Transpose', [x], { perm: [2, 0, 1, 3] }) //                  [T, B, H, e]
    return this.graph.op('Reshape', [timeMajor, this.graph.integers([this.#tokens, this.#config.width])])
  }

  #times(a: string, b: string): string {
    return this.graph.op('Mul', [a, b])
  }

  #fused(a: string, b: string, attributes: Record<string, number | { float: number }>): string {
    return this.graph.runtimeOp('FusedMatMul', [a, b], attributes)
  }

  /** a·b (+ c). */
  #gemm(a: string, b: string, attributes: { transB?: number }, c?: string): string {
    return this.graph.op('Gemm', c === undefined ? [a, b] : [a, b, c], attributes)
  }

  #declareInputs(): void {
    const { graph } = this
    graph.input('inputs', 'int32', [this.#tokens])
    graph.input('targets', 'int64', [this.#tokens, 1])
    for (const [name, shape] of this.#shapes) graph.input(name, 'float', shape)
  }

  #shapeOf(name: string): number[] {
    const shape = this.#shapes.get(name)
    assert(shape !== undefined, 'a tensor of the graph is one of the layout', name)
    return shape
  }

  /** Positions, RoPE's turns, and the causal mask. */
  #declareTables(): void {
    const { graph } = this
    const { context: T } = this.#config
    const half = this.#headWidth / 2
    const divisors = ropeDivisors(this.#config)
    const angle = (place: number) => Math.floor(place / half) / divisors[place % half]!
    const table = (turn: (angle: number) => number) => Float32Array.from({ length: T * half }, (_, place) => turn(angle(place)))
    graph.constant('cos', 'float', [T, half], table(Math.cos))
    graph.constant('sin', 'float', [T, half], table(Math.sin))
    graph.constant(
      'minusSin',
      'float',
      [T, half],
      table(value => -Math.sin(value))
    )
    graph.constant(
      'positions',
      'int64',
      [T, this.#batch],
      BigInt64Array.from({ length: this.#tokens }, (_, place) => BigInt(Math.floor(place / this.#batch)))
    )
    const future = (place: number) => (place % T > Math.floor(place / T) ? -1e9 : 0)
    graph.constant(
      'mask',
      'float',
      [1, 1, T, T],
      Float32Array.from({ length: T * T }, (_, place) => future(place))
    )
  }
}
