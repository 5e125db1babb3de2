/**
 * One training step as one ONNX graph: forward, loss, and the backward pass derived by hand.
 *
 * Shapes on every line. N = B·T tokens, time-major: row t·B + b. d width, h hidden, H heads, K heads of keys and values, e = d/H,
 * c = K·e, V vocabulary. The head is the embedding, or a tensor of the same shape.
 * Heads are split by a reshape alone, [N, d] → [T, B, H, e].
 *
 * Three gradients are left to kernels outside (adam.as.ts), because ScatterND races with itself on two threads:
 * the head's is `d.HEAD` + scatter(targets, `d.targets`), the embedding's scatter(inputs, `d.embedded`); where they are one, the sum.
 */
import { adaptedMatrices, adapterScale } from '../../model/adapters.ts'
import { headNameOf, headWidthOf, kvHeadsOf, type Layout, type ModelConfig } from '../../model/layout.ts'
import type { EngineOptions } from '../engine.ts'
import { Attention, type Heads } from './attention-graph.ts'
import { Graph } from './graph.ts'
import { lossAndBackward, lossForward } from './loss-graph.ts'
import { type Normed, type Operators, portableOperators, runtimeOperators } from './operators.ts'
import { declareVocabulary, portableEmbedding, portableLoss } from './portable-loss.ts'
import { addUpdate } from './update-graph.ts'

/** What the backward pass of a block needs of its forward pass. */
interface Saved {
  /** Residual stream before the block [N, d], and between its halves. */
  x: string
  middle: string
  attentionNorm: Normed
  feedForwardNorm: Normed
  /** [T, B, H, e] */
  heads: Heads
  /** softmax(QKᵀ/√e), stretch after stretch of rows. */
  weights: string[]
  /** Attention's output [N, d], before its projection. */
  mixed: string
  /** [N, h] */
  gate: string
  up: string
}

export interface StepOptions {
  /**
   * What the backward pass computes again instead of keeping it from the forward pass: nothing, attention's weights and the norms' outputs (a
   * few percent of the time), or whole blocks, of which then only the input is kept (a quarter to a third).
   */
  recompute: NonNullable<EngineOptions['recompute']>
}

/**
 * Forward and backward pass, for onnxruntime's CPU kernels.
 * @param layout - of the model, or of adapters over it. @param batch - windows B.
 * Inputs: `inputs` [N] int32, `targets` [N, 1] int64, each tensor by name, with those of the base where the layout is of adapters.
 * Outputs: `loss` [], and `d.NAME` for each tensor that is trained; `d.embedded` and `d.targets` [N, d] where the model itself is.
 */
export function buildStepGraph(layout: Layout, batch: number, options: StepOptions): Uint8Array {
  const builder = new StepGraph(layout, batch, 'runtime')
  builder.gradients(options)
  return builder.graph.model()
}

/** The forward pass alone. Output: `nll` [N, 1]. */
export function buildEvaluationGraph(layout: Layout, batch: number): Uint8Array {
  const builder = new StepGraph(layout, batch, 'runtime')
  builder.evaluation()
  return builder.graph.model()
}

/**
 * A step out of operators that every provider has, `targets` as int32, whole gradients: with AdamW in the graph (update-graph.ts), pulled or
 * not, or with the gradients as its outputs.
 */
export function buildPortableGraph(
  layout: Layout,
  batch: number,
  kind: 'step' | 'pulled' | 'gradients' | 'evaluation'
): Uint8Array {
  const builder = new StepGraph(layout, batch, 'portable')
  if (kind === 'evaluation') builder.evaluation()
  else if (kind === 'gradients') builder.gradients({ recompute: 'none' })
  else builder.step(kind === 'pulled')
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
  readonly #operators: Operators
  readonly #attention: Attention
  readonly #shapes: Map<string, number[]>
  readonly #transposed = new Map<string, string>()
  readonly #adapted = new Map<string, string>()
  readonly #gradients = new Map<string, string>()

  readonly #kind: 'runtime' | 'portable'

  constructor(layout: Layout, batch: number, kind: 'runtime' | 'portable') {
    const { config } = layout
    this.#kind = kind
    this.#config = config
    this.#batch = batch
    this.#tokens = batch * config.context
    this.#headWidth = headWidthOf(config)
    this.#layout = layout
    this.#operators = kind === 'runtime' ? runtimeOperators(this.graph) : portableOperators(this.graph, this.#headWidth)
    this.#attention = new Attention(this.graph, this.#operators, config)
    this.#shapes = new Map([...(layout.base?.tensors ?? []), ...layout.tensors].map(({ name, shape }) => [name, shape]))
    this.#declareInputs()
    this.#operators.declare(config, batch)
    this.#attention.declare()
    if (kind === 'portable') declareVocabulary(this.graph, config)
  }

  evaluation(): void {
    const { graph } = this
    const final = this.#forward().final.y //                                                      [N, d]
    const nll =
      this.#kind === 'runtime'
        ? lossForward(graph, this.#config, this.#tokens, final)
        : portableLoss(graph, this.#config, this.#tokens, final).nll
    graph.output('nll', nll, [this.#tokens, 1])
  }

  gradients(options: StepOptions): void {
    for (const [name, value] of this.#backward(options))
      this.graph.output(`d.${name}`, value, this.#shapes.get(name) ?? [this.#tokens, this.#config.width])
  }

  step(pulled: boolean): void {
    addUpdate(this.graph, this.#layout, this.#backward({ recompute: 'none' }), pulled)
  }

  #forward(): Forward {
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

  /** @returns gradients of what is trained, by name, in the order in which they can be had. */
  #backward({ recompute }: StepOptions): Map<string, string> {
    const { saved, x, final } = this.#forward()
    const dy = this.#lossBackward(final.y) //                                                     [N, d]
    let dx = this.#normBackward(dy, x, final, 'finalNorm', null) //                               [N, d]
    for (let block = this.#config.layers - 1; block >= 0; block--)
      dx = this.#blockBackward(`blocks.${block}`, this.#recalled(`blocks.${block}`, saved[block]!, recompute), dx)
    if (this.#trains('embedding')) {
      if (this.#kind === 'runtime') this.#gradients.set('embedded', dx)
      else this.#addGradient('embedding', portableEmbedding(this.graph, this.#config, this.#tokens, dx))
    }
    return this.#gradients
  }

  /** @param y - final norm's output [N, d]. @returns its gradient. */
  #lossBackward(y: string): string {
    const { graph } = this
    const head = headNameOf(this.#config)
    const trained = this.#trains(head)
    const portable = this.#kind === 'portable'
    const { nll, dy, dHead, dTargets } = portable
      ? { dTargets: null, ...portableLoss(graph, this.#config, this.#tokens, y) }
      : lossAndBackward(graph, this.#config, this.#tokens, y, trained)
    graph.output('loss', graph.op('ReduceMean', [nll], { keepdims: 0 }), [])
    if (trained) this.#addGradient(head, dHead)
    if (trained && dTargets !== null) this.#gradients.set('targets', dTargets)
    return dy
  }

  #addGradient(name: string, value: string): void {
    const known = this.#gradients.get(name)
    this.#gradients.delete(name)
    this.#gradients.set(name, known === undefined ? value : this.graph.op('Add', [known, value]))
  }

  // ── a block ──

  #block(name: string, x: string): { x: string; saved: Saved } {
    const { graph } = this
    const attentionNorm = this.#norm(x, `${name}.attentionNorm`) //                               [N, d]
    const kvHeads = kvHeadsOf(this.#config)
    const project = (matrix: string) => graph.op('MatMul', [attentionNorm.y, this.#matrix(`${name}.${matrix}`)]) // [N, d] or [N, c]
    const heads = {
      q: this.#heads(this.#rotate(project('query'), 'sin', this.#config.heads)), //               [T, B, H, e]
      k: this.#shared(this.#rotate(project('key'), 'sin', kvHeads)), //                           [T, B, H, e]
      v: this.#shared(project('value')) //                                                        [T, B, H, e]
    }
    const weights = this.#attention.weights(heads)
    const mixed = this.#rows(this.#attention.mixed(weights, heads.v)) //                          [N, d]
    const middle = this.#gemm(mixed, this.#matrix(`${name}.output`), {}, x) //                                  [N, d], the residual added
    const feedForwardNorm = this.#norm(middle, `${name}.feedForwardNorm`) //                      [N, d]
    const gate = graph.op('MatMul', [feedForwardNorm.y, this.#matrix(`${name}.gate`)]) //                       [N, h]
    const up = graph.op('MatMul', [feedForwardNorm.y, this.#matrix(`${name}.up`)]) //                           [N, h]
    const silu = this.#operators.silu(gate) //                                                    [N, h]
    const product = this.#times(silu, up) //                                                      [N, h]
    const out = this.#gemm(product, this.#matrix(`${name}.down`), {}, middle) //                                [N, d], the residual added
    return { x: out, saved: { x, middle, attentionNorm, feedForwardNorm, heads, weights, mixed, gate, up } }
  }

  /** What the backward pass reads, some of it computed again. */
  #recalled(name: string, saved: Saved, recompute: StepOptions['recompute']): Saved {
    switch (recompute) {
      case 'none':
        return saved
      case 'attention':
        return {
          ...saved,
          attentionNorm: this.#norm(saved.x, `${name}.attentionNorm`),
          feedForwardNorm: this.#norm(saved.middle, `${name}.feedForwardNorm`),
          weights: this.#attention.weights(saved.heads)
        }
      case 'blocks':
        return this.#block(name, saved.x).saved
    }
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
    const { heads: H } = this.#config
    const dMixed = this.#gemm(dy, this.#matrix(`${name}.output`), { transB: 1 }) //               [N, d]
    this.#weight(`${name}.output`, saved.mixed, dy)
    const products = this.#heads(this.#times(dMixed, saved.mixed)) //                             [T, B, H, e]
    const sums = graph.op('ReduceSum', [products, graph.integers([3])], { keepdims: 0 }) //       [T, B, H]
    const back = this.#attention.backward(saved.weights, saved.heads, this.#heads(dMixed), sums) // [T, B, H, e] each
    const kvHeads = kvHeadsOf(this.#config)
    const dQ = this.#rotate(this.#rows(back.q), 'minusSin', H) //                                 [N, d]
    const dK = this.#rotate(this.#unshared(this.#rows(back.k)), 'minusSin', kvHeads) //           [N, c]
    const dV = this.#unshared(this.#rows(back.v)) //                                              [N, c]
    this.#weight(`${name}.query`, saved.attentionNorm.y, dQ)
    this.#weight(`${name}.key`, saved.attentionNorm.y, dK)
    this.#weight(`${name}.value`, saved.attentionNorm.y, dV)
    const fromQ = this.#gemm(dQ, this.#matrix(`${name}.query`), { transB: 1 }) //                               [N, d]
    const fromK = this.#gemm(dK, this.#matrix(`${name}.key`), { transB: 1 }, fromQ) //                          [N, d]
    const dNorm = this.#gemm(dV, this.#matrix(`${name}.value`), { transB: 1 }, fromK) //                        [N, d]
    return this.#normBackward(dNorm, saved.x, saved.attentionNorm, `${name}.attentionNorm`, dy) // [N, d]
  }

  // ── parts ──

  #norm(x: string, weight: string): Normed {
    return this.#operators.norm(x, weight, this.#config.normEpsilon)
  }

  /** @param dy - gradient of the norm's output [N, d]. @param residual - gradient that flows past it [N, d]. @returns [N, d] */
  #normBackward(dy: string, x: string, { inverse }: Normed, weight: string, residual: string | null): string {
    const { graph } = this
    const { width: d } = this.#config
    const products = this.#times(dy, x) //                                                        [N, d]
    const dWeight = this.#operators.product(inverse, products, { transA: true }) //                              [1, d]
    if (this.#trains(weight)) this.#addGradient(weight, graph.op('Reshape', [dWeight, graph.integers([d])]))
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
    if (this.#trains(name)) this.#addGradient(name, graph.op('MatMul', [this.#transpose(x), dy]))
    const adapter = adaptedMatrices(this.#layout).get(name)
    if (adapter === undefined) return
    const { a, b } = adapter
    const alpha = adapterScale(this.#layout.adapters!)
    const throughB = this.#operators.product(dy, b, { transB: true, alpha }) //                                  [N, r]
    this.#addGradient(a, graph.op('MatMul', [this.#transpose(x), throughB]))
    const throughA = this.#operators.product(x, a, { alpha }) //                                              [N, r]
    this.#addGradient(b, graph.op('MatMul', [this.#transpose(throughA), dy]))
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

  /** RoPE; its backward pass turns the other way. [N, heads·e] → the same */
  #rotate(x: string, sine: 'sin' | 'minusSin', heads: number): string {
    const { graph } = this
    const columns = heads * this.#headWidth
    const cube = graph.op('Reshape', [x, graph.integers([this.#config.context, this.#batch, columns])])
    return graph.op('Reshape', [this.#operators.rotate(cube, sine, heads), graph.integers([this.#tokens, columns])])
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

  /** [T, B, H, e] → [N, d], a view. */
  #rows(x: string): string {
    return this.graph.op('Reshape', [x, this.graph.integers([this.#tokens, this.#config.width])])
  }

  #times(a: string, b: string): string {
    return this.graph.op('Mul', [a, b])
  }

  /** a·b (+ c). */
  #gemm(a: string, b: string, attributes: { transB?: number }, c?: string): string {
    return this.graph.op('Gemm', c === undefined ? [a, b] : [a, b, c], attributes)
  }

  #declareInputs(): void {
    const { graph } = this
    graph.input('inputs', 'int32', [this.#tokens])
    graph.input('targets', this.#kind === 'runtime' ? 'int64' : 'int32', [this.#tokens, 1])
    for (const [name, shape] of this.#shapes) graph.input(name, 'float', shape)
  }
}
