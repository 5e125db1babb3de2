/**
 * The `tfjs` engine: the same model on TensorFlow.js, for who lives in its ecosystem or has its GPU package. Weights and AdamW's moments stay
 * on its backend; losses come back each step. The reference engine is its oracle.
 */
import type { Tensor, Tensor2D, TensorContainer } from '@tensorflow/tfjs'
import { WorldlmError } from '../../errors.ts'
import { adaptedMatrices, adapterScale } from '../../model/adapters.ts'
import type { Batch } from '../../model/batch.ts'
import type { Layout } from '../../model/layout.ts'
import {
  adamw,
  assertBase,
  assertBatch,
  assertState,
  type Engine,
  type EngineOptions,
  type EngineState,
  type OptimizerState,
  type Pull
} from '../engine.ts'
import { TensorflowModel, type Weights } from './model.ts'
import { loadTensorflow, type Tensorflow, type TensorflowPackage, withinMemory } from './runtime.ts'

export class TfjsEngine implements Engine {
  readonly name = 'tfjs'
  readonly options: EngineOptions
  /** Which of TensorFlow.js's packages computes. */
  readonly runtime: TensorflowPackage
  readonly #tf: Tensorflow
  readonly #model: TensorflowModel
  #weights: Weights = {}
  /** Below adapters; else empty. */
  #base: Weights = {}
  #first: Weights = {}
  #second: Weights = {}
  #steps = 0

  private constructor(options: EngineOptions, tf: Tensorflow, runtime: TensorflowPackage) {
    this.options = options
    this.runtime = runtime
    this.#tf = tf
    this.#model = new TensorflowModel(tf, options.layout.config, options.batch)
  }

  /** @throws {WorldlmError} ENGINE_MISSING */
  static async create(options: EngineOptions, wanted?: TensorflowPackage): Promise<TfjsEngine> {
    const { tf, name } = await loadTensorflow(options.threads, wanted)
    const engine = new TfjsEngine(options, tf, name)
    await engine.load(new Float32Array(options.layout.floats))
    return engine
  }

  async loadBase(parameters: Float32Array): Promise<void> {
    assertBase(this.options, parameters)
    this.#tf.dispose(this.#base)
    this.#base = this.#place(parameters, this.options.layout.base!)
  }

  async load(parameters: Float32Array, optimizer?: OptimizerState): Promise<void> {
    assertState(this.options, parameters, optimizer)
    this.#forget()
    const zeros = optimizer === undefined ? new Float32Array(parameters.length) : null
    this.#weights = this.#place(parameters)
    this.#first = this.#place(optimizer?.first ?? zeros!)
    this.#second = this.#place(optimizer?.second ?? zeros!)
    this.#steps = optimizer?.step ?? 0
  }

  async swap(parameters: Float32Array): Promise<void> {
    assertState(this.options, parameters)
    const [own, ownWeights] = [await this.#read(this.#weights), this.#weights]
    this.#weights = this.#place(parameters)
    this.#tf.dispose(ownWeights)
    parameters.set(own)
  }

  async step(batch: Batch, learningRate: number, pull?: Pull): Promise<number> {
    const tf = this.#tf
    const { loss, gradients } = this.#backward(batch)
    if (pull !== undefined) this.#addPull(gradients, pull)
    try {
      const norm = Math.sqrt(await read(tf.tidy(() => tf.addN(Object.values(gradients).map(g => tf.sum(tf.square(g)))))))
      const value = await read(loss)
      if (!Number.isFinite(value) || !Number.isFinite(norm)) {
        throw new WorldlmError(
          'ENGINE_DIVERGED',
          `step ${this.#steps + 1}: the loss is ${value}, the gradient’s norm ${norm}`,
          'Lower algorithm.learningRate, or check the text for what is no text.'
        )
      }
      const { gradientClip } = this.options
      this.#update(gradients, gradientClip > 0 ? Math.min(1, gradientClip / (norm + 1e-6)) : 1, learningRate)
      return value
    } finally {
      tf.dispose(gradients)
    }
  }

  async gradient(batch: Batch): Promise<{ loss: number; gradient: Float32Array }> {
    const { loss, gradients } = this.#backward(batch)
    const gradient = await this.#read(gradients)
    this.#tf.dispose(gradients)
    return { loss: await read(loss), gradient }
  }

  async evaluate(batch: Batch): Promise<Float32Array> {
    assertBatch(this.options, batch)
    const nll = this.#tidy(() => this.#model.nll(this.#whole(this.#weights), batch.inputs, batch.targets))
    const values = (await nll.data()) as Float32Array
    nll.dispose()
    return values
  }

  view(): Promise<EngineState> {
    return this.read()
  }

  async read(): Promise<EngineState> {
    const [parameters, first, second] = [
      await this.#read(this.#weights),
      await this.#read(this.#first),
      await this.#read(this.#second)
    ]
    return { parameters, optimizer: { first, second, step: this.#steps } }
  }

  async dispose(): Promise<void> {
    this.#forget()
    this.#tf.dispose(this.#base)
    this.#model.dispose()
  }

  #backward(batch: Batch): { loss: Tensor; gradients: Weights } {
    assertBatch(this.options, batch)
    const tf = this.#tf
    const names = Object.keys(this.#weights)
    return this.#tidy(() => {
      const lossOf = (...weights: Tensor[]) => {
        const named = Object.fromEntries(names.map((name, place) => [name, weights[place]!]))
        return tf.mean(this.#model.nll(this.#whole(named), batch.inputs, batch.targets))
      }
      const { value, grads } = tf.valueAndGrads(lossOf)(names.map(name => this.#weights[name]!))
      return { loss: value, gradients: Object.fromEntries(names.map((name, place) => [name, grads[place]!])) }
    })
  }

  #tidy<Result extends TensorContainer>(work: () => Result): Result {
    const { batch, layout } = this.options
    const what = `a batch of ${batch * layout.config.context} tokens for ${layout.floats} parameters`
    return withinMemory(what, () => this.#tf.tidy(work))
  }

  /** gradient ← gradient + λ·(θ − towards) */
  #addPull(gradients: Weights, { towards, strength }: Pull): void {
    const tf = this.#tf
    for (const { name, shape, offset, floats } of this.options.layout.tensors) {
      const before = gradients[name]!
      gradients[name] = tf.tidy(() => {
        const away = tf.sub(this.#weights[name]!, tf.tensor(towards.slice(offset, offset + floats), shape))
        return tf.add(before, tf.mul(away, strength))
      })
      before.dispose()
    }
  }

  /** One pass of AdamW, as adam.as.ts has it. */
  #update(gradients: Weights, scale: number, learningRate: number): void {
    const tf = this.#tf
    const step = ++this.#steps
    const rate = learningRate / (1 - adamw.beta1 ** step)
    const root = 1 / Math.sqrt(1 - adamw.beta2 ** step)
    for (const { name, shape } of this.options.layout.tensors) {
      const decay = shape.length > 1 ? 1 - learningRate * this.options.weightDecay : 1
      const [first, second, weight] = this.#tidy(() => {
        const g = tf.mul(gradients[name]!, scale)
        const m = tf.add(tf.mul(this.#first[name]!, adamw.beta1), tf.mul(g, 1 - adamw.beta1))
        const v = tf.add(tf.mul(this.#second[name]!, adamw.beta2), tf.mul(tf.square(g), 1 - adamw.beta2))
        const change = tf.div(tf.mul(m, rate), tf.add(tf.mul(tf.sqrt(v), root), adamw.epsilon))
        return [m, v, tf.sub(tf.mul(this.#weights[name]!, decay), change)] as [Tensor, Tensor, Tensor]
      })
      for (const [set, value] of [
        [this.#first, first],
        [this.#second, second],
        [this.#weights, weight]
      ] as const) {
        set[name]!.dispose()
        set[name] = value
      }
    }
  }

  #place(flat: Float32Array, { tensors }: Pick<Layout, 'tensors'> = this.options.layout): Weights {
    return Object.fromEntries(
      tensors.map(({ name, shape, offset, floats }) => [name, this.#tf.tensor(flat.slice(offset, offset + floats), shape)])
    )
  }

  async #read(tensors: Weights): Promise<Float32Array> {
    const flat = new Float32Array(this.options.layout.floats)
    for (const { name, offset } of this.options.layout.tensors) flat.set(await tensors[name]!.data(), offset)
    return flat
  }

  #forget(): void {
    for (const set of [this.#weights, this.#first, this.#second]) this.#tf.dispose(set)
  }

  /** The model's tensors: what is trained, or what is below with its adapters, W + s·A·B. */
  #whole(trained: Weights): Weights {
    const tf = this.#tf
    const { layout } = this.options
    if (layout.base === undefined) return trained
    const adapted = { ...this.#base }
    for (const [name, { a, b }] of adaptedMatrices(layout)) {
      const change = tf.matMul(trained[a] as Tensor2D, trained[b] as Tensor2D)
      adapted[name] = tf.add(this.#base[name]!, tf.mul(change, adapterScale(layout.adapters!)))
    }
    return adapted
  }
}

/** A scalar's value; the tensor is gone afterwards. */
async function read(scalar: Tensor): Promise<number> {
  const [value] = await scalar.data()
  scalar.dispose()
  return value!
}
