/** The `tfjs` engine against the reference, on every TensorFlow.js package that is installed; WebAssembly's always is. */
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { ReferenceEngine } from '../../src/engine/reference.ts'
import { withinMemory } from '../../src/engine/tfjs/runtime.ts'
import { TfjsEngine } from '../../src/engine/tfjs/tfjs-engine.ts'
import { distance, engineOptions, families, randomBatch, testParameters } from './models.ts'

const installed = (name: string): boolean => {
  try {
    createRequire(import.meta.url).resolve(name)
    return true
  } catch {
    return false
  }
}

describe('what traps in WebAssembly', () => {
  it('is said to be too large for its memory; what is thrown besides stays as it is', () => {
    const trap = () => {
      throw new WebAssembly.RuntimeError('memory access out of bounds')
    }
    assert.throws(() => withinMemory('a batch', trap), {
      code: 'MODEL_TOO_LARGE',
      message: /^a batch needs more .*out of bounds/
    })
    assert.throws(() => withinMemory('a batch', () => assert.fail('else')), { message: 'else' })
    assert.equal(
      withinMemory('a batch', () => 1),
      1
    )
  })
})

for (const runtime of ['@tensorflow/tfjs-backend-wasm', '@tensorflow/tfjs-node'] as const) {
  describe(`the tfjs engine on ${runtime}`, function () {
    this.timeout(60_000)
    before(function () {
      if (!installed(runtime)) this.skip()
    })

    for (const { why, config } of [{ why: 'the default', config: {} }, ...families]) {
      it(`has the reference's gradient to 1e-5 on every tensor: ${why}`, async () => {
        const options = engineOptions(config)
        const [mine, oracle] = [await TfjsEngine.create(options, runtime), new ReferenceEngine(options)]
        const [parameters, batch] = [testParameters(options, 1), randomBatch(options, 2)]
        await mine.load(parameters)
        await oracle.load(parameters)
        const [got, want] = [await mine.gradient(batch), await oracle.gradient(batch)]
        assert.ok(Math.abs(got.loss - want.loss) < 1e-5 * want.loss)
        for (const { name, offset, floats } of options.layout.tensors) {
          const error = distance(
            got.gradient.subarray(offset, offset + floats),
            want.gradient.subarray(offset, offset + floats)
          )
          assert.ok(error < 1e-5, `${name}: ${error}`)
        }
        assert.ok(distance(await mine.evaluate(batch), await oracle.evaluate(batch)) < 1e-5)
        await mine.dispose()
      })
    }

    it('takes the steps that the reference takes, and goes on from what it saved', async () => {
      const options = engineOptions()
      const [mine, oracle] = [await TfjsEngine.create(options, runtime), new ReferenceEngine(options)]
      const parameters = testParameters(options, 4)
      await mine.load(parameters)
      await oracle.load(parameters)
      for (let step = 0; step < 6; step++) {
        if (step === 3) {
          const { parameters: saved, optimizer } = await mine.read()
          await mine.load(saved, optimizer)
        }
        // The last steps are drawn back to where they began, as `ditto` does it.
        const pull = step < 4 ? undefined : { towards: parameters, strength: 0.5 }
        const [got, want] = [
          await mine.step(randomBatch(options, step), 1e-3, pull),
          await oracle.step(randomBatch(options, step), 1e-3, pull)
        ]
        assert.ok(Math.abs(got - want) < 1e-4, `step ${step}: ${got}, ${want}`)
      }
      const [got, want] = [await mine.read(), await oracle.read()]
      assert.ok(distance(got.parameters, want.parameters) < 2e-5)
      assert.ok(distance(got.optimizer.second, want.optimizer.second) < 1e-4)
      assert.equal(got.optimizer.step, 6)
      await mine.dispose()
    })
  })
}
