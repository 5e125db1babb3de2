/**
 * A worker of an experiment: trains and evaluates whichever organization is next. It keeps texts and engines, and no state: what a job
 * needs comes with it, so that the result does not depend on who computed it, or on what came before.
 */
import { parentPort } from 'node:worker_threads'
import { createEngine } from '../engine/create.ts'
import type { Engine } from '../engine/engine.ts'
import type { WorldlmError } from '../errors.ts'
import type { Batch } from '../model/batch.ts'
import { learningRateAt } from '../train/schedule.ts'
import { type SessionOptions, TrainingSession } from '../train/session.ts'
import type { Job, Opened, PooledJob, Reply, Stop, TrainDone, TrainJob } from './jobs.ts'

/** Texts of so many organizations stay in memory; further ones are read again when their turn comes. */
const sessionsMax = 64
/** An engine has a model's activations: a few are kept, for the methods that alternate. */
const enginesMax = 4
const progressMs = 250

const engines = new Map<string, Promise<Engine>>()
const sessions = new Map<string, Promise<TrainingSession>>()

/** Makes or takes, and forgets the one not used for the longest time. */
function remembered<Value>(map: Map<string, Promise<Value>>, key: string, most: number, make: () => Promise<Value>) {
  const value = map.get(key) ?? make()
  map.delete(key)
  map.set(key, value)
  const oldest = map.size > most ? map.entries().next().value : undefined
  if (oldest !== undefined) map.delete(oldest[0])
  return { value, forgotten: oldest?.[1] ?? null }
}

async function engineFor(options: SessionOptions, batch: number): Promise<Engine> {
  const { layout, engine, threads, weightDecay, gradientClip } = options
  const key = JSON.stringify([engine, layout.config, layout.adapters, batch, threads, weightDecay, gradientClip])
  const { value, forgotten } = remembered(engines, key, enginesMax, () =>
    createEngine(engine, { layout, batch, threads, weightDecay, gradientClip })
  )
  if (forgotten !== null) {
    sessions.clear()
    await (await forgotten).dispose()
  }
  return value
}

async function sessionFor(options: SessionOptions): Promise<TrainingSession> {
  const engine = await engineFor(options, options.batch)
  const { value } = remembered(
    sessions,
    JSON.stringify({ ...options, layout: [options.layout.config, options.layout.adapters] }),
    sessionsMax,
    () => TrainingSession.open(options, engine)
  )
  return value
}

async function train(job: TrainJob): Promise<TrainDone & { windows: number[] }> {
  const { learner } = job
  const session = await sessionFor(job.session)
  if (job.base !== null) await session.engine.loadBase(job.base)
  await session.load(job.start, momentsOf(job.keepOptimizer, learner), learner.windows)
  const tell = teller(job.steps)
  const { loss } = await session.train(job.steps, job.startStep, ({ step }) => tell(step), stopped.signal, {
    ownStartStep: job.ownStartStep ?? job.startStep,
    ...(job.pull !== null && { pull: job.pull })
  })
  const step = await store(session.engine, learner)
  return { loss, step, windows: session.state(), evaluated: job.evaluate ? await session.evaluate('validation') : null }
}

const momentsOf = (keep: boolean, { first, second, step }: Omit<TrainJob['learner'], 'windows'>) =>
  keep ? { first, second, step } : undefined

async function store(engine: Engine, learner: Omit<TrainJob['learner'], 'windows'>): Promise<number> {
  const { parameters, optimizer } = await engine.read()
  learner.parameters.set(parameters)
  learner.first.set(optimizer.first)
  learner.second.set(optimizer.second)
  return optimizer.step
}

async function pooled(job: PooledJob): Promise<TrainDone & { windows: number[][] }> {
  const { learner, sessions: all } = job
  const first = all[0]!
  const opened = await Promise.all(all.map(sessionFor))
  for (const [place, session] of opened.entries()) await session.load(job.start, undefined, learner.windows[place])
  const engine = await engineFor(first, first.batch * all.length)
  await engine.load(job.start, momentsOf(job.keepOptimizer, learner))
  const tell = teller(job.steps * all.length)
  let total = 0
  for (let step = 0; step < job.steps; step++) {
    stopped.signal.throwIfAborted()
    const batch = joined(opened.map(session => session.next()))
    total += await engine.step(batch, learningRateAt(job.startStep + step, first.schedule))
    tell((step + 1) * all.length)
  }
  const step = await store(engine, learner)
  return { loss: total / job.steps, step, windows: opened.map(session => session.state()), evaluated: null }
}

function joined(batches: Batch[]): Batch {
  const join = (parts: Int32Array[]) => {
    const whole = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0))
    let offset = 0
    for (const part of parts) {
      whole.set(part, offset)
      offset += part.length
    }
    return whole
  }
  return { inputs: join(batches.map(({ inputs }) => inputs)), targets: join(batches.map(({ targets }) => targets)) }
}

/** Tells of steps now and then, and of the last one. */
function teller(stepsInAll: number): (stepsDone: number) => void {
  let [told, toldAt] = [0, performance.now()]
  return stepsDone => {
    if (performance.now() - toldAt < progressMs && stepsDone < stepsInAll) return
    post({ steps: stepsDone - told })
    told = stepsDone
    toldAt = performance.now()
  }
}

async function evaluate({ session: options, models, set, base }: Extract<Job, { do: 'evaluate' }>) {
  const session = await sessionFor(options)
  if (base !== null) await session.engine.loadBase(base)
  const results = []
  for (const model of models) {
    stopped.signal.throwIfAborted()
    await session.load(model)
    results.push(await session.evaluate(set))
  }
  return results
}

async function perform(job: Job): Promise<unknown> {
  switch (job.do) {
    case 'open': {
      const session = await sessionFor(job.session)
      const { trainBytes, validBytes } = session
      return { trainBytes, validBytes, windows: session.firstState } satisfies Opened
    }
    case 'train':
      return train(job)
    case 'pooled':
      return pooled(job)
    case 'evaluate':
      return evaluate(job)
  }
}

const post = (reply: Reply): void => parentPort?.postMessage(reply)

const stopped = new AbortController()
let queue: Promise<void> = Promise.resolve()

/** Nothing is left that keeps the thread alive: it ends by itself. */
async function stop(): Promise<void> {
  for (const engine of engines.values()) await (await engine.catch(() => null))?.dispose()
  parentPort?.close()
}

parentPort?.on('message', (job: Job | Stop) => {
  if (job.do === 'stop') {
    stopped.abort()
    queue = queue.then(stop)
    return
  }
  queue = queue.then(async () => {
    try {
      stopped.signal.throwIfAborted()
      post({ result: await perform(job) })
    } catch (error) {
      const { code = 'WORKER_FAILED', hint = '' } = error as Partial<WorldlmError>
      post({ error: { code: String(code), hint, message: error instanceof Error ? error.message : String(error) } })
    }
  })
})
