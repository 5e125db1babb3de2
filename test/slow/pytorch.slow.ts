import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { createEngine } from '../../src/engine/create.ts'
import { engineOptions, randomBatch, testParameters } from '../engine/models.ts'
import { pythonMissing } from '../python.ts'
import { temporaryFolder } from '../temporary.ts'

describe('the PyTorch trainer, compiled', () => {
  it('learns in bf16 as it does without', async function () {
    if (pythonMissing !== null) {
      console.log(`      skipped: ${pythonMissing}`)
      this.skip()
    }
    const trainer = fileURLToPath(new URL('../../trainers/pytorch/trainer.py', import.meta.url))
    const learn = async (flags: string[]) => {
      const command = [process.env.WORLDLM_TEST_PYTHON ?? '', trainer, '--dtype', 'bf16', ...flags]
      const options = engineOptions({}, { external: { command, folder: temporaryFolder(), silenceMs: 600_000 } })
      const engine = await createEngine('external', options)
      await engine.load(testParameters(options, 1))
      const batch = randomBatch(options, 5)
      const losses = await engine.steps!(Array(40).fill(batch), Array(40).fill(0.02), () => undefined)
      await engine.dispose()
      return losses
    }
    const [compiled, plain] = [await learn(['--compile']), await learn([])]
    assert.ok(compiled.at(-1)! < compiled[0]! / 2, `${compiled[0]} → ${compiled.at(-1)}`)
    assert.ok(Math.abs(compiled[0]! - plain[0]!) < 0.05, `${compiled[0]}, ${plain[0]}`)
  })
})
