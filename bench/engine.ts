/**
 * The training step at sizes S and M, tokens a second; beside another implementation of it where one is given.
 * Goal: ≥ 0.97 of the prototype's graph. Command: `worldlm bench engine [--vs DIR]`. Losses are compared before anything is timed.
 *
 * Each side has a worker of its own (flushing denormals is a setting of the thread); they run in short turns, one at a time, so that
 * what the machine does meanwhile meets both.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { WorldlmError } from '../src/errors.ts'
import { type BenchReport, type BenchResult, benchReport, median } from './report.ts'

export interface EngineBenchOptions {
  /** A folder with model.mjs, onnx.mjs and adam.as.ts. */
  vs?: string
  threads?: number
  sizes?: ('S' | 'M')[]
  /** Turns of each side. */
  turns?: number
  onProgress?: (line: string) => void
}

/** What a side answers: loss of its first step, or seconds of some steps. */
type Reply = { ready: { loss: number; stepTokens: number } } | { seconds: number } | { error: string }

const stepsPerTurn = { S: 10, M: 2 } as const

export async function benchEngine({
  vs,
  threads = availableParallelism(),
  sizes = ['S', 'M'],
  turns = 7,
  onProgress
}: EngineBenchOptions = {}): Promise<BenchReport> {
  const results: BenchResult[] = []
  for (const size of sizes) {
    const sides = [await Side.open({ size, threads, vs: null })]
    try {
      if (vs !== undefined) sides.push(await Side.open({ size, threads, vs }))
      const [ours, theirs] = sides
      if (theirs !== undefined && Math.abs(ours!.loss - theirs.loss) > 1e-4) {
        throw new WorldlmError(
          'BENCH_WRONG',
          `equal weights and tokens give a loss of ${ours!.loss} here, ${theirs.loss} there`,
          'One of the two computes something else.'
        )
      }
      for (let turn = 0; turn < turns; turn++) {
        // Who begins a turn changes, so that neither always follows the other's heat.
        for (const side of turn % 2 === 0 ? sides : [...sides].reverse()) await side.turn(stepsPerTurn[size])
        onProgress?.(
          `${size}, turn ${turn + 1} of ${turns}: ${sides.map(side => `${side.name} ${Math.round(side.speeds.at(-1)!)} tokens/s`).join(', ')}`
        )
      }
      const value = median(ours!.speeds)
      const baseline = theirs === undefined ? undefined : median(theirs.speeds)
      results.push({
        case: `${size}, ${threads} threads`,
        value,
        unit: 'tokens/s',
        ...(baseline === undefined ? {} : { baseline, ratio: value / baseline })
      })
    } finally {
      await Promise.all(sides.map(side => side.close()))
    }
  }
  return benchReport('engine', results)
}

class Side {
  readonly name: string
  readonly speeds: number[] = []
  readonly loss: number
  readonly #worker: Worker
  readonly #stepTokens: number

  private constructor(name: string, worker: Worker, { loss, stepTokens }: { loss: number; stepTokens: number }) {
    this.name = name
    this.#worker = worker
    this.loss = loss
    this.#stepTokens = stepTokens
  }

  static async open(options: { size: 'S' | 'M'; threads: number; vs: string | null }): Promise<Side> {
    const url = new URL(import.meta.url.endsWith('.ts') ? './engine-worker.ts' : './engine-worker.js', import.meta.url)
    const worker = new Worker(url, { workerData: options })
    const reply = await next(worker)
    if (!('ready' in reply))
      throw new WorldlmError('BENCH_FAILED', 'error' in reply ? reply.error : 'no answer', 'See the lines above.')
    return new Side(options.vs === null ? 'ours' : 'theirs', worker, reply.ready)
  }

  async turn(steps: number): Promise<void> {
    this.#worker.postMessage(steps)
    const reply = await next(this.#worker)
    if (!('seconds' in reply))
      throw new WorldlmError('BENCH_FAILED', 'error' in reply ? reply.error : 'no answer', 'See the lines above.')
    this.speeds.push((steps * this.#stepTokens) / reply.seconds)
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }
}

function next(worker: Worker): Promise<Reply> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}
