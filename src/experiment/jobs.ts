/** What an experiment asks of its worker threads. Models lie on shared memory: a job reads and writes them in place, nothing is copied. */
import type { Pull } from '../engine/engine.ts'
import type { Evaluated, SessionOptions } from '../train/session.ts'

/** A model in training. All arrays of shape [layout.floats]. */
export interface Learner {
  parameters: Float32Array
  first: Float32Array
  second: Float32Array
  /** Steps in the moments. */
  step: number
  /** Where the random windows stand. */
  windows: number[]
}

export interface TrainJob {
  session: SessionOptions
  /** What training begins with; `learner.parameters` is what comes out. */
  start: Float32Array
  learner: Learner
  keepOptimizer: boolean
  steps: number
  /** Steps of all rounds before. */
  startStep: number
  /** Of these, those that were taken here; left out: all. */
  ownStartStep?: number
  pull: Pull | null
  /** The model below, where the session's layout is of adapters. */
  base: Float32Array | null
  /** Whether the model is evaluated after it. */
  evaluate: boolean
}

/** Every step takes the next windows of all sessions at once. */
export interface PooledJob extends Omit<TrainJob, 'session' | 'pull' | 'base' | 'learner'> {
  sessions: SessionOptions[]
  /** Its windows are those of all sessions, one after the other. */
  learner: Omit<Learner, 'windows'> & { windows: number[][] }
}

export interface TrainDone {
  loss: number
  step: number
  evaluated: Evaluated | null
}

export type Job =
  | { do: 'open'; session: SessionOptions }
  | ({ do: 'train' } & TrainJob)
  | ({ do: 'pooled' } & PooledJob)
  | {
      do: 'evaluate'
      session: SessionOptions
      models: Float32Array[]
      set: 'validation' | 'kept-back'
      base: Float32Array | null
    }

/** Ends the worker after the step that it is at: to end a thread inside onnxruntime's kernels aborts the process. */
export type Stop = { do: 'stop' }

export interface Opened {
  trainBytes: number
  validBytes: number
  windows: number[]
}

/** From a worker: an answer, or steps done since the last message. */
export type Reply = { result: unknown } | { error: { code: string; message: string; hint: string } } | { steps: number }

/** A model on shared memory. */
export const sharedModel = (floats: number): Float32Array => new Float32Array(new SharedArrayBuffer(floats * 4))

/** A copy on shared memory. */
export function shared(values: Float32Array): Float32Array {
  const copy = sharedModel(values.length)
  copy.set(values)
  return copy
}
