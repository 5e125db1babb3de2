/**
 * The `onnx` engine on a device: `webgpu` (GPUs of any vendor), or `cuda` where its provider is installed. The portable graph of step-graph.ts with
 * AdamW in it: parameters and moments are outputs of a step and inputs of the next. On WebGPU they stay on the device; tokens go there, a loss
 * and a norm come back. Other providers hand them through the host's memory, which is slower and computes the same.
 *
 * On `cpu` it is what tests compare with the reference; the CPU's own engine (onnx-engine.ts) is faster.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { WorldlmError } from '../../errors.ts'
import type { Batch } from '../../model/batch.ts'
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
import { Graph } from './graph.ts'
import { buildPortableGraph } from './step-graph.ts'
import { stateNames } from './update-graph.ts'

export type Device = 'webgpu' | 'cuda' | 'cpu'
type Tensors = Record<string, Tensor>
type Kind = Parameters<typeof buildPortableGraph>[2]

export class DeviceEngine implements Engine {
  readonly name = 'onnx'
  readonly options: EngineOptions
  readonly #device: Device
  readonly #sessions = new Map<Kind | 'read', InferenceSession>()
  /** Parameters and moments: on the host after `load`, where the provider left them after a step. */
  #state: Tensors = {}
  /** Below adapters. */
  #base: Tensors = {}
  #steps = 0

  private constructor(options: EngineOptions, device: Device) {
    this.options = options
    this.#device = device
  }

  /** @throws {WorldlmError} DEVICE_MISSING */
  static async create(options: EngineOptions, device: Device): Promise<DeviceEngine> {
    const engine = new DeviceEngine(options, device)
    await engine.#session('step')
    await engine.load(new Float32Array(options.layout.floats))
    return engine
  }

  async loadBase(parameters: Float32Array): Promise<void> {
    assertBase(this.options, parameters)
    this.#base = split(this.options.layout.base!, parameters, '')
  }

  async load(parameters: Float32Array, optimizer?: OptimizerState): Promise<void> {
    assertState(this.options, parameters, optimizer)
    const { layout } = this.options
    const zeros = optimizer === undefined ? new Float32Array(parameters.length) : null
    this.#replace({
      ...split(layout, parameters, ''),
      ...split(layout, optimizer?.first ?? zeros!, 'first.'),
      ...split(layout, optimizer?.second ?? zeros!, 'second.')
    })
    this.#steps = optimizer?.step ?? 0
  }

  async swap(parameters: Float32Array): Promise<void> {
    assertState(this.options, parameters)
    const own = await this.read()
    const given = split(this.options.layout, parameters, '')
    for (const name of Object.keys(given)) this.#state[name]!.dispose()
    this.#state = { ...this.#state, ...given }
    parameters.set(own.parameters)
  }

  async step(batch: Batch, learningRate: number, pull?: Pull): Promise<number> {
    const { layout, weightDecay, gradientClip } = this.options
    const step = this.#steps + 1
    const session = await this.#session(pull === undefined ? 'step' : 'pulled')
    const results = await session.run({
      ...this.#tokens(batch),
      ...this.#base,
      ...this.#state,
      rate: scalar(learningRate / (1 - adamw.beta1 ** step)),
      root: scalar(1 / Math.sqrt(1 - adamw.beta2 ** step)),
      decay: scalar(learningRate * weightDecay),
      clip: scalar(gradientClip),
      ...(pull !== undefined && { pull: scalar(pull.strength), ...split(layout, pull.towards, 'towards.') })
    })
    const fresh = Object.fromEntries(stateNames(layout).map(name => [name, results[`new.${name}`]!]))
    const [loss, norm] = [Number(results.loss!.data[0]), Number(results.norm!.data[0])]
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      for (const tensor of Object.values(fresh)) tensor.dispose()
      throw new WorldlmError(
        'ENGINE_DIVERGED',
        `step ${step}: the loss is ${loss}, the gradient’s norm ${norm}`,
        'Lower algorithm.learningRate, or check the text for what is no text.'
      )
    }
    this.#replace(fresh)
    this.#steps = step
    return loss
  }

  async gradient(batch: Batch): Promise<{ loss: number; gradient: Float32Array }> {
    const { layout } = this.options
    const session = await this.#session('gradients')
    const results = await session.run({ ...this.#tokens(batch), ...this.#base, ...this.#parameters() })
    return { loss: Number(results.loss!.data[0]), gradient: this.#joined(name => results[`d.${name}`]!, layout.floats) }
  }

  async evaluate(batch: Batch): Promise<Float32Array> {
    const { batch: windows, layout } = this.options
    const { context } = layout.config
    const session = await this.#session('evaluation')
    const { nll } = await session.run({ ...this.#tokens(batch), ...this.#base, ...this.#parameters() })
    const timeMajor = nll!.data as Float32Array
    const place = (at: number) => (at % context) * windows + Math.floor(at / context)
    return Float32Array.from({ length: timeMajor.length }, (_, at) => timeMajor[place(at)]!)
  }

  view(): Promise<EngineState> {
    return this.read()
  }

  async read(): Promise<EngineState> {
    const isHere = Object.values(this.#state).every(({ location }) => location === 'cpu')
    const here = isHere ? this.#state : await (await this.#session('read')).run(this.#state)
    const { floats } = this.options.layout
    const [parameters, first, second] = ['', 'first.', 'second.'].map(prefix =>
      this.#joined(name => here[isHere ? prefix + name : `read.${prefix}${name}`]!, floats)
    ) as [Float32Array, Float32Array, Float32Array]
    return { parameters, optimizer: { first, second, step: this.#steps } }
  }

  async dispose(): Promise<void> {
    this.#replace({})
    for (const session of this.#sessions.values()) await session.release()
    this.#sessions.clear()
  }

  #replace(state: Tensors): void {
    for (const tensor of Object.values(this.#state)) tensor.dispose()
    this.#state = state
  }

  #parameters(): Tensors {
    return Object.fromEntries(this.options.layout.tensors.map(({ name }) => [name, this.#state[name]!]))
  }

  #joined(tensorOf: (name: string) => Tensor, floats: number): Float32Array {
    const flat = new Float32Array(floats)
    for (const { name, offset } of this.options.layout.tensors) flat.set(tensorOf(name).data as Float32Array, offset)
    return flat
  }

  /** Windows come row after row; the graph reads them time-major. */
  #tokens(given: Batch): Tensors {
    assertBatch(this.options, given)
    const { batch: windows, layout } = this.options
    const { context } = layout.config
    const tokens = windows * context
    const timeMajor = (of: Int32Array) =>
      Int32Array.from({ length: tokens }, (_, at) => of[(at % windows) * context + Math.floor(at / windows)]!)
    return {
      inputs: new Tensor('int32', timeMajor(given.inputs), [tokens]),
      targets: new Tensor('int32', timeMajor(given.targets), [tokens, 1])
    }
  }

  async #session(kind: Kind | 'read'): Promise<InferenceSession> {
    const known = this.#sessions.get(kind)
    if (known !== undefined) return known
    const { layout, batch, threads } = this.options
    const model = kind === 'read' ? readGraph(this.options) : buildPortableGraph(layout, batch, kind)
    const stays = this.#device === 'webgpu' && (kind === 'step' || kind === 'pulled')
    const session = await openDevice(model, this.#device, threads, stays ? stateNames(layout).map(name => `new.${name}`) : [])
    this.#sessions.set(kind, session)
    return session
  }
}

const scalar = (value: number): Tensor => new Tensor('float32', Float32Array.of(value), [1])

function split({ tensors }: EngineOptions['layout'], flat: Float32Array, prefix: string): Tensors {
  return Object.fromEntries(
    tensors.map(({ name, shape, offset, floats }) => [
      prefix + name,
      new Tensor('float32', Float32Array.from(flat.subarray(offset, offset + floats)), shape)
    ])
  )
}

/** Brings the state from the device: the runtime for Node reads no tensor there but as a session's output. */
function readGraph({ layout }: EngineOptions): Uint8Array {
  const graph = new Graph()
  for (const { name, shape } of layout.tensors)
    for (const prefix of ['', 'first.', 'second.'])
      graph.output(`read.${prefix}${name}`, graph.input(prefix + name, 'float', shape), shape)
  return graph.model()
}

/** @param staying - outputs that stay on the device. @throws {WorldlmError} DEVICE_MISSING */
async function openDevice(model: Uint8Array, device: Device, threads: number, staying: string[]): Promise<InferenceSession> {
  try {
    return await InferenceSession.create(model, {
      executionProviders: [device],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: 'basic',
      enableMemPattern: false,
      ...(staying.length > 0 && {
        preferredOutputLocation: {
          loss: 'cpu',
          norm: 'cpu',
          ...Object.fromEntries(staying.map(name => [name, 'gpu-buffer' as const]))
        }
      }),
      extra: { session: { set_denormal_as_zero: '1', intra_op: { allow_spinning: '0' } } },
      logSeverityLevel: 3
    })
  } catch (cause) {
    // The runtime names its sources first.
    const why = (cause as Error).message
      .replaceAll(/\s+/g, ' ')
      .trim()
      .split(/was false\. |: with error: /)
      .at(-1)
    throw new WorldlmError(
      'DEVICE_MISSING',
      `onnxruntime finds no device for ${device}: ${why}`,
      device === 'webgpu'
        ? 'WebGPU needs a GPU with a driver for Vulkan (Linux), Direct3D 12 (Windows) or Metal (macOS). Or set engine.device: cpu.'
        : 'CUDA needs onnxruntime’s CUDA libraries beside onnxruntime-node, and CUDA and cuDNN (docs/performance.md). Or set engine.device: cpu.',
      { cause }
    )
  }
}
