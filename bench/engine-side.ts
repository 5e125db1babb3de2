/**
 * A side of the engine benchmark: a process that takes steps when it is told to, one side at a time. A process, not a thread: each has its
 * own memory to be measured, and its own setting of denormals.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { EngineOptions } from '../src/engine/engine.ts'
import { WorldlmError } from '../src/errors.ts'
import { openBenchFolder, removeBenchFolder } from './bench-folder.ts'
import { type BenchSize, benchModel } from './engine-model.ts'

/** What a side answers: loss of its first step, or seconds of some steps and the most memory that it ever had. */
export type Reply =
  | { ready: { loss: number; stepTokens: number; version?: string } }
  | { seconds: number; peakBytes: number }
  | { error: string; code?: string; hint?: string }

export interface SideOptions {
  size: BenchSize
  threads: number
  /** null: ours; `torch`; `tfjs`, the engine of that name; or a folder with a step of its own (engine-prototype.ts). */
  vs: string | null
  /** Of PyTorch's products; default: f32. */
  dtype?: 'bf16'
  /** Of ours; PyTorch knows GPUs by the name `cuda` alone. */
  device?: EngineOptions['device']
  recompute?: EngineOptions['recompute']
  microBatch?: number
}

export class Side {
  readonly name: string
  readonly speeds: number[] = []
  peakBytes = 0
  loss = Number.NaN
  #stepTokens = 0
  readonly #child: ChildProcess
  readonly #say: (steps: number) => void
  readonly #replies: Reply[] = []
  #waiting: ((reply: Reply) => void) | null = null
  #lastWords = ''
  readonly #folder: string | null

  private constructor(name: string, child: ChildProcess, say: (steps: number) => void, folder: string | null) {
    this.name = name
    this.#child = child
    this.#say = say
    this.#folder = folder
    child.stderr?.on('data', chunk => {
      this.#lastWords = (this.#lastWords + chunk).slice(-2000)
    })
    child.on('error', error => this.#take({ error: error.message }))
    child.on('exit', code => this.#take({ error: `the process of ${name} ended with code ${code}\n${this.#lastWords}` }))
  }

  /** @throws {WorldlmError} BENCH_FAILED, TORCH_MISSING */
  static async open(options: SideOptions): Promise<Side> {
    const side = options.vs === 'torch' ? openTorch(options) : openNode(options)
    const reply = await side.#next()
    if (!('ready' in reply)) {
      await side.close()
      throw failure(options, 'error' in reply ? reply : { error: 'no answer' })
    }
    side.loss = reply.ready.loss
    side.#stepTokens = reply.ready.stepTokens
    return side
  }

  async turn(steps: number): Promise<void> {
    this.#say(steps)
    const reply = await this.#next()
    if (!('seconds' in reply))
      throw new WorldlmError('BENCH_FAILED', 'error' in reply ? reply.error : 'no answer', 'See above.')
    this.speeds.push((steps * this.#stepTokens) / reply.seconds)
    this.peakBytes = Math.max(this.peakBytes, reply.peakBytes)
  }

  async close(): Promise<void> {
    this.#child.kill('SIGKILL')
    if (this.#folder !== null) removeBenchFolder(this.#folder)
  }

  /** For who makes one. */
  static of(name: string, child: ChildProcess, say: (steps: number) => void, folder: string | null): Side {
    return new Side(name, child, say, folder)
  }

  receive(reply: Reply): void {
    this.#take(reply)
  }

  #take(reply: Reply): void {
    if (this.#waiting === null) this.#replies.push(reply)
    else this.#waiting(reply)
    this.#waiting = null
  }

  #next(): Promise<Reply> {
    const ready = this.#replies.shift()
    return ready === undefined ? new Promise(resolve => (this.#waiting = resolve)) : Promise.resolve(ready)
  }
}

/** Before anything starts. @throws {WorldlmError} USAGE */
export function assertKnown(vs: string | undefined): void {
  if (vs !== undefined && vs !== 'torch' && vs !== 'tfjs' && !existsSync(join(vs, 'model.mjs')))
    throw new WorldlmError('USAGE', `--vs ${vs}: neither torch nor tfjs nor a folder with model.mjs`, 'See --help.')
}

function openNode(options: SideOptions): Side {
  const name = import.meta.url.endsWith('.ts') ? './engine-worker.ts' : './engine-worker.js'
  const child = fork(fileURLToPath(new URL(name, import.meta.url)), [JSON.stringify(options)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc']
  })
  const side = Side.of(
    options.vs === null ? 'ours' : options.vs === 'tfjs' ? 'tfjs' : 'theirs',
    child,
    steps => void child.send(steps),
    null
  )
  child.on('message', reply => side.receive(reply as Reply))
  return side
}

/** A Python that has torch: `WORLDLM_PYTHON`, or python3. */
export const python = (): string => process.env.WORLDLM_PYTHON ?? 'python3'

function openTorch({ size, threads, dtype, device = 'cpu' }: SideOptions): Side {
  const { layout, parameters, batch, data } = benchModel(size)
  const folder = openBenchFolder()
  const [floats, tokens] = [join(folder, 'floats'), join(folder, 'tokens')]
  writeFileSync(floats, new Uint8Array(parameters.buffer))
  writeFileSync(tokens, new Uint8Array(Int32Array.from([...data.inputs, ...data.targets]).buffer))
  const script = fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? './torch/step.py' : '../../bench/torch/step.py', import.meta.url)
  )
  const job = JSON.stringify({
    config: layout.config,
    batch,
    threads,
    floats,
    tokens,
    dtype,
    device: device === 'cpu' ? 'cpu' : 'cuda'
  })
  const child = spawn(python(), [script, job], { stdio: ['pipe', 'pipe', 'pipe'] })
  const side = Side.of('PyTorch', child, steps => void child.stdin.write(`${steps}\n`), folder)
  child.stdin.on('error', () => undefined)
  createInterface({ input: child.stdout }).on('line', line => side.receive(JSON.parse(line) as Reply))
  return side
}

function failure(
  { vs }: SideOptions,
  { error: why, code, hint }: { error: string; code?: string; hint?: string }
): WorldlmError {
  // A side of ours knows what is missing and what to do about it.
  if (code !== undefined && hint !== undefined) return new WorldlmError(code, why, hint)
  const missing = vs === 'torch' && /No module named|ENOENT/.test(why)
  return missing
    ? new WorldlmError(
        'TORCH_MISSING',
        `${python()} has no PyTorch: ${why.trim().split('\n').at(-1)}`,
        'Install torch and numpy in a virtual environment and name its interpreter: WORLDLM_PYTHON=…/bin/python'
      )
    : new WorldlmError('BENCH_FAILED', why, 'See the lines above.')
}
