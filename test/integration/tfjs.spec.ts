/** A testnet whose nodes train on TensorFlow.js (its WebAssembly backend, which the tests bring along). */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { testnetReportSchema } from '../../src/report/schema.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'
import { microModel, run, stopAll } from './command.ts'

describe('a testnet on the engine tfjs', function () {
  this.timeout(180_000)
  afterEach(stopAll)

  it('trains three organizations, and they learn', async () => {
    const paths = ['f/a', 'f/b', 'g/c']
    const data = writeTree(Object.fromEntries(paths.map(path => [`${path}/train.txt`, textOf(9000, path)])))
    const flags = ['--data', data, '--model', microModel(), '--rounds', '2', '--steps', '6', '--no-alone', '--json']
    const out = join(temporaryFolder(), 'out')
    const ended = await run(['testnet', ...flags, '--out', out], { WORLDLM_ENGINE_NAME: 'tfjs' })
    assert.equal(ended.code, 0, ended.stderr)
    const report = testnetReportSchema.parse(JSON.parse(ended.stdout))
    assert.deepEqual(report.invariants.violations, [])
    assert.ok(report.rounds.length >= 2)
    for (const path of paths) {
      const [first, last] = [1, 2].map(
        round =>
          report.evaluations.find(one => one.path === path && one.round === round && one.model === 'personal')!.perplexity
      )
      assert.ok(last! < first!, `${path}: ${first} → ${last}`)
    }
  })
})
