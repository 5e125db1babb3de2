/** Worker threads that take an experiment's jobs in the order in which they were asked for, one at a time each. */
import { Worker } from 'node:worker_threads'
import '../engine/no-telemetry.ts'
import { WorldlmError } from '../errors.ts'
import type { Evaluated, SessionOptions } from '../train/session.ts'
import { type Job, type Opened, type PooledJob, type Reply, shared, type Stop, type TrainDone, type TrainJob } from './jobs.ts'

interface Waiting {
  job: Job
  resolve: (result: unknown) => void
  reject: (error: Error) => void
}

type First = TrainDone & { windows: number[]; models: Float32Array[] }

/** Of first rounds that are kept; the oldest go. */
const firstBytesMax = 2 ** 30

export class Pool {
  readonly #idle: Worker[] = []
  readonly #workers: Worker[] = []
  readonly #queue: Waiting[] = []
  readonly #running = new Map<Worker, Waiting>()
  readonly #onSteps: (steps: number) => void
  /** What organizations' first rounds came to. */
  readonly #first = new Map<string, Promise<First>>()
  #closed: Error | null = null

  /** @param onSteps - told of training steps now and then, as they are done. */
  constructor(workers: number, onSteps: (steps: number) => void) {
    this.#onSteps = onSteps
    const name = import.meta.url.endsWith('.ts') ? './experiment-worker.ts' : './experiment-worker.js'
    for (let place = 0; place < workers; place++) {
      const worker = new Worker(new URL(name, import.meta.url))
      worker.on('message', (reply: Reply) => this.#take(worker, reply))
      worker.on('error', error => this.#fail(error))
      this.#workers.push(worker)
      this.#idle.push(worker)
    }
  }

  get size(): number {
    return this.#workers.length
  }

  open(session: SessionOptions): Promise<Opened> {
    return this.#run({ do: 'open', session })
  }

  /** Trains; what the learner holds afterwards is in its arrays, its step and its windows. */
  async train(job: TrainJob): Promise<TrainDone> {
    const { windows, ...done } = await this.#run<TrainDone & { windows: number[] }>({ do: 'train', ...job })
    Object.assign(job.learner, { step: done.step, windows })
    return done
  }

  /**
   * The same for a first round from the common start: it comes to the same by whatever method it goes on, and is trained once for all.
   * @param job - without anything beside the model. A `seed` gives one common start.
   */
  async trainFirst(job: TrainJob): Promise<TrainDone> {
    const { session, steps, keepOptimizer, evaluate, learner } = job
    const { config, adapters } = session.layout
    const key = JSON.stringify([{ ...session, layout: [config, adapters] }, steps, keepOptimizer, evaluate])
    const known = this.#first.get(key)
    if (known === undefined) {
      const training = this.train(job).then(done => {
        const { parameters, first, second, windows } = learner
        return { ...done, windows, models: [parameters, first, second].map(shared) }
      })
      // Who waits for it gets its error; who comes later trains by itself.
      training.catch(() => this.#first.delete(key))
      this.#first.set(key, training)
      for (const [oldest] of this.#first)
        if (this.#first.size * learner.parameters.byteLength * 3 > firstBytesMax) this.#first.delete(oldest)
      const { models: _models, windows: _windows, ...done } = await training
      return done
    }
    const { models, windows, ...done } = await known
    for (const [place, into] of [learner.parameters, learner.first, learner.second].entries()) into.set(models[place]!)
    Object.assign(learner, { step: done.step, windows })
    this.#onSteps(steps)
    return done
  }

  async trainPooled(job: PooledJob): Promise<TrainDone> {
    const { windows, ...done } = await this.#run<TrainDone & { windows: number[][] }>({ do: 'pooled', ...job })
    Object.assign(job.learner, { step: done.step, windows })
    return done
  }

  /** @param base - the model below, where the models are adapters. */
  evaluate(
    session: SessionOptions,
    models: Float32Array[],
    set: 'validation' | 'kept-back',
    base: Float32Array | null = null
  ): Promise<Evaluated[]> {
    return this.#run({ do: 'evaluate', session, models, set, base })
  }

  /** Ends the threads after the step that each is at; what was asked for and not done fails. */
  async close(why: Error = new WorldlmError('EXPERIMENT_STOPPED', 'the experiment was stopped', '')): Promise<void> {
    this.#fail(why)
    await Promise.all(
      this.#workers.map(worker => {
        const ended = new Promise(resolve => worker.once('exit', resolve))
        worker.postMessage({ do: 'stop' } satisfies Stop)
        return worker.threadId === -1 ? undefined : ended
      })
    )
  }

  #run<Result>(job: Job): Promise<Result> {
    if (this.#closed !== null) return Promise.reject(this.#closed)
    return new Promise<Result>((resolve, reject) => {
      this.#queue.push({ job, resolve: resolve as (result: unknown) => void, reject })
      this.#next()
    })
  }

  #next(): void {
    while (this.#idle.length > 0 && this.#queue.length > 0) {
      const worker = this.#idle.shift()!
      const waiting = this.#queue.shift()!
      this.#running.set(worker, waiting)
      worker.postMessage(waiting.job)
    }
  }

  #take(worker: Worker, reply: Reply): void {
    if ('steps' in reply) {
      this.#onSteps(reply.steps)
      return
    }
    const waiting = this.#running.get(worker)
    this.#running.delete(worker)
    this.#idle.push(worker)
    if ('error' in reply) waiting?.reject(new WorldlmError(reply.error.code, reply.error.message, reply.error.hint))
    else waiting?.resolve(reply.result)
    this.#next()
  }

  #fail(error: Error): void {
    this.#closed ??= error
    for (const { reject } of [...this.#running.values(), ...this.#queue.splice(0)]) reject(error)
    this.#running.clear()
  }
}
