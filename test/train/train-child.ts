/** A process that trains rounds, to be killed at any moment: `node train-child.ts FOLDER`. What is in FOLDER decides where it goes on. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { SessionOptions } from '../../src/train/session.ts'
import { Trainer } from '../../src/train/trainer.ts'

const folder = process.argv[2]!
const { session, rounds, steps, keepOptimizer, saveEveryMs } = JSON.parse(readFileSync(join(folder, 'child.json'), 'utf8')) as {
  session: SessionOptions
  rounds: number
  steps: number
  keepOptimizer: boolean
  saveEveryMs: number
}
const at = (name: string) => join(folder, `${name}.safetensors`)
const trainer = await Trainer.start(session, () => undefined)
console.log('open')
for (let round = 1; round <= rounds; round++) {
  // The round is over once its record is there: what a node's participation.json is.
  if (existsSync(join(folder, `${round}.done`))) continue
  const trained = await trainer.train({
    start: at(`start-${round}`),
    checkpoint: existsSync(at(`checkpoint-${round - 1}`)) ? at(`checkpoint-${round - 1}`) : null,
    keepOptimizer,
    steps,
    startStep: (round - 1) * steps,
    output: at(`start-${round + 1}`),
    saveTo: at(`checkpoint-${round}`),
    within: { path: at('partial'), everyMs: saveEveryMs }
  })
  writeFileSync(join(folder, `${round}.done`), String(trained.loss))
}
await trainer.close()
