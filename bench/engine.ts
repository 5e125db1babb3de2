/**
 * The training step at sizes S, M and L, tokens a second; beside PyTorch, or beside another graph of the step.
 * Goals: against PyTorch ≥ 1.2 at S, ≥ 1.15 at M, ≥ 1.0 at L, with no more memory; ≥ 0.97 of the prototype's graph.
 * Command: `worldlm bench engine [--vs torch|tfjs|DIR] [--device webgpu]`. Losses are compared before anything is timed.
 *
 * The sides run in short turns, one at a time, so that what the machine does meanwhile meets both.
 */
import { availableParallelism } from 'node:os'
import type { EngineOptions } from '../src/engine/engine.ts'
import { WorldlmError } from '../src/errors.ts'
import type { BenchSize } from './engine-model.ts'
import { assertKnown, Side } from './engine-side.ts'
import { type BenchReport, type BenchResult, benchReport, median } from './report.ts'

export interface EngineBenchOptions {
  /** `torch`, `tfjs`, or a folder with model.mjs, onnx.mjs and adam.as.ts. */
  vs?: string
  threads?: number
  /** Of ours, and whether PyTorch computes on the CPU or on a GPU. */
  device?: EngineOptions['device']
  recompute?: EngineOptions['recompute']
  microBatch?: number
  sizes?: BenchSize[]
  /** Turns of each side; default: 7, beside `tfjs` 3. */
  turns?: number
  onProgress?: (line: string) => void
}

const stepsPerTurn = { S: 10, M: 2, L: 1 } as const
/** In WebAssembly a step takes seconds at S: one a turn, and S alone unless more is asked for. */
const slow = (vs: string | undefined): boolean => vs === 'tfjs'

export async function benchEngine({
  vs,
  device,
  recompute,
  microBatch,
  threads = availableParallelism(),
  sizes = vs === 'torch' ? ['S', 'M', 'L'] : slow(vs) ? ['S'] : ['S', 'M'],
  turns = slow(vs) ? 3 : 7,
  onProgress
}: EngineBenchOptions = {}): Promise<BenchReport> {
  const results: BenchResult[] = []
  assertKnown(vs)
  for (const size of sizes)
    results.push(...(await benchSize(size, { vs, device, recompute, microBatch, threads, turns, onProgress })))
  return benchReport('engine', results)
}

async function benchSize(
  size: BenchSize,
  { vs, threads, turns, onProgress, ...settings }: EngineBenchOptions & { threads: number; turns: number }
): Promise<BenchResult[]> {
  const sides: Side[] = []
  const open = async (one: string | null, options = {}) => {
    onProgress?.(`${size}: ${one ?? 'ours'} starts and takes its first steps${one === 'tfjs' ? ', seconds each' : ''}`)
    sides.push(await Side.open({ size, threads, vs: one, ...options }))
  }
  try {
    await open(null, settings)
    if (vs !== undefined) await open(vs, vs === 'torch' ? { device: settings.device } : {})
    const [ours, theirs] = sides as [Side, Side | undefined]
    if (theirs !== undefined && Math.abs(ours.loss - theirs.loss) > 1e-4) {
      throw new WorldlmError(
        'BENCH_WRONG',
        `equal weights and tokens give a loss of ${ours.loss} here, ${theirs.loss} there`,
        'One of the two computes something else.'
      )
    }
    for (let turn = 0; turn < turns; turn++) {
      // Who begins a turn changes, so that neither always follows the other's heat.
      for (const side of turn % 2 === 0 ? sides : [...sides].reverse())
        await side.turn(slow(vs) && side !== ours ? 1 : stepsPerTurn[size])
      onProgress?.(
        `${size}, turn ${turn + 1} of ${turns}: ${sides.map(side => `${side.name} ${Math.round(side.speeds.at(-1)!)} tokens/s`).join(', ')}`
      )
    }
    return [
      compared(`${size}, ${threads} threads`, 'tokens/s', median(ours.speeds), theirs && median(theirs.speeds)),
      compared(`${size}, peak memory`, 'MB', ours.peakBytes / 1e6, theirs && theirs.peakBytes / 1e6)
    ]
  } finally {
    await Promise.all(sides.map(side => side.close()))
  }
}

const compared = (name: string, unit: string, value: number, baseline: number | undefined): BenchResult => ({
  case: name,
  value,
  unit,
  ...(baseline === undefined ? {} : { baseline, ratio: value / baseline })
})
