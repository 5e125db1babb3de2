/**
 * The `onnx` engine: a whole training step is one run of one graph (step-graph.ts) on onnxruntime's CPU kernels, which read the parameters where they
 * lie, and one pass of AdamW over that memory.
 *
 * Gradients come back as the runtime's copies and are dropped after their use. Buffers of ours for them would be written to, and copied all the
 * same: a model's size of memory for nothing.
 *
 * Lives in a worker of its own: it blocks while it computes, and flushing denormals to zero is a setting of the whole thread.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { WorldlmError } from '../../errors.ts'
import type { Batch } from '../../model/batch.ts'
import { headNameOf } from '../../model/layout.ts'
import {
  adamw,
  addPull,
  assertBase,
  assertBatch,
  assertState,
  type Engine,
  type EngineOptions,
  type EngineState,
  microBatchOf,
  type OptimizerState,
  type Pull
} from '../engine.ts'
import { EngineMemory } from './memory.ts'
import { buildEvaluationGraph, buildStepGraph } from './step-graph.ts'

type Feeds = Record<string, Tensor>
/** Of one tensor, in memory that the runtime has copied it to. */
type Gradient = Float32Array<ArrayBuffer>

export class OnnxEngine implements Engine {
  readonly name = 'onnx'
  readonly options: EngineOptions
  /** Of a micro-batch: what a run of a graph computes. */
  readonly #windows: number
  readonly #memory: EngineMemory
  readonly #session: InferenceSession
  readonly #feeds: Feeds
  readonly #wideTargets: BigInt64Array<ArrayBuffer>
  #evaluation: InferenceSession | null = null
  #steps = 0

  private constructor(options: EngineOptions, session: InferenceSession) {
    const { layout } = options
    this.#windows = microBatchOf(options)
    const tokens = this.#windows * layout.config.context
    const memory = new EngineMemory(layout, tokens)
    this.options = options
    this.#session = session
    this.#memory = memory
    this.#wideTargets = new BigInt64Array(tokens)
    this.#feeds = {
      inputs: new Tensor('int32', memory.inputs, [tokens]),
      targets: new Tensor('int64', this.#wideTargets, [tokens, 1])
    }
    for (const { name, shape, offset, floats } of layout.tensors)
      this.#feeds[name] = new Tensor('float32', memory.parameters.subarray(offset, offset + floats), shape)
  }

  static async create(options: EngineOptions): Promise<OnnxEngine> {
    return new OnnxEngine(
      options,
      await openSession(
        buildStepGraph(options.layout, microBatchOf(options), { recompute: options.recompute ?? 'none' }),
        options.threads
      )
    )
  }

  async loadBase(parameters: Float32Array): Promise<void> {
    assertBase(this.options, parameters)
    // The runtime takes no shared memory.
    const own = parameters.buffer instanceof ArrayBuffer ? parameters : Float32Array.from(parameters)
    for (const { name, shape, offset, floats } of this.options.layout.base!.tensors)
      this.#feeds[name] = new Tensor('float32', own.subarray(offset, offset + floats), shape)
  }

  async load(parameters: Float32Array, optimizer?: OptimizerState): Promise<void> {
    assertState(this.options, parameters, optimizer)
    this.#memory.parameters.set(parameters)
    if (optimizer === undefined) {
      this.#memory.first.fill(0)
      this.#memory.second.fill(0)
    } else {
      this.#memory.first.set(optimizer.first)
      this.#memory.second.set(optimizer.second)
    }
    this.#steps = optimizer?.step ?? 0
  }

  async swap(parameters: Float32Array): Promise<void> {
    assertState(this.options, parameters)
    this.#memory.swap(parameters)
  }

  async step(batch: Batch, learningRate: number, pull?: Pull): Promise<number> {
    const { loss, gradients } = await this.#backward(batch)
    try {
      this.#update(loss, gradients, learningRate, pull)
      return loss
    } finally {
      // A model's size, given back at once and not when the collector comes.
      for (const { buffer } of gradients) buffer.transfer(0)
    }
  }

  /** @param gradients - one for each tensor of the layout. @throws {WorldlmError} ENGINE_DIVERGED; nothing has changed then. */
  #update(loss: number, gradients: Gradient[], learningRate: number, pull?: Pull): void {
    const { gradientClip, weightDecay, layout } = this.options
    const { parameters, first, second, kernels } = this.#memory
    let squares = 0
    for (const [place, { offset, floats }] of layout.tensors.entries()) {
      const gradient = gradients[place]!
      if (pull !== undefined) {
        const towards = pull.towards.subarray(offset, offset + floats)
        addPull(gradient, parameters.subarray(offset, offset + floats), { ...pull, towards })
      }
      for (const { at, count } of this.#memory.pieces(gradient)) squares += kernels.sumOfSquares(at, count)
    }
    const norm = Math.sqrt(squares)
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      throw new WorldlmError(
        'ENGINE_DIVERGED',
        `step ${this.#steps + 1}: the loss is ${loss}, the gradient’s norm ${norm}`,
        'Lower algorithm.learningRate, or check the text for what is no text.'
      )
    }
    const scale = gradientClip > 0 ? Math.min(1, gradientClip / (norm + 1e-6)) : 1
    const step = ++this.#steps
    const rate = learningRate / (1 - adamw.beta1 ** step)
    const root = 1 / Math.sqrt(1 - adamw.beta2 ** step)
    for (const [place, { shape, offset }] of layout.tensors.entries()) {
      const decay = shape.length > 1 ? 1 - learningRate * weightDecay : 1
      for (const { at, from, count } of this.#memory.pieces(gradients[place]!)) {
        const byte = (offset + from) * 4
        const [w, m, v] = [parameters.byteOffset + byte, first.byteOffset + byte, second.byteOffset + byte]
        kernels.adamw(w, at, m, v, count, scale, rate, decay, root)
      }
    }
  }

  async gradient(batch: Batch): Promise<{ loss: number; gradient: Float32Array }> {
    const { loss, gradients } = await this.#backward(batch)
    const gradient = new Float32Array(this.options.layout.floats)
    for (const [place, { offset }] of this.options.layout.tensors.entries()) gradient.set(gradients[place]!, offset)
    return { loss, gradient }
  }

  async evaluate(batch: Batch): Promise<Float32Array> {
    const { layout, threads } = this.options
    this.#evaluation ??= await openSession(buildEvaluationGraph(layout, this.#windows), threads)
    const all = new Float32Array(batch.targets.length)
    let place = 0
    for (const micro of this.#microBatches(batch)) {
      this.#place(micro)
      const { nll } = await this.#evaluation.run(this.#feeds, ['nll'])
      all.set(this.#windowMajor(nll?.data as Float32Array), place)
      place += micro.targets.length
    }
    return all
  }

  async read(): Promise<EngineState> {
    const { parameters, first, second } = this.#memory
    return { parameters: parameters.slice(), optimizer: { first: first.slice(), second: second.slice(), step: this.#steps } }
  }

  async view(): Promise<EngineState> {
    const { parameters, first, second } = this.#memory
    return { parameters, optimizer: { first, second, step: this.#steps } }
  }

  async dispose(): Promise<void> {
    await this.#session.release()
    await this.#evaluation?.release()
  }

  /** @returns a gradient for each tensor of the layout: the mean over the batch, accumulated over its micro-batches. */
  async #backward(batch: Batch): Promise<{ loss: number; gradients: Gradient[] }> {
    const [first, ...others] = this.#microBatches(batch)
    const mean = await this.#backwardOf(first!)
    for (const micro of others) {
      const { loss, gradients } = await this.#backwardOf(micro)
      mean.loss += loss
      for (const [place, gradient] of gradients.entries()) {
        const sum = mean.gradients[place]!
        for (let at = 0; at < sum.length; at++) sum[at]! += gradient[at]!
        gradient.buffer.transfer(0)
      }
    }
    if (others.length === 0) return mean
    const share = 1 / (1 + others.length)
    for (const sum of mean.gradients) for (let at = 0; at < sum.length; at++) sum[at]! *= share
    return { ...mean, loss: mean.loss * share }
  }

  #microBatches(batch: Batch): Batch[] {
    // Before anything is computed: the kernels would scatter to wherever a wrong token points.
    assertBatch(this.options, batch)
    const tokens = this.#windows * this.options.layout.config.context
    return Array.from({ length: this.options.batch / this.#windows }, (_, place) => ({
      inputs: batch.inputs.subarray(place * tokens, (place + 1) * tokens),
      targets: batch.targets.subarray(place * tokens, (place + 1) * tokens)
    }))
  }

  async #backwardOf(micro: Batch): Promise<{ loss: number; gradients: Gradient[] }> {
    this.#place(micro)
    const results = await this.#session.run(this.#feeds)
    const values = (name: string) => results[name]!.data as Gradient
    const { config, tensors, base } = this.options.layout
    const { inputs, targets } = this.#memory
    const { width } = config
    const loss = values('loss')[0]!
    // The gradient of an embedding that is not the head is all scattered rows.
    const isGathered = (name: string) => name === 'embedding' && headNameOf(config) !== 'embedding'
    const gradients = tensors.map(({ name, floats }) => (isGathered(name) ? new Float32Array(floats) : values(`d.${name}`)))
    if (base !== undefined) return { loss, gradients }
    addRows(gradients[0]!, inputs, values('d.embedded'), width)
    addRows(gradients[tensors.findIndex(({ name }) => name === headNameOf(config))]!, targets, values('d.targets'), width)
    return { loss, gradients }
  }

  /** Windows come row after row; the graph reads them time-major. */
  #place({ inputs, targets }: Batch): void {
    const windows = this.#windows
    const { context } = this.options.layout.config
    for (let window = 0; window < windows; window++) {
      for (let time = 0; time < context; time++) {
        const target = targets[window * context + time]!
        this.#memory.inputs[time * windows + window] = inputs[window * context + time]!
        this.#memory.targets[time * windows + window] = target
        this.#wideTargets[time * windows + window] = BigInt(target)
      }
    }
  }

  #windowMajor(timeMajor: Float32Array): Float32Array {
    const { context } = this.options.layout.config
    return Float32Array.from(
      { length: timeMajor.length },
      (_, place) => timeMajor[(place % context) * this.#windows + Math.floor(place / context)]!
    )
  }
}

/** For each row r: table[ids[r]] += rows[r]. Shapes: table [·, width], ids [rows], rows [rows, width]. */
function addRows(table: Float32Array, ids: Int32Array, rows: Float32Array, width: number): void {
  for (const [row, id] of ids.entries()) {
    const [to, from] = [id * width, row * width]
    for (let column = 0; column < width; column++) table[to + column]! += rows[from + column]!
  }
}

/** A session with the settings that were measured; it belongs to one thread. */
export function openSession(model: Uint8Array, threads: number): Promise<InferenceSession> {
  return InferenceSession.create(model, {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // 'basic' folds constants; what goes further changes the graph that was measured, and costs seconds at start.
    graphOptimizationLevel: 'basic',
    // A plan of all tensors in one block is larger than the arena that hands them out: 1.8 GB against 1.05 at size M, for no time.
    enableMemPattern: false,
    extra: {
      session: {
        // Late in training, moments of unused rows become denormal, and arithmetic on them is a hundred times slower.
        set_denormal_as_zero: '1',
        // Waiting threads give the core away: peers that share a machine do not spin against each other. Alone it costs 2 %.
        intra_op: { allow_spinning: '0' }
      },
      // It would find what the backward pass is to compute again, and keep it instead.
      optimization: { disable_specified_optimizers: 'CommonSubexpressionElimination' }
    },
    logSeverityLevel: 3
  })
}
