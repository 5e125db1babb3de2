/** An organization's training, away from the event loop: jobs for one worker thread, performed in order. Models are files. */
import { Worker } from 'node:worker_threads'
import '../engine/no-telemetry.ts'
import { WorldlmError } from '../errors.ts'
import type { Evaluated, SessionOptions, Trained } from './session.ts'

export interface TrainJob {
  /** Model to begin with; null: the checkpoint's, or the engine's own. Moments of a checkpoint count where `keepOptimizer` says so. */
  start: string | null
  /** Checkpoint (moments, place in the data) to take up first; null where the worker has it. */
  checkpoint: string | null
  keepOptimizer: boolean
  steps: number
  /** Steps of all rounds before. */
  startStep: number
  /** Of these, those that were taken here; left out: all. */
  ownStartStep?: number
  /** The model after training. */
  output: string
  /** Checkpoint after training. */
  saveTo: string
  /** Checkpoint within the round: taken up where it is of this very job, and written every so often; milliseconds, 0: never. */
  within?: { path: string; everyMs: number }
}
export type TrainerJob =
  | { do: 'open' }
  | ({ do: 'train' } & TrainJob)
  | { do: 'evaluate'; model: string; set: 'validation' | 'kept-back' }

export interface Progress {
  step: number
  steps: number
  loss: number
  tokensPerSecond: number
}

type Reply =
  | { id: number; result?: unknown; error?: { code: string; message: string; hint: string } }
  | { progress: Progress }
  | { warning: { code: string; message: string } }

/** How long a thread may take to end that can be terminated. */
const endMs = 4_000

/** Something went wrong that is tried again. */
type OnWarning = (code: string, message: string) => void

export class Trainer {
  /** Bytes of text; set once `start` resolves. */
  data = { trainBytes: 0, validBytes: 0 }
  readonly #worker: Worker
  readonly #onProgress: (progress: Progress) => void
  readonly #onWarning: OnWarning
  readonly #ended: Promise<void>
  /** Whether its engine computes in code that throws where nobody can catch, if the thread is terminated: the process would end with it. */
  readonly #native: boolean
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  #id = 0
  /** Why nothing more is done. */
  #failure: Error | null = null

  private constructor(options: SessionOptions, onProgress: (progress: Progress) => void, onWarning: OnWarning) {
    this.#onProgress = onProgress
    this.#onWarning = onWarning
    this.#native = options.engine === 'onnx' || options.engine === 'tfjs'
    const url = new URL(import.meta.url.endsWith('.ts') ? './trainer-worker.ts' : './trainer-worker.js', import.meta.url)
    this.#worker = new Worker(url, { workerData: options })
    this.#worker.on('message', (reply: Reply) => this.#settle(reply))
    this.#worker.on('error', error => this.#fail(error))
    this.#worker.on('exit', code => this.#fail(ended(`the training thread ended (code ${code})`)))
    this.#ended = new Promise(resolve => this.#worker.once('exit', () => resolve()))
  }

  /** @throws {WorldlmError} of the text, the model, or the engine. */
  static async start(
    options: SessionOptions,
    onProgress: (progress: Progress) => void,
    onWarning: OnWarning = () => undefined
  ): Promise<Trainer> {
    const trainer = new Trainer(options, onProgress, onWarning)
    try {
      trainer.data = await trainer.#run({ do: 'open' })
      return trainer
    } catch (error) {
      await trainer.close()
      throw error
    }
  }

  train(job: TrainJob): Promise<Trained> {
    return this.#run({ do: 'train', ...job })
  }

  evaluate(model: string, set: 'validation' | 'kept-back'): Promise<Evaluated> {
    return this.#run({ do: 'evaluate', model, set })
  }

  /** Ends what runs after its step, or the windows that are evaluated; what was learned is not written. */
  cancel(): void {
    this.#worker.postMessage({ id: -1, job: { do: 'cancel' } })
  }

  /** What was asked for and is not done fails at once; the thread ends after the step that it is at, however long that takes. */
  async close(): Promise<void> {
    this.#fail(ended('the training thread was told to end'))
    this.#worker.postMessage({ id: -1, job: { do: 'close' } })
    const late = this.#native ? undefined : setTimeout(() => void this.#worker.terminate(), endMs)
    await this.#ended
    clearTimeout(late)
  }

  #run<Result>(job: TrainerJob): Promise<Result> {
    if (this.#failure !== null) return Promise.reject(this.#failure)
    const id = this.#id++
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject })
      this.#worker.postMessage({ id, job })
    })
  }

  #settle(reply: Reply): void {
    if ('progress' in reply) {
      this.#onProgress(reply.progress)
      return
    }
    if ('warning' in reply) {
      this.#onWarning(reply.warning.code, reply.warning.message)
      return
    }
    const waiting = this.#waiting.get(reply.id)
    this.#waiting.delete(reply.id)
    if (reply.error === undefined) waiting?.resolve(reply.result)
    else waiting?.reject(new WorldlmError(reply.error.code, reply.error.message, reply.error.hint))
  }

  #fail(error: Error): void {
    this.#failure ??= error
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}

const ended = (what: string): WorldlmError =>
  new WorldlmError('TRAINER_ENDED', what, 'See node.log; the node goes on from its last checkpoint.')
