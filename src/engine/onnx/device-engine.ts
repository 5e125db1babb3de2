/**
 * The `onnx` engine on a device: `webgpu` (GPUs of any vendor), or `cuda` where its provider is installed. The portable graph of step-graph.ts with
 * AdamW in it: parameters and moments are outputs of a step and inputs of the next. On WebGPU they stay on the device; tokens go there, a loss
 * and a norm come back. What is evaluated, or lies below adapters, goes there once, and the own parameters stay there meanwhile. Other
 * providers hand them through the host's memory, which is slower and computes the same.
 *
 * On `cpu` it is what tests compare with the reference; the CPU's own engine (onnx-engine.ts) is faster.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { WorldlmError } from '../../errors.ts'
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
import { Graph } from './graph.ts'
import { buildPortableGraph } from './step-graph.ts'
import { stateNames } from './update-graph.ts'

export type Device = 'webgpu' | 'cuda' | 'cpu'
type Tensors = Record<string, Tensor>
type Computing = Parameters<typeof buildPortableGraph>[2]
type Kind = Computing | 'place' | 'place base' | 'read parameters' | 'read moments'

interface Held {
  /** As sessions take them: on the host after `load`, or where the provider left them after a step. */
  tensors: Tensors
  /** The same on the host, in a layout's order; null: not known, or joined from tensors that lie there. */
  floats: Float32Array | null
}

const none: Held = { tensors: {}, floats: null }
const moments = ['first.', 'second.']

export class DeviceEngine implements Engine {
  readonly name = 'onnx'
  readonly options: EngineOptions
  readonly #device: Device
  readonly #sessions = new Map<Kind, InferenceSession>()
  #held = none
  /** The own parameters, while others are evaluated in their place. */
  #aside: Held | null = null
  #moments: Tensors = {}
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
    const { base } = this.options.layout
    disposeAll(this.#base)
    this.#base = await this.#placed(split(base!, parameters, ''), 'place base')
  }

  async load(parameters: Float32Array, optimizer?: OptimizerState): Promise<void> {
    assertState(this.options, parameters, optimizer)
    const { layout } = this.options
    const zeros = optimizer === undefined ? new Float32Array(parameters.length) : null
    this.#replace({ tensors: split(layout, parameters, ''), floats: null })
    this.#replaceMoments({
      ...split(layout, optimizer?.first ?? zeros!, 'first.'),
      ...split(layout, optimizer?.second ?? zeros!, 'second.')
    })
    this.#steps = optimizer?.step ?? 0
  }

  async swap(parameters: Float32Array): Promise<void> {
    assertState(this.options, parameters)
    const own = await this.#floats()
    if (this.#aside !== null && equalFloats(await this.#floats(this.#aside), parameters)) {
      disposeAll(this.#held.tensors)
      this.#held = this.#aside
      this.#aside = null
    } else {
      if (this.#aside === null) this.#aside = this.#held
      else disposeAll(this.#held.tensors)
      this.#held = { tensors: split(this.options.layout, parameters, ''), floats: null }
    }
    parameters.set(own)
  }

  async step(batch: Batch, learningRate: number, pull?: Pull): Promise<number> {
    const { layout, weightDecay, gradientClip } = this.options
    const step = this.#steps + 1
    const session = await this.#session(pull === undefined ? 'step' : 'pulled')
    const results = await session.run({
      ...this.#tokens(batch),
      ...this.#base,
      ...this.#held.tensors,
      ...this.#moments,
      rate: scalar(learningRate / (1 - adamw.beta1 ** step)),
      root: scalar(1 / Math.sqrt(1 - adamw.beta2 ** step)),
      decay: scalar(learningRate * weightDecay),
      clip: scalar(gradientClip),
      ...(pull !== undefined && { pull: scalar(pull.strength), ...split(layout, pull.towards, 'towards.') })
    })
    const fresh = (prefix: string) =>
      Object.fromEntries(layout.tensors.map(({ name }) => [prefix + name, results[`new.${prefix}${name}`]!]))
    const [parameters, first, second] = ['', ...moments].map(fresh) as [Tensors, Tensors, Tensors]
    const [loss, norm] = [Number(results.loss!.data[0]), Number(results.norm!.data[0])]
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      disposeAll({ ...parameters, ...first, ...second })
      throw new WorldlmError(
        'ENGINE_DIVERGED',
        `step ${step}: the loss is ${loss}, the gradient’s norm ${norm}`,
        'Lower algorithm.learningRate, or check the text for what is no text.'
      )
    }
    this.#replace({ tensors: parameters, floats: null })
    this.#replaceMoments({ ...first, ...second })
    this.#steps = step
    return loss
  }

  async gradient(batch: Batch): Promise<{ loss: number; gradient: Float32Array }> {
    const { layout } = this.options
    const session = await this.#session('gradients')
    const results = await session.run({ ...this.#tokens(batch), ...this.#base, ...(await this.#parameters()) })
    return { loss: Number(results.loss!.data[0]), gradient: this.#joined(name => results[`d.${name}`]!, layout.floats) }
  }

  async evaluate(batch: Batch): Promise<Float32Array> {
    const { batch: windows, layout } = this.options
    const { context } = layout.config
    const session = await this.#session('evaluation')
    const { nll } = await session.run({ ...this.#tokens(batch), ...this.#base, ...(await this.#parameters()) })
    const timeMajor = nll!.data as Float32Array
    const place = (at: number) => (at % context) * windows + Math.floor(at / context)
    return Float32Array.from({ length: timeMajor.length }, (_, at) => timeMajor[place(at)]!)
  }

  view(): Promise<EngineState> {
    return this.read()
  }

  async read(): Promise<EngineState> {
    const parameters = Float32Array.from(await this.#floats())
    const { layout } = this.options
    const both = isHere(this.#moments)
      ? moments.map(prefix => this.#joined(name => this.#moments[prefix + name]!, layout.floats))
      : await this.#brought('read moments', this.#moments, moments)
    const [first, second] = both as [Float32Array, Float32Array]
    return { parameters, optimizer: { first, second, step: this.#steps } }
  }

  async dispose(): Promise<void> {
    this.#replace(none)
    this.#replaceMoments({})
    disposeAll(this.#base)
    this.#base = {}
    for (const session of this.#sessions.values()) await session.release()
    this.#sessions.clear()
  }

  #replace(held: Held): void {
    disposeAll(this.#held.tensors)
    if (this.#aside !== null) disposeAll(this.#aside.tensors)
    this.#aside = null
    this.#held = held
  }

  #replaceMoments(fresh: Tensors): void {
    disposeAll(this.#moments)
    this.#moments = fresh
  }

  /** For what is computed more than once. */
  async #parameters(): Promise<Tensors> {
    const { tensors } = this.#held
    if (this.#device !== 'webgpu' || !isHere(tensors)) return tensors
    const floats = await this.#floats()
    this.#held = { tensors: await this.#placed(tensors, 'place'), floats }
    return this.#held.tensors
  }

  /** On the device, where tensors can stay there: given to each run from the host, they would go there each time. */
  async #placed(tensors: Tensors, kind: 'place' | 'place base'): Promise<Tensors> {
    if (this.#device !== 'webgpu') return tensors
    const results = await (await this.#session(kind)).run(tensors)
    return Object.fromEntries(Object.keys(tensors).map(name => [name, results[`placed.${name}`]!]))
  }

  /** On the host, not to be written to. */
  async #floats(held: Held = this.#held): Promise<Float32Array> {
    const { tensors } = held
    if (held.floats !== null) return held.floats
    if (isHere(tensors)) return this.#joined(name => tensors[name]!, this.options.layout.floats)
    const [floats] = await this.#brought('read parameters', tensors, [''])
    held.floats = floats!
    return floats!
  }

  /** Brings tensors from the device: the runtime for Node reads none there but as a session's output. */
  async #brought(kind: 'read parameters' | 'read moments', tensors: Tensors, prefixes: string[]): Promise<Float32Array[]> {
    const here = await (await this.#session(kind)).run(tensors)
    return prefixes.map(prefix => this.#joined(name => here[`read.${prefix}${name}`]!, this.options.layout.floats))
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

  async #session(kind: Kind): Promise<InferenceSession> {
    const known = this.#sessions.get(kind)
    if (known !== undefined) return known
    const { threads } = this.options
    const { model, staying } = this.#modelOf(kind)
    const session = await openDevice(model, this.#device, threads, this.#device === 'webgpu' ? staying : [])
    this.#sessions.set(kind, session)
    return session
  }

  #modelOf(kind: Kind): { model: Uint8Array; staying: string[] } {
    const { layout, batch } = this.options
    switch (kind) {
      case 'place':
      case 'place base': {
        const { tensors } = kind === 'place' ? layout : layout.base!
        return { model: placeGraph(tensors), staying: tensors.map(({ name }) => `placed.${name}`) }
      }
      case 'read parameters':
      case 'read moments':
        return { model: readGraph(layout, kind === 'read moments' ? moments : ['']), staying: [] }
      case 'step':
      case 'pulled':
        return { model: buildPortableGraph(layout, batch, kind), staying: stateNames(layout).map(name => `new.${name}`) }
      case 'gradients':
      case 'evaluation':
        return { model: buildPortableGraph(layout, batch, kind), staying: [] }
    }
  }
}

const isHere = (tensors: Tensors): boolean => Object.values(tensors).every(({ location }) => location === 'cpu')

function disposeAll(tensors: Tensors): void {
  for (const tensor of Object.values(tensors)) tensor.dispose()
}

const equalFloats = (a: Float32Array, b: Float32Array): boolean =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength))

const scalar = (value: number): Tensor => new Tensor('float32', Float32Array.of(value), [1])

function split({ tensors }: EngineOptions['layout'], flat: Float32Array, prefix: string): Tensors {
  return Object.fromEntries(
    tensors.map(({ name, shape, offset, floats }) => [
      prefix + name,
      new Tensor('float32', Float32Array.from(flat.subarray(offset, offset + floats)), shape)
    ])
  )
}

function placeGraph(tensors: Layout['tensors']): Uint8Array {
  const graph = new Graph()
  for (const { name, shape } of tensors) graph.output(`placed.${name}`, graph.input(name, 'float', shape), shape)
  return graph.model()
}

function readGraph({ tensors }: Layout, prefixes: string[]): Uint8Array {
  const graph = new Graph()
  for (const { name, shape } of tensors)
    for (const prefix of prefixes) graph.output(`read.${prefix}${name}`, graph.input(prefix + name, 'float', shape), shape)
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
          ...(staying.some(name => name.startsWith('new.')) && { loss: 'cpu', norm: 'cpu' }),
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
