/**
 * The portable graph with AdamW in it: on the CPU's kernels against the reference, and on a WebGPU adapter where this machine has one (a software
 * adapter is enough, whatever Vulkan driver its loader finds).
 */
import assert from 'node:assert/strict'
import type { Engine, EngineOptions } from '../../src/engine/engine.ts'
import { type Device, DeviceEngine } from '../../src/engine/onnx/device-engine.ts'
import { ReferenceEngine } from '../../src/engine/reference.ts'
import { adaptable } from '../../src/model/layout.ts'
import { adapterOptions, assertSwaps, distance, engineOptions, families, randomBatch, testParameters } from './models.ts'

async function load(engine: Engine, options: EngineOptions): Promise<void> {
  if (options.layout.base !== undefined) await engine.loadBase(testParameters({ ...options, layout: options.layout.base }, 1))
  await engine.load(testParameters(options, 1))
}

const cases: { why: string; options: () => EngineOptions }[] = [
  { why: 'the default', options: () => engineOptions() },
  { why: 'several stretches of attention', options: () => engineOptions({ context: 300, layers: 1 }) },
  { why: 'several chunks of logits', options: () => engineOptions({ layers: 1, context: 70, vocabulary: 90_000 }) },
  { why: 'adapters', options: () => adapterOptions({}, { matrices: [...adaptable] }) },
  ...families.map(({ why, config }) => ({ why, options: () => engineOptions(config) }))
]

for (const device of ['cpu', 'webgpu'] as const) {
  describe(`the portable graph on ${device}`, function () {
    this.timeout(120_000)
    before(async function () {
      const missing = await whyMissing(device)
      if (missing === null) return
      console.log(`    skipped: ${missing}`)
      this.skip()
    })

    for (const { why, options: make } of cases) {
      it(`has the reference's gradient to 1e-5 on every tensor, and its evaluation: ${why}`, async () => {
        const options = make()
        const [mine, oracle] = [await DeviceEngine.create(options, device), new ReferenceEngine(options)]
        const batch = randomBatch(options, 2)
        await load(mine, options)
        await load(oracle, options)
        const [got, want] = [await mine.gradient(batch), await oracle.gradient(batch)]
        assert.ok(Math.abs(got.loss - want.loss) < 1e-5 * want.loss)
        for (const { name, offset, floats } of options.layout.tensors) {
          const part = (values: Float32Array) => values.subarray(offset, offset + floats)
          const error = distance(part(got.gradient), part(want.gradient))
          assert.ok(error < 1e-5, `${name}: ${error}`)
        }
        assert.ok(distance(await mine.evaluate(batch), await oracle.evaluate(batch)) < 1e-5)
        await mine.dispose()
      })
    }

    for (const gradientClip of [0, 0.5])
      it(`takes the reference's steps, pulled or not, and goes on from what it read (clip ${gradientClip})`, async () => {
        const options = engineOptions({}, { gradientClip })
        const [mine, oracle] = [await DeviceEngine.create(options, device), new ReferenceEngine(options)]
        const parameters = testParameters(options, 1)
        assert.deepEqual(await mine.read(), await oracle.read(), 'zeros before anything was loaded')
        await mine.load(parameters)
        await oracle.load(parameters)
        for (let step = 0; step < 8; step++) {
          if (step === 4) {
            const { parameters: saved, optimizer } = await mine.read()
            await mine.load(saved, optimizer)
          }
          const pull = step < 6 ? undefined : { towards: parameters, strength: 0.5 }
          const batch = randomBatch(options, step)
          const [got, want] = [await mine.step(batch, 0.01, pull), await oracle.step(batch, 0.01, pull)]
          assert.ok(Math.abs(got - want) < 1e-4, `step ${step}: ${got}, ${want}`)
        }
        const [got, want] = [await mine.read(), await oracle.read()]
        assert.ok(distance(got.parameters, want.parameters) < 2e-5)
        assert.ok(distance(got.optimizer.second, want.optimizer.second) < 1e-4)
        assert.equal(got.optimizer.step, 8)
        await mine.dispose()
      })

    it('evaluates other parameters, and goes on as if it had not, to the bit', async () => {
      const options = engineOptions()
      const [engine, other] = [await DeviceEngine.create(options, device), await DeviceEngine.create(options, device)]
      await assertSwaps(engine, other)
      for (const one of [engine, other]) await one.dispose()
    })

    it('has each of several others in turn, evaluated or not, and its own again; and goes on from another where that is trained', async () => {
      const options = engineOptions()
      const [engine, alike] = [await DeviceEngine.create(options, device), await DeviceEngine.create(options, device)]
      const batch = randomBatch(options, 1)
      for (const one of [engine, alike]) {
        await one.load(testParameters(options, 1))
        await one.step(batch, 0.01)
      }
      const { parameters: own } = await alike.read()
      const buffer = testParameters(options, 2)
      await engine.swap(buffer)
      const first = await engine.evaluate(batch)
      assert.deepEqual(await engine.evaluate(batch), first)
      for (const seed of [3, 4]) {
        const other = testParameters(options, seed)
        await engine.swap(other)
        assert.deepEqual(other, testParameters(options, seed === 3 ? 2 : 3))
      }
      const again = testParameters(options, 2)
      await engine.swap(again)
      assert.deepEqual(await engine.evaluate(batch), first)
      await engine.swap(buffer)
      assert.deepEqual(buffer, testParameters(options, 2))
      assert.deepEqual((await engine.read()).parameters, own)
      for (const one of [engine, alike]) await one.swap(testParameters(options, 5))
      assert.equal(await engine.step(batch, 0.01), await alike.step(batch, 0.01))
      assert.deepEqual(await engine.read(), await alike.read())
      for (const one of [engine, alike]) await one.dispose()
    })

    it('says so when training diverges, and keeps what it had', async () => {
      const options = engineOptions()
      const engine = await DeviceEngine.create(options, device)
      const spoiled = testParameters(options, 9).fill(Number.NaN, 0, 8)
      await engine.load(spoiled)
      const batch = { ...randomBatch(options, 1), inputs: new Int32Array(12) }
      await assert.rejects(engine.step(batch, 0.1), { code: 'ENGINE_DIVERGED', message: /step 1/ })
      assert.deepEqual((await engine.read()).parameters, spoiled)
      await engine.dispose()
    })
  })
}

/** null: it is there. */
async function whyMissing(device: Device): Promise<string | null> {
  try {
    await (await DeviceEngine.create(engineOptions(), device)).dispose()
    return null
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'DEVICE_MISSING', String(error))
    return (error as Error).message
  }
}

it('a device that is not there is an error that says what to do', async () => {
  await assert.rejects(DeviceEngine.create(engineOptions(), 'cuda'), {
    code: 'DEVICE_MISSING',
    message: /no device for cuda/,
    hint: /engine\.device: cpu/
  })
})
