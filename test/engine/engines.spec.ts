import assert from 'node:assert/strict'
import { createEngine } from '../../src/engine/create.ts'
import { type Engine, type EngineOptions, microBatchOf } from '../../src/engine/engine.ts'
import type { ModelConfig } from '../../src/model/layout.ts'
import {
  assertFiniteDifferences,
  assertSwaps,
  distance,
  engineOptions,
  families,
  randomBatch,
  testParameters
} from './models.ts'

async function withEngine<Result>(
  name: Engine['name'],
  options: EngineOptions,
  use: (engine: Engine) => Promise<Result>
): Promise<Result> {
  const engine = await createEngine(name, options)
  try {
    return await use(engine)
  } finally {
    await engine.dispose()
  }
}

const gradientOf = (name: Engine['name'], options: EngineOptions, seed: number) =>
  withEngine(name, options, async engine => {
    await engine.load(testParameters(options, seed))
    return engine.gradient(randomBatch(options, seed))
  })

describe('the reference engine', () => {
  for (const { why, config } of [{ why: 'defaults', config: {} }, ...families]) {
    it(`has the gradient that finite differences have, in every tensor: ${why}`, () => agreesWithDifferences(config))
  }

  async function agreesWithDifferences(config: Partial<ModelConfig>) {
    const options = engineOptions(config)
    const parameters = testParameters(options, 1)
    const batch = randomBatch(options, 1)
    const engine = await createEngine('reference', options)
    await assertFiniteDifferences(engine, parameters, batch)
  }
})

const shapes: { why: string; config: Partial<ModelConfig>; batch: number }[] = [
  { why: 'two heads, two windows', config: {}, batch: 2 },
  { why: 'one window, one head, one layer', config: { heads: 1, layers: 1 }, batch: 1 },
  { why: 'an odd context, a vocabulary that is no multiple of 4', config: { context: 7, vocabulary: 23 }, batch: 3 },
  { why: 'wider than long', config: { width: 64, hidden: 96, heads: 4, context: 4, vocabulary: 50 }, batch: 2 },
  { why: 'more windows than places', config: { context: 3, ropeScaling: { type: 'linear', factor: 2 } }, batch: 5 },
  { why: 'several stretches of attention, the last one short', config: { context: 300, layers: 1 }, batch: 2 },
  ...families.map(family => ({ ...family, batch: 2 }))
]

describe('the onnx engine', () => {
  for (const [seed, { why, config, batch }] of shapes.entries()) {
    for (const threads of [1, 2]) {
      it(`agrees with the reference to 1e-5 on every tensor's gradient: ${why}, ${threads} thread(s)`, async () => {
        const options = engineOptions(config, { batch, threads })
        const [mine, oracle] = [await gradientOf('onnx', options, seed), await gradientOf('reference', options, seed)]
        assert.ok(Math.abs(mine.loss - oracle.loss) < 1e-5 * oracle.loss)
        for (const { name, offset, floats } of options.layout.tensors) {
          const error = distance(
            mine.gradient.subarray(offset, offset + floats),
            oracle.gradient.subarray(offset, offset + floats)
          )
          assert.ok(error < 1e-5, `${name}: ${error}`)
        }
      })
    }
  }

  for (const { microBatch, config } of [
    { microBatch: 1, config: {} },
    { microBatch: 3, config: {} },
    { microBatch: 5, config: { tiedHead: false, kvHeads: 1 } }
  ])
    it(`accumulates gradients over micro-batches of at most ${microBatch}, and evaluates them in order`, async () => {
      const options = engineOptions(config, { batch: 6 })
      const batch = randomBatch(options, 4)
      const use = (name: Engine['name'], some: EngineOptions) =>
        withEngine(name, some, async engine => {
          await engine.load(testParameters(options, 2))
          const [nll, { loss, gradient }] = [await engine.evaluate(batch), await engine.gradient(batch)]
          await engine.step(batch, 0.01)
          return { nll, loss, gradient, after: (await engine.read()).parameters }
        })
      const [mine, oracle] = [await use('onnx', { ...options, microBatch }), await use('reference', options)]
      assert.ok(Math.abs(mine.loss - oracle.loss) < 1e-5 * oracle.loss)
      for (const name of ['nll', 'gradient', 'after'] as const)
        assert.ok(distance(mine[name], oracle[name]) < 2e-5, `${name}: ${distance(mine[name], oracle[name])}`)
    })

  it('computes in micro-batches of equal size, as large as may be', () => {
    const sizes = (batch: number) => [0, 1, 2, 3, 4, 5, 6, 100].map(microBatch => microBatchOf({ batch, microBatch }))
    assert.deepEqual(sizes(6), [6, 1, 2, 3, 3, 3, 6, 6])
    assert.deepEqual(sizes(7), [7, 1, 1, 1, 1, 1, 1, 7])
    assert.equal(microBatchOf({ batch: 4 }), 4)
  })

  it('computes again what it did not keep, to the bit', async () => {
    const gradientWith = (recompute: EngineOptions['recompute']) =>
      gradientOf('onnx', engineOptions({ context: 260 }, { ...(recompute && { recompute }) }), 3)
    const kept = await gradientWith('none')
    assert.deepEqual(await gradientWith('attention'), kept)
    assert.deepEqual(await gradientWith('blocks'), kept)
    assert.deepEqual(await gradientWith(undefined), kept)
  })

  it('evaluates other parameters of a model that is more than one piece of its memory', async () => {
    const options = engineOptions({ vocabulary: 3001, width: 64, hidden: 64 }, { threads: 1 })
    await withEngine('onnx', options, engine => withEngine('onnx', options, other => assertSwaps(engine, other)))
  })

  it('takes the steps of AdamW that the reference takes, with and without clipping', async () => {
    for (const gradientClip of [0, 0.5]) {
      const options = engineOptions({}, { gradientClip })
      const run = (name: Engine['name']) =>
        withEngine(name, options, async engine => {
          await engine.load(testParameters(options, 3))
          const losses: number[] = []
          for (let step = 0; step < 8; step++) losses.push(await engine.step(randomBatch(options, step), 0.01))
          return { losses, ...(await engine.read()) }
        })
      const [mine, oracle] = [await run('onnx'), await run('reference')]
      assert.ok(
        distance(mine.parameters, oracle.parameters) < 2e-5,
        `parameters ${distance(mine.parameters, oracle.parameters)}`
      )
      assert.ok(distance(mine.optimizer.second, oracle.optimizer.second) < 2e-5)
      assert.equal(mine.optimizer.step, 8)
      for (const [step, loss] of mine.losses.entries()) assert.ok(Math.abs(loss - oracle.losses[step]!) < 1e-4, `step ${step}`)
    }
  })
})

for (const name of ['onnx', 'reference', 'tfjs'] as const) {
  describe(`contract of an engine: ${name}`, () => {
    it('has zeros before anything was loaded', async () => {
      const options = engineOptions()
      await withEngine(name, options, async engine => {
        const { parameters, optimizer } = await engine.read()
        const zeros = new Float32Array(options.layout.floats)
        assert.deepEqual([parameters, optimizer], [zeros, { first: zeros, second: zeros, step: 0 }])
      })
    })

    it('gives equal bits for equal seeds, with one thread', async () => {
      const options = engineOptions({}, { threads: 1 })
      const run = () =>
        withEngine(name, options, async engine => {
          await engine.load(testParameters(options, 5))
          for (let step = 0; step < 5; step++) await engine.step(randomBatch(options, step), 0.01)
          return (await engine.read()).parameters
        })
      assert.deepEqual(await run(), await run())
    })

    it('goes on from what was read, bit for bit', async () => {
      const options = engineOptions()
      const straight = await withEngine(name, options, async engine => {
        await engine.load(testParameters(options, 5))
        for (let step = 0; step < 4; step++) await engine.step(randomBatch(options, step), 0.01)
        return (await engine.read()).parameters
      })
      const half = await withEngine(name, options, async engine => {
        await engine.load(testParameters(options, 5))
        for (let step = 0; step < 2; step++) await engine.step(randomBatch(options, step), 0.01)
        return engine.read()
      })
      const resumed = await withEngine(name, options, async engine => {
        await engine.load(half.parameters, half.optimizer)
        for (let step = 2; step < 4; step++) await engine.step(randomBatch(options, step), 0.01)
        return (await engine.read()).parameters
      })
      assert.deepEqual(resumed, straight)
    })

    it('evaluates each token, as the loss of a step has it in the mean', async () => {
      const options = engineOptions()
      await withEngine(name, options, async engine => {
        await engine.load(testParameters(options, 7))
        const batch = randomBatch(options, 7)
        const nll = await engine.evaluate(batch)
        assert.equal(nll.length, batch.targets.length)
        const mean = nll.reduce((sum, value) => sum + value, 0) / nll.length
        assert.ok(Math.abs(mean - (await engine.step(batch, 0))) < 1e-5)
      })
    })

    it('evaluates other parameters, and goes on as if it had not, to the bit', async () => {
      const options = engineOptions({}, { threads: 1 })
      await withEngine(name, options, engine => withEngine(name, options, other => assertSwaps(engine, other)))
    })

    it('learns a batch by heart', async () => {
      const options = engineOptions()
      await withEngine(name, options, async engine => {
        await engine.load(testParameters(options, 9))
        const batch = randomBatch(options, 9)
        const before = await engine.step(batch, 0.02)
        for (let step = 0; step < 60; step++) await engine.step(batch, 0.02)
        assert.ok((await engine.step(batch, 0.02)) < before / 3)
      })
    })

    it('says so when training diverges, and names the step', async () => {
      const options = engineOptions()
      await withEngine(name, options, async engine => {
        await engine.load(testParameters(options, 9).fill(Number.NaN))
        await assert.rejects(engine.step(randomBatch(options, 1), 0.1), { code: 'ENGINE_DIVERGED', message: /step 1/ })
      })
    })
  })
}
