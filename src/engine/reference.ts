/**
 * The `reference` engine: the model as plain loops in 64-bit numbers, forward and backward. Slow, and the oracle of every other engine;
 * it is held to finite differences itself. Read it next to onnx/step-graph.ts.
 */
import { WorldlmError } from '../errors.ts'
import type { Batch } from '../model/batch.ts'
import { adaptedMatrices, adapterScale } from '../model/adapters.ts'
import { headNameOf, type Layout } from '../model/layout.ts'
import {
  adamw,
  addPull,
  assertBase,
  assertBatch,
  assertState,
  type Engine,
  type EngineOptions,
  type EngineState,
  type OptimizerState,
  type Pull
} from './engine.ts'
import {
  type Block,
  blockBackward,
  blockForward,
  type Matrix,
  matmul,
  normBackward,
  normForward,
  plus,
  transposed
} from './reference-block.ts'

export class ReferenceEngine implements Engine {
  readonly name = 'reference'
  readonly options: EngineOptions
  #parameters: Float32Array
  /** Below adapters; else empty. */
  #base: Float32Array
  #first: Float32Array
  #second: Float32Array
  #steps = 0

  constructor(options: EngineOptions) {
    this.options = options
    this.#parameters = new Float32Array(options.layout.floats)
    this.#base = new Float32Array(options.layout.base?.floats ?? 0)
    this.#first = new Float32Array(options.layout.floats)
    this.#second = new Float32Array(options.layout.floats)
  }

  async loadBase(parameters: Float32Array): Promise<void> {
    assertBase(this.options, parameters)
    this.#base = parameters
  }

  async load(parameters: Float32Array, optimizer?: OptimizerState): Promise<void> {
    assertState(this.options, parameters, optimizer)
    this.#parameters = Float32Array.from(parameters)
    this.#first = Float32Array.from(optimizer?.first ?? new Float32Array(parameters.length))
    this.#second = Float32Array.from(optimizer?.second ?? new Float32Array(parameters.length))
    this.#steps = optimizer?.step ?? 0
  }

  async swap(parameters: Float32Array): Promise<void> {
    assertState(this.options, parameters)
    const own = this.#parameters
    this.#parameters = Float32Array.from(parameters)
    parameters.set(own)
  }

  async step(batch: Batch, learningRate: number, pull?: Pull): Promise<number> {
    const { loss, gradient } = this.#backward(batch)
    if (pull !== undefined) addPull(gradient, this.#parameters, pull)
    const { layout, gradientClip, weightDecay } = this.options
    const norm = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0))
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      throw new WorldlmError(
        'ENGINE_DIVERGED',
        `step ${this.#steps + 1}: the loss is ${loss}, the gradient’s norm ${norm}`,
        'Lower algorithm.learningRate, or check the text for what is no text.'
      )
    }
    const scale = gradientClip > 0 ? Math.min(1, gradientClip / (norm + 1e-6)) : 1
    const step = ++this.#steps
    for (const { shape, offset, floats } of layout.tensors) {
      const decay = shape.length > 1 ? 1 - learningRate * weightDecay : 1
      for (let at = offset; at < offset + floats; at++) {
        const g = gradient[at]! * scale
        this.#first[at] = adamw.beta1 * this.#first[at]! + (1 - adamw.beta1) * g
        this.#second[at] = adamw.beta2 * this.#second[at]! + (1 - adamw.beta2) * g * g
        const m = this.#first[at]! / (1 - adamw.beta1 ** step)
        const v = this.#second[at]! / (1 - adamw.beta2 ** step)
        this.#parameters[at] = this.#parameters[at]! * decay - (learningRate * m) / (Math.sqrt(v) + adamw.epsilon)
      }
    }
    return loss
  }

  async gradient(batch: Batch): Promise<{ loss: number; gradient: Float32Array }> {
    const { loss, gradient } = this.#backward(batch)
    return { loss, gradient: Float32Array.from(gradient) }
  }

  async evaluate(batch: Batch): Promise<Float32Array> {
    assertBatch(this.options, batch)
    const windows = this.options.batch
    return Float32Array.from(Array.from({ length: windows }, (_, window) => [...this.#forward(batch, window).nll]).flat())
  }

  async read(): Promise<EngineState> {
    const optimizer = { first: this.#first.slice(), second: this.#second.slice(), step: this.#steps }
    return { parameters: this.#parameters.slice(), optimizer }
  }

  view(): Promise<EngineState> {
    return this.read()
  }

  async dispose(): Promise<void> {}

  /** As it is computed with: with its adapters, if it has some. */
  #tensor(name: string): Matrix {
    const { layout } = this.options
    const adapter = adaptedMatrices(layout).get(name)
    if (layout.base === undefined) return matrixOf(layout, this.#parameters, name)
    const base = matrixOf(layout.base, this.#base, name)
    if (adapter === undefined) return base
    const [a, b] = [matrixOf(layout, this.#parameters, adapter.a), matrixOf(layout, this.#parameters, adapter.b)]
    return plus(base, scaled(matmul(a, b), adapterScale(layout.adapters!)))
  }

  /** Gradients of what is trained, from those of the model's tensors: dA = s·dW·Bᵀ, dB = s·Aᵀ·dW. */
  *#trained(name: string, values: Float64Array): Generator<[string, Float64Array]> {
    const { layout } = this.options
    if (layout.base === undefined) yield [name, values]
    const adapter = adaptedMatrices(layout).get(name)
    if (adapter === undefined) return
    const [rows, columns] = layout.base!.tensors.find(one => one.name === name)!.shape as [number, number]
    const change = scaled({ rows, columns, data: values }, adapterScale(layout.adapters!))
    const [a, b] = [matrixOf(layout, this.#parameters, adapter.a), matrixOf(layout, this.#parameters, adapter.b)]
    yield [adapter.a, matmul(change, transposed(b)).data]
    yield [adapter.b, matmul(transposed(a), change).data]
  }

  #block(block: number): Block {
    const of = (name: string) => this.#tensor(`blocks.${block}.${name}`)
    const [attentionNorm, query, key, value, output] = [of('attentionNorm'), of('query'), of('key'), of('value'), of('output')]
    return {
      attentionNorm,
      query,
      key,
      value,
      output,
      feedForwardNorm: of('feedForwardNorm'),
      gate: of('gate'),
      up: of('up'),
      down: of('down')
    }
  }

  /** One window. All matrices have a row a token: [T, ·]. */
  #forward({ inputs, targets }: Batch, window: number) {
    const { config } = this.options.layout
    const { context: T, width: d } = config
    const tokens = inputs.subarray(window * T, (window + 1) * T)
    const wanted = targets.subarray(window * T, (window + 1) * T)
    const embedding = this.#tensor('embedding')
    let x: Matrix = { rows: T, columns: d, data: new Float64Array(T * d) }
    for (const [row, token] of tokens.entries()) x.data.set(embedding.data.subarray(token * d, (token + 1) * d), row * d)
    const blocks = Array.from({ length: config.layers }, (_, block) => {
      const done = blockForward(this.#block(block), x, config)
      x = done.out
      return done
    })
    const final = normForward(x, this.#tensor('finalNorm'), config.normEpsilon)
    const head = this.#tensor(headNameOf(config))
    const logits = matmul(final.y, transposed(head))
    const p = logits.data.slice()
    const nll = Float64Array.from(wanted, (target, row) =>
      softmaxRow(p.subarray(row * logits.columns, (row + 1) * logits.columns), target)
    )
    return { tokens, wanted, head, blocks, x, final, p: { ...logits, data: p }, nll }
  }

  #backward(batch: Batch): { loss: number; gradient: Float64Array } {
    const { layout } = this.options
    const { config } = layout
    assertBatch(this.options, batch)
    const windows = this.options.batch
    const gradient = new Float64Array(layout.floats)
    const add = (tensor: string, gradients: Float64Array) => {
      for (const [name, values] of this.#trained(tensor, gradients)) {
        const { offset } = layout.tensors.find(one => one.name === name)!
        for (let at = 0; at < values.length; at++) gradient[offset + at]! += values[at]!
      }
    }
    let loss = 0
    for (let window = 0; window < windows; window++) {
      const { tokens, wanted, head, blocks, x, final, p, nll } = this.#forward(batch, window)
      loss += nll.reduce((sum, value) => sum + value, 0) / batch.inputs.length
      const dLogits: Matrix = { ...p, data: p.data.map(value => value / batch.inputs.length) }
      for (const [row, target] of wanted.entries()) dLogits.data[row * p.columns + target]! -= 1 / batch.inputs.length
      add(headNameOf(config), matmul(transposed(dLogits), final.y).data)
      const out = normBackward(matmul(dLogits, head), x, final, this.#tensor('finalNorm'))
      add('finalNorm', out.dWeight)
      let dx = out.dx
      for (let block = config.layers - 1; block >= 0; block--) {
        const back = blockBackward(this.#block(block), blocks[block]!, dx, config)
        for (const [name, values] of Object.entries(back.weights)) add(`blocks.${block}.${name}`, values)
        dx = back.dx
      }
      const rows = new Float64Array(config.vocabulary * config.width)
      for (const [row, token] of tokens.entries()) {
        for (let column = 0; column < config.width; column++)
          rows[token * config.width + column]! += dx.data[row * config.width + column]!
      }
      add('embedding', rows)
    }
    return { loss, gradient }
  }
}

function matrixOf({ tensors }: Layout, values: Float32Array, name: string): Matrix {
  const { shape, offset, floats } = tensors.find(one => one.name === name)!
  const [rows, columns] = shape.length > 1 ? (shape as [number, number]) : [1, floats]
  return { rows, columns, data: Float64Array.from(values.subarray(offset, offset + floats)) }
}

const scaled = (x: Matrix, factor: number): Matrix => ({ ...x, data: x.data.map(value => value * factor) })

/** softmax in place. @returns −ln p(target), from the logits, which a p of 0 would lose. */
function softmaxRow(row: Float64Array, target: number): number {
  const maximum = row.reduce((most, value) => Math.max(most, value), -Infinity)
  const chosen = row[target]!
  let total = 0
  for (let place = 0; place < row.length; place++) total += row[place] = Math.exp(row[place]! - maximum)
  for (let place = 0; place < row.length; place++) row[place]! /= total
  return maximum + Math.log(total) - chosen
}
