/** The training thread: one organization's session, and the model files that go in and out of it. */
import { createHash } from 'node:crypto'
import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import type { WorldlmError } from '../errors.ts'
import { checkpointSections, readModelFile, readModelMetadata, writeModelFile } from './model-file.ts'
import { type SessionOptions, TrainingSession } from './session.ts'
import type { TrainerJob, TrainJob } from './trainer.ts'

// All cores train; the node's own loop and the aggregation go first, or heartbeats come late. On Linux this is for this thread and
// the threads it makes, which is why it comes before the engine.
try {
  setPriority(10)
} catch {
  // Not everywhere allowed, and nothing but comfort.
}

const options = workerData as SessionOptions
const session = TrainingSession.open(options, undefined, (code, message) =>
  parentPort?.postMessage({ warning: { code, message } })
)
/** Of the job that runs: a cancelled one ends after its step. */
let running = new AbortController()
let closing = false

/** How often progress is told; more would cost more than it says. */
const progressMs = 250

async function train(job: TrainJob) {
  const trainer = await session
  const purpose = purposeOf(job)
  const before = await begin(trainer, job, purpose)
  let [told, saved] = [0, performance.now()]
  const trained = await trainer.train(
    job.steps - before.steps,
    job.startStep + before.steps,
    async ({ step, loss, lossSum, tokensPerSecond }) => {
      const now = performance.now()
      if (now - told >= progressMs || step === job.steps) {
        told = now
        parentPort?.postMessage({ progress: { step, steps: job.steps, loss, tokensPerSecond } })
      }
      // Engines that take the round in one call are only asked for their state at its end.
      if (trainer.engine.steps !== undefined || !job.within?.everyMs || now - saved < job.within.everyMs) return
      await save(job.within.path, trainer, { purpose, steps: String(step), lossSum: String(lossSum) })
      saved = performance.now()
    },
    running.signal,
    { before, ownStartStep: (job.ownStartStep ?? job.startStep) + before.steps }
  )
  const { parameters } = await trainer.engine.view()
  writeModelFile(job.output, options.layout, [parameters])
  await save(job.saveTo, trainer)
  return trained
}

/** What a checkpoint within a round is for: another start or other steps make it worthless. */
function purposeOf({ start, startStep, ownStartStep, steps, keepOptimizer }: TrainJob): string {
  // A start that is missing is refused when it is read.
  const digest = start === null || !existsSync(start) ? '' : digestOf(start)
  return JSON.stringify([digest, startStep, ownStartStep ?? startStep, steps, keepOptimizer])
}

function digestOf(path: string): string {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(2 ** 20)
  const fd = openSync(path, 'r')
  try {
    for (let read = 1; read > 0; ) {
      read = readSync(fd, buffer)
      hash.update(buffer.subarray(0, read))
    }
  } finally {
    closeSync(fd)
  }
  return hash.digest('hex')
}

/** Where the round stands: at its beginning, or where it was when the process ended. */
async function begin(trainer: TrainingSession, job: TrainJob, purpose: string): Promise<{ steps: number; loss: number }> {
  const metadata = job.within !== undefined && existsSync(job.within.path) ? readMetadata(job.within.path) : {}
  if (job.within !== undefined && metadata.purpose === purpose) {
    await resume(trainer, job.within.path)
    return { steps: Number(metadata.steps), loss: Number(metadata.lossSum) }
  }
  if (job.checkpoint !== null) await resume(trainer, job.checkpoint)
  if (job.start !== null) {
    const { start, keepOptimizer } = job
    await withModels(1, async ([parameters]) => {
      readModelFile(start, options.layout, [parameters!])
      const { optimizer } = await trainer.engine.view()
      await trainer.load(parameters!, keepOptimizer ? optimizer : undefined)
    })
  }
  return { steps: 0, loss: 0 }
}

/** A checkpoint within a round saves time, no more: a damaged one is as good as none. */
function readMetadata(path: string): Record<string, string> {
  try {
    return readModelMetadata(path)
  } catch {
    return {}
  }
}

async function save(path: string, trainer: TrainingSession, more: Record<string, string> = {}): Promise<void> {
  const { parameters, optimizer } = await trainer.engine.view()
  const metadata = { step: String(optimizer.step), windows: JSON.stringify(trainer.state()), ...more }
  writeModelFile(path, options.layout, [parameters, optimizer.first, optimizer.second], {
    sections: checkpointSections,
    metadata
  })
}

async function resume(trainer: TrainingSession, path: string): Promise<void> {
  await withModels(3, async models => {
    const { step = '0', windows = '[]' } = readModelFile(path, options.layout, models, checkpointSections)
    const [parameters, first, second] = models as [Float32Array, Float32Array, Float32Array]
    await trainer.load(parameters, { first, second, step: Number(step) }, JSON.parse(windows))
  })
}

/** Memory of `count` models, given back at once: left to the collector, a dozen of them lay about at a time. */
async function withModels<Result>(count: number, use: (models: Float32Array[]) => Promise<Result>): Promise<Result> {
  const models = Array.from({ length: count }, () => new Float32Array(options.layout.floats))
  try {
    return await use(models)
  } finally {
    for (const { buffer } of models) buffer.transfer(0)
  }
}

/** Other models are evaluated between rounds: the engine's own parameters are put back. */
async function evaluate(path: string, set: 'validation' | 'kept-back') {
  const trainer = await session
  return withModels(1, async ([model]) => {
    readModelFile(path, options.layout, [model!])
    await trainer.engine.swap(model!)
    try {
      return await trainer.evaluate(set, running.signal)
    } finally {
      await trainer.engine.swap(model!)
    }
  })
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
  }
}

async function work(id: number, job: TrainerJob): Promise<void> {
  if (closing) return
  running = new AbortController()
  try {
    parentPort?.postMessage({ id, result: await perform(job) })
  } catch (error) {
    const { code = 'TRAINER_FAILED', hint = '' } = error as Partial<WorldlmError>
    parentPort?.postMessage({
      id,
      error: { code: String(code), hint, message: error instanceof Error ? error.message : String(error) }
    })
  }
}

/** Whatever a library still holds open does not keep the thread. */
async function close(): Promise<void> {
  await (await session.catch(() => null))?.engine.dispose().catch(() => undefined)
  process.exit()
}

let queue: Promise<void> = Promise.resolve()
parentPort?.on('message', ({ id, job }: { id: number; job: TrainerJob | { do: 'cancel' | 'close' } }) => {
  if (job.do === 'open' || job.do === 'train' || job.do === 'evaluate') {
    queue = queue.then(() => work(id, job))
    return
  }
  running.abort()
  if (job.do === 'cancel') return
  closing = true
  queue = queue.then(close)
})
session.catch(() => undefined)
