/** A process whose trainers are closed in the middle of their work, and asked for more: `node close-child.ts FOLDER`. It has to outlive them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { SessionOptions } from '../../src/train/session.ts'
import { Trainer } from '../../src/train/trainer.ts'

const folder = process.argv[2]!
const session = JSON.parse(readFileSync(join(folder, 'child.json'), 'utf8')) as SessionOptions
const model = join(folder, 'start')
for (let time = 0; time < 4; time++) {
  const trainer = await Trainer.start(session, () => undefined)
  const jobs = Array.from({ length: 3000 }, () => trainer.evaluate(model, 'validation'))
  const results = Promise.allSettled(jobs)
  await jobs[0]
  await new Promise(resolve => setTimeout(resolve, 20 * time))
  const began = performance.now()
  await trainer.close()
  const after = await trainer.evaluate(model, 'validation').catch(({ code }: { code: string }) => code)
  const last = (await results).at(-1)!
  console.log(performance.now() - began < 1500, after, last.status === 'rejected' && (last.reason as { code: string }).code)
}
