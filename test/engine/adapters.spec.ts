/** Adapters over a model that stays: gradients of every engine against the reference, the reference against finite differences. */
import assert from 'node:assert/strict'
import { createEngine } from '../../src/engine/create.ts'
import type { Engine, EngineOptions } from '../../src/engine/engine.ts'
import { mergeAdapters } from '../../src/model/adapters.ts'
import { initialParameters } from '../../src/model/initial.ts'
import { adaptable, type Adapters, createLayout, type ModelConfig } from '../../src/model/layout.ts'
import {
  adapterOptions,
  assertFiniteDifferences,
  distance,
  engineOptions,
  families,
  randomBatch,
  testParameters
} from './models.ts'

const baseOf = (options: EngineOptions, seed: number): Float32Array =>
  testParameters({ ...options, layout: options.layout.base! }, seed)

async function open(name: Engine['name'], options: EngineOptions, seed: number): Promise<Engine> {
  const engine = await createEngine(name, options)
  await engine.loadBase(baseOf(options, seed))
  await engine.load(testParameters(options, seed + 1))
  return engine
}

const all: Adapters['matrices'] = [...adaptable]
const cases: { why: string; config: Partial<ModelConfig>; adapters: Partial<Adapters> }[] = [
  { why: 'queries and values', config: {}, adapters: {} },
  { why: 'every matrix', config: {}, adapters: { matrices: all, rank: 4, alpha: 8 } },
  { why: 'one matrix of the feed-forward part, rank 1', config: {}, adapters: { matrices: ['down'], rank: 1, alpha: 1 } },
  ...families.map(({ why, config }) => ({ why, config, adapters: { matrices: all } }))
]

describe('adapters', () => {
  it('have the gradient that finite differences have, in every tensor', async () => {
    const options = adapterOptions({}, { matrices: all })
    const engine = await open('reference', options, 1)
    await assertFiniteDifferences(engine, testParameters(options, 2), randomBatch(options, 1))
  })

  for (const name of ['onnx', 'tfjs'] as const) {
    for (const { why, config, adapters } of cases) {
      it(`${name} agrees with the reference to 1e-5 on every gradient, and on every token: ${why}`, async () => {
        const options = adapterOptions(config, adapters)
        const [mine, oracle] = [await open(name, options, 3), await open('reference', options, 3)]
        const batch = randomBatch(options, 4)
        const [got, want] = [await mine.gradient(batch), await oracle.gradient(batch)]
        assert.ok(Math.abs(got.loss - want.loss) < 1e-5 * want.loss)
        for (const tensor of options.layout.tensors) {
          const part = (values: Float32Array) => values.subarray(tensor.offset, tensor.offset + tensor.floats)
          const error = distance(part(got.gradient), part(want.gradient))
          assert.ok(error < 1e-5, `${tensor.name}: ${error}`)
        }
        assert.ok(distance(await mine.evaluate(batch), await oracle.evaluate(batch)) < 1e-5)
        await mine.dispose()
      })
    }
  }

  for (const name of ['onnx', 'tfjs', 'reference'] as const) {
    it(`${name} learns, leaves the base alone, and goes on with another base`, async () => {
      const options = adapterOptions({}, { matrices: all, rank: 4, alpha: 8 })
      const engine = await createEngine(name, options)
      const [base, other, batch] = [baseOf(options, 5), baseOf(options, 6), randomBatch(options, 5)]
      await engine.loadBase(base)
      await engine.load(initialParameters(options.layout, 0))
      const before = await engine.step(batch, 0.02)
      for (let step = 0; step < 30; step++) await engine.step(batch, 0.02)
      assert.ok((await engine.step(batch, 0.02)) < before - 0.3, `${before}`)
      assert.deepEqual(base, baseOf(options, 5))
      await engine.load(initialParameters(options.layout, 0))
      await engine.loadBase(other)
      const plain = await createEngine('reference', engineOptions())
      await plain.load(other)
      // B begins at 0: adapters change nothing yet.
      assert.ok(distance(await engine.evaluate(batch), await plain.evaluate(batch)) < 1e-5)
      await engine.dispose()
    })
  }

  it('merged are the model that base and adapters are together', async () => {
    const options = adapterOptions({ kvHeads: 1 }, { matrices: all, rank: 4 })
    const engine = await open('reference', options, 7)
    const whole = engineOptions({ kvHeads: 1 })
    const merged = await createEngine('onnx', whole)
    await merged.load(mergeAdapters(options.layout, baseOf(options, 7), testParameters(options, 8)))
    const batch = randomBatch(options, 9)
    assert.ok(distance(await merged.evaluate(batch), await engine.evaluate(batch)) < 1e-5)
    await merged.dispose()
  })

  it('are averaged or attended to as the blocks that they belong to', () => {
    const { layout } = adapterOptions({ layers: 4 }, { matrices: ['query'] })
    assert.deepEqual(layout.groups, ['2', '3'])
    assert.deepEqual(
      layout.tensors.map(({ name, group }) => [name, group]),
      [0, 1, 2, 3].flatMap(block =>
        ['loraA', 'loraB'].map(part => [`blocks.${block}.query.${part}`, block < 2 ? null : String(block)])
      )
    )
  })

  for (const { why, adapters } of [
    { why: 'rank 0', adapters: { rank: 0 } },
    { why: 'a rank above the matrix', adapters: { rank: 12 } },
    { why: 'no matrix', adapters: { matrices: [] } },
    { why: 'alpha 0', adapters: { alpha: 0 } }
  ])
    it(`are refused with ${why}`, () => {
      const asked: Adapters = Object.assign({ rank: 2, alpha: 2, matrices: ['query'] }, adapters)
      const { config } = engineOptions().layout
      assert.throws(() => createLayout(config, { keyFraction: 1, embeddingIsKey: true, adapters: asked }), {
        code: 'BAD_MODEL'
      })
    })
})
