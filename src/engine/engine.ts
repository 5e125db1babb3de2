/**
 * What trains a model: one interface, several engines, the same numbers from each (docs/architecture.md, "Engines").
 */
import { assert } from '../errors.ts'
import type { Batch } from '../model/batch.ts'
import type { Layout } from '../model/layout.ts'

/** AdamW's constants (Loshchilov and Hutter 2019), as Llama was trained. */
export const adamw = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 } as const

/** AdamW's moments, each of shape [layout.floats], and the number of steps taken. */
export interface OptimizerState {
  first: Float32Array
  second: Float32Array
  step: number
}

export interface EngineState {
  /** Shape [layout.floats]. */
  parameters: Float32Array
  optimizer: OptimizerState
}

export interface EngineOptions {
  layout: Layout
  /** Windows of every batch that it will be given. */
  batch: number
  /** Threads of the kernels; 1 gives equal bits for equal seeds. */
  threads: number
  /** Decoupled weight decay of matrices; vectors have none. */
  weightDecay: number
  /** Global gradient norm above which the gradient is scaled down; 0: never. */
  gradientClip: number
  /** Where the engine `onnx` computes; default: `cpu`. */
  device?: 'cpu' | 'webgpu' | 'cuda'
  /** Memory for time, on the CPU (onnx/step-graph.ts); default: `none`. */
  recompute?: 'none' | 'attention' | 'blocks'
  /** Windows that are computed at once, at most, on the CPU: gradients are accumulated over a step's batch. 0, the default: all of it. */
  microBatch?: number
  /** Of the engine `external`. */
  external?: ExternalOptions
  /** Something went wrong that is tried again. */
  onWarning?: (code: string, message: string) => void
}

/** A trainer that is a program of its own (docs/trainer-protocol.md). */
export interface ExternalOptions {
  /** Program and arguments. */
  command: string[]
  /** Folder that it runs in, and in which files are exchanged. */
  folder: string
  /** Longest silence before it counts as hanging, milliseconds. */
  silenceMs: number
}

/** A proximal term, λ/2·‖θ − towards‖² added to the loss (Li et al. 2021, Ditto; Li et al. 2020, FedProx). */
export interface Pull {
  /** Shape [layout.floats]. */
  towards: Float32Array
  /** λ ≥ 0. */
  strength: number
}

/** gradient ← gradient + λ·(θ − towards), in place. */
export function addPull(gradient: Float32Array | Float64Array, parameters: Float32Array, { towards, strength }: Pull): void {
  for (let place = 0; place < gradient.length; place++) gradient[place]! += strength * (parameters[place]! - towards[place]!)
}

export interface Engine {
  readonly name: 'onnx' | 'tfjs' | 'external' | 'reference'
  readonly options: EngineOptions
  /**
   * Of an engine whose layout is of adapters: the model below them, before anything is computed, and again where another is to be adapted.
   * @param parameters - shape [layout.base.floats]; kept without a copy where that can be, so it must not change.
   */
  loadBase(parameters: Float32Array): Promise<void>
  /** Parameters of shape [layout.floats], copied. Without `optimizer` the moments start at 0. */
  load(parameters: Float32Array, optimizer?: OptimizerState): Promise<void>
  /** Exchanges the parameters for others, in place: `parameters` are the engine's own afterwards. Moments stay; so another model is evaluated. */
  swap(parameters: Float32Array): Promise<void>
  /** One AdamW step. @returns the mean loss before it, nats a token, without the proximal term. */
  step(batch: Batch, learningRate: number, pull?: Pull): Promise<number>
  /**
   * Many steps in one call, for engines that are far away: as `step` for each, all or nothing.
   * @param onStep - as they are done. @returns the losses. @throws the signal's reason
   */
  steps?(
    batches: Batch[],
    learningRates: number[],
    onStep: (step: number, loss: number) => void,
    signal?: AbortSignal
  ): Promise<number[]>
  /** Gradient of the mean loss, shape [layout.floats], unclipped; changes nothing. For tests. */
  gradient(batch: Batch): Promise<{ loss: number; gradient: Float32Array }>
  /** @returns −ln p(target) of every token, shape [windows × context]. */
  evaluate(batch: Batch): Promise<Float32Array>
  /** Many batches in one call, for engines that are far away: as `evaluate` for each. @throws the signal's reason */
  evaluations?(batches: Batch[], signal?: AbortSignal): Promise<Float32Array[]>
  /** Copies of the parameters and the optimizer's state; zeros before anything was loaded. */
  read(): Promise<EngineState>
  /** As `read`, without the copies where that can be: not to be written to, and gone with the next call. */
  view(): Promise<EngineState>
  dispose(): Promise<void>
}

/** Windows that are computed at once: as many as may be, and equally many each time. */
export function microBatchOf({ batch, microBatch = 0 }: Pick<EngineOptions, 'batch' | 'microBatch'>): number {
  let windows = microBatch === 0 ? batch : Math.min(batch, microBatch)
  while (batch % windows > 0) windows--
  return windows
}

/** @throws {AssertionError} unless the batch has the engine's shape and knows only the model's tokens. */
export function assertBatch({ layout, batch }: EngineOptions, given: Batch): void {
  const { context, vocabulary } = layout.config
  for (const name of ['inputs', 'targets'] as const) {
    const tokens = given[name]
    assert(tokens.length === batch * context, 'a batch has the windows that its engine was made for', {
      name,
      got: tokens.length
    })
    const stranger = tokens.find(token => token < 0 || token >= vocabulary)
    assert(stranger === undefined, 'a token is of the vocabulary', { name, token: stranger })
  }
}

/** @throws {AssertionError} unless the engine's layout is of adapters, and this is the model below them. */
export function assertBase({ layout }: EngineOptions, parameters: Float32Array): void {
  assert(layout.base !== undefined, 'only adapters have a base')
  assert(parameters.length === layout.base.floats, 'a base is as long as its layout', { got: parameters.length })
}

/** @throws {AssertionError} unless all are as long as the layout. */
export function assertState({ layout }: EngineOptions, parameters: Float32Array, optimizer?: OptimizerState): void {
  for (const values of [parameters, optimizer?.first ?? parameters, optimizer?.second ?? parameters])
    assert(values.length === layout.floats, 'what is loaded is as long as the layout', {
      got: values.length,
      want: layout.floats
    })
}
