/**
 * What training alone gives: each organization by itself, over the windows and with the schedule that it has in its federation.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { OrganizationText } from '../data/text-tree.ts'
import type { Charter } from '../governance/charter.ts'
import { initialParameters } from '../model/initial.ts'
import { createLayout } from '../model/layout.ts'
import { writeModelFile } from './model-file.ts'
import { scheduleOf } from './schedule.ts'
import { Trainer } from './trainer.ts'

export interface AloneOptions {
  charter: Pick<Charter, 'model' | 'algorithm' | 'seed'>
  /** Model file that all begin with; null: drawn from the charter's seed. */
  initial: string | null
  texts: OrganizationText[]
  /** tokenizer.json; null: tokens are bytes. */
  tokenizer: string | null
  /** Of the windows. */
  seed: number
  validationTokens: number
  /** Organizations at a time. */
  workers: number
  onProgress: (stepsDone: number, stepsInAll: number) => void
  signal: AbortSignal
}

/** One organization after one round's worth of steps. */
export interface Alone {
  path: string
  round: number
  perplexity: number
  bitsPerByte: number
}

/** Evaluated after every round's worth of steps, so that the curves can be laid over each other. */
export async function trainAlone(options: AloneOptions): Promise<Alone[]> {
  const folder = mkdtempSync(join(tmpdir(), 'worldlm-alone-'))
  const results: Alone[] = []
  const waiting = [...options.texts.entries()]
  const inAll = options.texts.length * options.charter.algorithm.rounds * options.charter.algorithm.steps
  const done = new Map<string, number>()
  const tell = (path: string, steps: number) => {
    done.set(path, steps)
    options.onProgress(
      [...done.values()].reduce((sum, count) => sum + count, 0),
      inAll
    )
  }
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [place, text] = next
      // Not by its path: that of `a-b/c` and of `a/b-c` would be the same file, and of a deep tree too long for one.
      results.push(...(await trainOne(text, join(folder, String(place)), options, steps => tell(text.path, steps))))
    }
  }
  try {
    await Promise.all(Array.from({ length: options.workers }, work))
  } finally {
    await sleep(0)
    rmSync(folder, { recursive: true, force: true })
  }
  return results.sort((left, right) => (left.path < right.path ? -1 : left.path > right.path ? 1 : left.round - right.round))
}

async function trainOne(
  text: OrganizationText,
  name: string,
  { charter, initial, tokenizer, seed, validationTokens, signal }: AloneOptions,
  tell: (steps: number) => void
): Promise<Alone[]> {
  const { algorithm, model } = charter
  const layout = createLayout(model, algorithm)
  let before = 0
  const { batch, weightDecay, gradientClip, steps, rounds, keepOptimizer } = algorithm
  const [given, givenLayout] = layout.base === undefined ? [`${name}.model`, layout] : [`${name}.base`, layout.base]
  if (initial === null) writeModelFile(given, givenLayout, [initialParameters(givenLayout, charter.seed)])
  else copyFileSync(initial, given)
  if (layout.base !== undefined) writeModelFile(`${name}.model`, layout, [initialParameters(layout, charter.seed)])
  const trainer = await Trainer.start(
    {
      layout,
      ...(layout.base !== undefined && { base: `${name}.base` }),
      text,
      tokenizer,
      engine: 'onnx',
      threads: 1,
      batch,
      weightDecay,
      gradientClip,
      schedule: scheduleOf(algorithm),
      seed,
      validationTokens
    },
    ({ step }) => tell(before + step)
  )
  const cancel = () => trainer.cancel()
  signal.addEventListener('abort', cancel)
  try {
    const found: Alone[] = []
    for (let round = 1; round <= rounds; round++) {
      signal.throwIfAborted()
      await trainer.train({
        start: `${name}.model`,
        checkpoint: null,
        keepOptimizer,
        steps,
        startStep: before,
        output: `${name}.model`,
        saveTo: `${name}.checkpoint`
      })
      before += steps
      const { perplexity, bitsPerByte } = await trainer.evaluate(`${name}.model`, 'validation')
      found.push({ path: text.path, round, perplexity, bitsPerByte })
    }
    return found
  } finally {
    signal.removeEventListener('abort', cancel)
    await trainer.close()
  }
}
