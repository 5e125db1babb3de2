/** A federation that trains adapters: real processes, what they send, and the model that comes of it. */
import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createEngine } from '../../src/engine/create.ts'
import { createLayout } from '../../src/model/layout.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { readNodeModel } from '../../src/node/node-model.ts'
import { testnetReportSchema } from '../../src/report/schema.ts'
import { readModelFile } from '../../src/train/model-file.ts'
import { randomBatch } from '../engine/models.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'
import { run, stopAll } from './command.ts'

const charter = `
model: { layers: 2, width: 16, hidden: 32, heads: 2, context: 32, vocabulary: 256 }
algorithm: { batch: 2, warmupSteps: 0, learningRate: 0.01, adapters: { rank: 2, matrices: [query, down] } }
`

describe('a federation of adapters', function () {
  this.timeout(180_000)
  afterEach(stopAll)

  it('sends adapters alone, trains them over one base, and exports the model with them merged', async () => {
    const data = writeTree({ 'f/a/train.txt': textOf(9000, 'a'), 'f/b/train.txt': textOf(9000, 'b') })
    const out = join(temporaryFolder(), 'out')
    const model = join(writeTree({ 'charter.yaml': charter }), 'charter.yaml')
    const ended = await run([
      'testnet',
      '--data',
      data,
      '--out',
      out,
      '--model',
      model,
      '--rounds',
      '2',
      '--steps',
      '4',
      '--no-alone'
    ])
    assert.equal(ended.code, 0, ended.stderr)
    const report = testnetReportSchema.parse(JSON.parse(readFileSync(join(out, 'report.json'), 'utf8')))
    assert.deepEqual(report.invariants.violations, [])
    // Two blocks, query [16, 16] and down [32, 16] with rank 2 each.
    assert.equal(report.model.parameters, 2 * (2 * (16 + 16) + 2 * (32 + 16)))

    const folder = new NodeFolder(join(out, report.organizations[0]!.folder!))
    const adapters = { rank: 2, alpha: 16, matrices: ['query' as const, 'down' as const] }
    const { config, parameters } = await readNodeModel(folder.root, 'personal')
    const whole = createLayout(config, { keyFraction: 1, embeddingIsKey: true })
    const layout = createLayout(config, { keyFraction: 1, embeddingIsKey: true, adapters })
    assert.ok(statSync(folder.model('personal')).size < whole.floats)
    const [base, own] = [new Float32Array(whole.floats), new Float32Array(layout.floats)]
    readModelFile(folder.model('base'), whole, [base])
    readModelFile(folder.model('personal'), layout, [own])

    const options = { batch: 2, threads: 1, weightDecay: 0, gradientClip: 0 }
    const nll = async (of: typeof layout, given: Float32Array) => {
      const engine = await createEngine('reference', { ...options, layout: of })
      if (of.base !== undefined) await engine.loadBase(base)
      await engine.load(given)
      return engine.evaluate(randomBatch({ ...options, layout: of }, 1))
    }
    const [merged, apart, untrained] = [await nll(whole, parameters), await nll(layout, own), await nll(whole, base)]
    const apartMost = Math.max(...merged.map((value, place) => Math.abs(value - apart[place]!)))
    assert.ok(apartMost < 1e-5, `${apartMost}`)
    assert.ok(Math.max(...merged.map((value, place) => Math.abs(value - untrained[place]!))) > 1e-3)
  })
})
