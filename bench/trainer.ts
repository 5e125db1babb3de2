/**
 * What the trainer protocol costs: rounds of the external PyTorch trainer in bf16 beside the same steps in a bare script (torch/step.py), tokens a
 * second. A round is one call: batches there, losses, parameters and moments back.
 * Goal: ≥ 0.97 of the bare script. Command: `WORLDLM_PYTHON=… worldlm bench trainer`.
 * Not measured: training by several processes.
 */
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { createEngine } from '../src/engine/create.ts'
import type { EngineOptions } from '../src/engine/engine.ts'
import { WorldlmError } from '../src/errors.ts'
import { openBenchFolder, removeBenchFolder } from './bench-folder.ts'
import { type BenchSize, benchModel } from './engine-model.ts'
import { python, Side } from './engine-side.ts'
import { type BenchReport, type BenchResult, benchReport, median } from './report.ts'

interface TrainerBenchOptions {
  threads?: number
  sizes?: BenchSize[]
  /** Of both. */
  device?: EngineOptions['device']
  /** Of a round. */
  steps?: number
  /** Rounds of each side. */
  rounds?: number
  onProgress?: (line: string) => void
}

export async function benchTrainer({
  threads = availableParallelism(),
  sizes = ['S'],
  device = 'cpu',
  steps = 50,
  rounds = 5,
  onProgress
}: TrainerBenchOptions = {}): Promise<BenchReport> {
  const results: BenchResult[] = []
  for (const size of sizes) results.push(await benchSize(size, { threads, device, steps, rounds, onProgress }))
  return benchReport('trainer', results)
}

async function benchSize(
  size: BenchSize,
  {
    threads,
    device,
    steps,
    rounds,
    onProgress
  }: Required<Omit<TrainerBenchOptions, 'sizes' | 'onProgress'>> & TrainerBenchOptions
): Promise<BenchResult> {
  const { layout, parameters, batch, data } = benchModel(size)
  const script = fileURLToPath(
    new URL(
      import.meta.url.endsWith('.ts') ? '../trainers/pytorch/trainer.py' : '../../trainers/pytorch/trainer.py',
      import.meta.url
    )
  )
  const folder = openBenchFolder()
  const command = [python(), script, '--device', device, '--dtype', 'bf16', '--compile']
  const external = { command, folder, silenceMs: 600_000 }
  const bare = await Side.open({ size, threads, vs: 'torch', dtype: 'bf16', device })
  const engine = await createEngine('external', { layout, batch, threads, weightDecay: 0.1, gradientClip: 0, external })
  const round = (count: number) => engine.steps!(Array(count).fill(data), Array(count).fill(1e-4), () => undefined)
  const speeds: number[] = []
  try {
    await engine.load(parameters)
    const [loss] = await round(3)
    if (Math.abs(loss! - bare.loss) > 0.05)
      throw new WorldlmError(
        'BENCH_WRONG',
        `the losses are ${loss} and ${bare.loss}`,
        'One of the two computes something else.'
      )
    for (let turn = 0; turn < rounds; turn++) {
      const ours = async () => {
        const began = performance.now()
        await round(steps)
        speeds.push((steps * batch * layout.config.context * 1000) / (performance.now() - began))
      }
      // Who begins changes, so that neither always follows the other's heat.
      for (const side of turn % 2 === 0 ? [ours, () => bare.turn(steps)] : [() => bare.turn(steps), ours]) await side()
      onProgress?.(
        `${size}, round ${turn + 1} of ${rounds}: trainer ${Math.round(speeds.at(-1)!)} tokens/s, bare script ${Math.round(bare.speeds.at(-1)!)}`
      )
    }
    const [value, baseline] = [median(speeds), median(bare.speeds)]
    const name = `${size}, ${device}, bf16, rounds of ${steps} steps, ${threads} threads`
    return { case: name, value, unit: 'tokens/s', baseline, ratio: value / baseline }
  } finally {
    await Promise.all([engine.dispose(), bare.close()])
    removeBenchFolder(folder)
  }
}
