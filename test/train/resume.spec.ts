import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Random } from '../../src/math/random.ts'
import { initialParameters } from '../../src/model/initial.ts'
import { createLayout } from '../../src/model/layout.ts'
import { writeModelFile } from '../../src/train/model-file.ts'
import { micro } from '../engine/models.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'

const child = fileURLToPath(new URL('./train-child.ts', import.meta.url))
const [rounds, steps] = [2, 120]
const layout = createLayout({ ...micro, vocabulary: 256, width: 32, hidden: 64 }, { keyFraction: 1, embeddingIsKey: true })

function prepare(options: { keepOptimizer: boolean; saveEveryMs: number }): string {
  const folder = temporaryFolder()
  const text = writeTree({ 'train.txt': textOf(40_000), 'valid.txt': textOf(4_000, 'road') })
  const session = {
    layout,
    text: { path: 'text', folder: text },
    tokenizer: null,
    engine: 'onnx',
    threads: 1,
    batch: 4,
    weightDecay: 0.1,
    gradientClip: 1,
    schedule: { learningRate: 0.01, warmupSteps: 20, decaySteps: rounds * steps },
    seed: 7,
    validationTokens: 100
  }
  writeFileSync(join(folder, 'child.json'), JSON.stringify({ session, rounds, steps, ...options }))
  writeModelFile(join(folder, 'start-1.safetensors'), layout, [initialParameters(layout, 3)])
  return folder
}

/** @param killAfterMs - of training; null: it is left alone. @returns whether it came to its end, and how long it trained. */
async function run(folder: string, killAfterMs: number | null): Promise<{ whole: boolean; trainedMs: number }> {
  const started = spawn(process.execPath, [child, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise<number | null>(resolve => started.on('exit', resolve))
  await Promise.race([new Promise(resolve => started.stdout.once('data', resolve)), ended])
  const began = performance.now()
  if (killAfterMs !== null) {
    await Promise.race([sleep(killAfterMs), ended])
    started.kill('SIGKILL')
  }
  const whole = (await ended) === 0
  return { whole, trainedMs: performance.now() - began }
}

const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')
const results = (folder: string) => ({
  losses: Array.from({ length: rounds }, (_, round) => readFileSync(join(folder, `${round + 1}.done`), 'utf8')),
  model: digest(join(folder, `start-${rounds + 1}.safetensors`)),
  checkpoint: digest(join(folder, `checkpoint-${rounds}.safetensors`))
})

describe('a training that was killed', () => {
  for (const { why, keepOptimizer, saveEveryMs } of [
    { why: 'with checkpoints within a round', keepOptimizer: true, saveEveryMs: 20 },
    { why: 'with checkpoints after rounds only', keepOptimizer: true, saveEveryMs: 0 },
    { why: 'with moments that end with a round', keepOptimizer: false, saveEveryMs: 20 }
  ]) {
    it(`at any moment, again and again, ends bit for bit where one that was left alone ends: ${why}`, async function () {
      this.timeout(180_000)
      const alone = prepare({ keepOptimizer, saveEveryMs: 0 })
      const { whole, trainedMs } = await run(alone, null)
      assert.ok(whole)
      const killed = prepare({ keepOptimizer, saveEveryMs })
      const random = new Random(`kill/${why}`)
      let kills = 0
      // Later and later, so that rounds without checkpoints within get done too.
      for (let most = trainedMs / 4; !(await run(killed, Math.floor(random.float() * most))).whole; most += trainedMs / 4) {
        kills++
        assert.ok(kills < 40, 'it gets on')
      }
      assert.ok(kills >= 2, `it was killed ${kills} times`)
      assert.deepEqual(results(killed), results(alone))
    })
  }

  it('takes no checkpoint of another round for its own, nor a damaged one', async function () {
    this.timeout(180_000)
    const alone = prepare({ keepOptimizer: true, saveEveryMs: 0 })
    assert.ok((await run(alone, null)).whole)
    const other = prepare({ keepOptimizer: true, saveEveryMs: 1 })
    writeModelFile(join(other, 'start-1.safetensors'), layout, [initialParameters(layout, 4)])
    await run(other, 100)
    const partial = join(other, 'partial.safetensors')
    for (const bytes of [existsSync(partial) ? readFileSync(partial) : Buffer.from('none'), Buffer.from('damaged')]) {
      const folder = prepare({ keepOptimizer: true, saveEveryMs: 0 })
      writeFileSync(join(folder, 'partial.safetensors'), bytes)
      assert.ok((await run(folder, null)).whole)
      assert.deepEqual(results(folder), results(alone))
    }
  })
})
