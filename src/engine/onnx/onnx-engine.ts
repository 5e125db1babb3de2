/**
 * The `onnx` engine: a whole training step is one run of one graph (step-graph.ts) on onnxruntime's CPU kernels, and one pass of AdamW
 * over the same memory. Nothing is copied between them.
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
  type OptimizerState,
  type Pull
} from '../engine.ts'
import { EngineMemory } from './memory.ts'
import { buildEvaluationGraph, buildStepGraph } from './step-graph.ts'

type Feeds = Record<string, Tensor>

export class OnnxEngine implements Engine {
  readonly name = 'onnx'
  readonly options: EngineOptions
  readonly #memory: EngineMemory
  readonly #session: InferenceSession
  readonly #feeds: Feeds
  readonly #fetches: Feeds
  readonly #loss = new Float32Array(1)
  readonly #wideTargets: BigInt64Array<ArrayBuffer>
  #evaluation: InferenceSession | null = null
  #steps = 0

  private constructor(options: EngineOptions, session: InferenceSession) {
    const { layout, batch } = options
    const { width, context } = layout.config
    const tokens = batch * context
    const memory = new EngineMemory(layout, tokens)
    this.options = options
    this.#session = session
    this.#memory = memory
    this.#wideTargets = new BigInt64Array(tokens)
    this.#feeds = {
      inputs: new Tensor('int32', memory.inputs, [tokens]),
      targets: new Tensor('int64', this.#wideTargets, [tokens, 1])
    }
    this.#fetches = { loss: new Tensor('float32', this.#loss, []) }
    if (layout.base === undefined) {
      this.#fetches['d.embedded'] = new Tensor('float32', memory.embedded, [tokens, width])
      this.#fetches['d.targets'] = new Tensor('float32', memory.targeted, [tokens, width])
    }
    for (const { name, shape, offset, floats } of layout.tensors) {
      this.#feeds[name] = new Tensor('float32', memory.parameters.subarray(offset, offset + floats), shape)
      // The gradient of an embedding that is not the head is all scattered rows.
      if (name === 'embedding' && headNameOf(layout.config) !== 'embedding') continue
      this.#fetches[`d.${name}`] = new Tensor('float32', memory.gradient.subarray(offset, offset + floats), shape)
    }
  }

  static async create(options: EngineOptions): Promise<OnnxEngine> {
    return new OnnxEngine(options, await openSession(buildStepGraph(options.layout, options.batch), options.threads))
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

  async step(batch: Batch, learningRate: number, pull?: Pull): Promise<number> {
    const loss = await this.#backward(batch)
    const { parameters, gradient, first, second, kernels } = this.#memory
    if (pull !== undefined) addPull(gradient, parameters, pull)
    const { gradientClip, weightDecay, layout } = this.options
    const norm = Math.sqrt(kernels.sumOfSquares(gradient.byteOffset, gradient.length))
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
    for (const { shape, offset, floats } of layout.tensors) {
      const decay = shape.length > 1 ? 1 - learningRate * weightDecay : 1
      const at = offset * 4
      kernels.adamw(
        parameters.byteOffset + at,
        gradient.byteOffset + at,
        first.byteOffset + at,
        second.byteOffset + at,
        floats,
        scale,
        rate,
        decay,
        root
      )
    }
    return loss
  }

  async gradient(batch: Batch): Promise<{ loss: number; gradient: Float32Array }> {
    const loss = await this.#backward(batch)
    return { loss, gradient: this.#memory.gradient.slice() }
  }

  async evaluate(batch: Batch): Promise<Float32Array> {
    const { layout, batch: windows, threads } = this.options
    this.#evaluation ??= await openSession(buildEvaluationGraph(layout, windows), threads)
    this.#place(batch)
    const { nll } = await this.#evaluation.run(this.#feeds, ['nll'])
    return this.#windowMajor(nll?.data as Float32Array)
  }

  async read(): Promise<{ parameters: Float32Array; optimizer: OptimizerState }> {
    const { parameters, first, second } = this.#memory
    return { parameters: parameters.slice(), optimizer: { first: first.slice(), second: second.slice(), step: this.#steps } }
  }

  async dispose(): Promise<void> {
    await this.#session.release()
    await this.#evaluation?.release()
  }

  async #backward(batch: Batch): Promise<number> {
    this.#place(batch)
    await this.#session.run(this.#feeds, this.#fetches)
    const { gradient, embedded, targeted, inputs, targets, kernels } = this.#memory
    const { config, tensors, base } = this.options.layout
    if (base !== undefined) return this.#loss[0]!
    const head = tensors.find(({ name }) => name === headNameOf(config))!
    // The embedding is the first tensor.
    if (head.offset > 0) gradient.fill(0, 0, config.vocabulary * config.width)
    kernels.scatterAdd(gradient.byteOffset, inputs.byteOffset, embedded.byteOffset, inputs.length, config.width)
    const rows = gradient.byteOffset + head.offset * 4
    kernels.scatterAdd(rows, targets.byteOffset, targeted.byteOffset, targets.length, config.width)
    return this.#loss[0]!
  }

  /** Windows come row after row; the graph reads them time-major. */
  #place(given: Batch): void {
    // Before anything is computed: the kernels would scatter to wherever a wrong token points.
    assertBatch(this.options, given)
    const { inputs, targets } = given
    const { batch, layout } = this.options
    const { context } = layout.config
    for (let window = 0; window < batch; window++) {
      for (let time = 0; time < context; time++) {
        const target = targets[window * context + time]!
        this.#memory.inputs[time * batch + window] = inputs[window * context + time]!
        this.#memory.targets[time * batch + window] = target
        this.#wideTargets[time * batch + window] = BigInt(target)
      }
    }
  }

  #windowMajor(timeMajor: Float32Array): Float32Array {
    const { batch, layout } = this.options
    const { context } = layout.config
    return Float32Array.from(
      { length: timeMajor.length },
      (_, place) => timeMajor[(place % context) * batch + Math.floor(place / context)]!
    )
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
      }
    },
    logSeverityLevel: 3
  })
}
