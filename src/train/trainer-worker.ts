/** The training thread: one organization's session, and the model files that go in and out of it. */
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import type { WorldlmError } from '../errors.ts'
import type { OptimizerState } from '../engine/engine.ts'
import { readModelFile, writeModelFile } from './model-file.ts'
import { type SessionOptions, TrainingSession } from './session.ts'
import type { TrainerJob, TrainJob } from './trainer.ts'

// All cores train; the node's own loop and the aggregation go first, or heartbeats come late. On Linux this is for this thread and
// the threads it makes, which is why it comes before the engine.
try {
  setPriority(10)
} catch {
  // Not everywhere allowed, and nothing but comfort.
}

const sections = ['', 'first.', 'second.']
const options = workerData as SessionOptions
const session = TrainingSession.open(options)
let cancelled = false

/** How often progress is told; more would cost more than it says. */
const progressMs = 250

async function train(job: TrainJob) {
  const { layout } = options
  const trainer = await session
  if (job.checkpoint !== null) await resume(trainer, job.checkpoint)
  if (job.start !== null) {
    const parameters = new Float32Array(layout.floats)
    readModelFile(job.start, layout, [parameters])
    const { optimizer } = await trainer.engine.read()
    await trainer.load(parameters, job.keepOptimizer ? optimizer : undefined)
  }
  let told = 0
  const abort = new AbortController()
  const trained = await trainer.train(
    job.steps,
    job.startStep,
    (step, loss, tokensPerSecond) => {
      if (cancelled) abort.abort()
      if (performance.now() - told < progressMs && step < job.steps) return
      told = performance.now()
      parentPort?.postMessage({ progress: { step, steps: job.steps, loss, tokensPerSecond } })
    },
    abort.signal
  )
  const { parameters, optimizer } = await trainer.engine.read()
  writeModelFile(job.output, layout, [parameters])
  save(job.saveTo, trainer, parameters, optimizer)
  return trained
}

function save(path: string, trainer: TrainingSession, parameters: Float32Array, optimizer: OptimizerState): void {
  const metadata = { step: String(optimizer.step), windows: JSON.stringify(trainer.state()) }
  writeModelFile(path, options.layout, [parameters, optimizer.first, optimizer.second], { sections, metadata })
}

async function resume(trainer: TrainingSession, path: string): Promise<void> {
  const { layout } = options
  const [parameters, first, second] = [
    new Float32Array(layout.floats),
    new Float32Array(layout.floats),
    new Float32Array(layout.floats)
  ]
  const { step = '0', windows = '[]' } = readModelFile(path, layout, [parameters, first, second], sections)
  await trainer.load(parameters, { first, second, step: Number(step) }, JSON.parse(windows))
}

/** Other models are evaluated between rounds: the engine's own parameters and moments are put back. */
async function evaluate(path: string, set: 'validation' | 'kept-back') {
  const trainer = await session
  const own = await trainer.engine.read()
  const parameters = new Float32Array(options.layout.floats)
  readModelFile(path, options.layout, [parameters])
  await trainer.load(parameters, own.optimizer)
  const evaluated = await trainer.evaluate(set)
  await trainer.load(own.parameters, own.optimizer)
  return evaluated
}

async function perform(job: TrainerJob): Promise<unknown> {
  switch (job.do) {
    case 'open': {
      const { trainBytes, validBytes } = await session
      return { trainBytes, validBytes }
    }
    case 'train':
      return train(job)
    case 'evaluate':
      return evaluate(job.model, job.set)
    case 'close':
      return (await session).engine.dispose()
  }
}

let queue: Promise<void> = Promise.resolve()
parentPort?.on('message', ({ id, job }: { id: number; job: TrainerJob | { do: 'cancel' } }) => {
  if (job.do === 'cancel') {
    cancelled = true
    return
  }
  queue = queue.then(async () => {
    cancelled = false
    try {
      parentPort?.postMessage({ id, result: await perform(job) })
    } catch (error) {
      const { code = 'TRAINER_FAILED', hint = '' } = error as Partial<WorldlmError>
      parentPort?.postMessage({
        id,
        error: { code: String(code), hint, message: error instanceof Error ? error.message : String(error) }
      })
    }
  })
})
session.catch(() => undefined)
