/** Logits in chunks of rows are the same loss and gradient: a vocabulary so large that a batch needs several chunks, against the reference. */
import assert from 'node:assert/strict'
import { createEngine } from '../../src/engine/create.ts'
import { engineOptions, randomBatch, testParameters } from './models.ts'

describe('the loss of a large vocabulary', () => {
  it('agrees with the reference engine where a batch needs more than one chunk of logits', async function () {
    this.timeout(120_000)
    // 8 Mi floats of logits a chunk: 64 rows at a vocabulary of 131,072; 4 windows of 24 tokens are 96.
    const options = engineOptions({ layers: 1, context: 24, vocabulary: 131_072 }, { batch: 4 })
    const gradients = []
    for (const name of ['onnx', 'reference'] as const) {
      const engine = await createEngine(name, options)
      await engine.load(testParameters(options, 3))
      gradients.push(await engine.gradient(randomBatch(options, 5)))
      await engine.dispose()
    }
    const [mine, oracle] = gradients as [(typeof gradients)[number], (typeof gradients)[number]]
    assert.ok(Math.abs(mine.loss - oracle.loss) < 1e-5 * oracle.loss)
    for (const { name, offset, floats } of options.layout.tensors) {
      const [got, want] = [mine, oracle].map(({ gradient }) => gradient.subarray(offset, offset + floats)) as [
        Float32Array,
        Float32Array
      ]
      let [difference, length] = [0, 0]
      for (const [place, value] of want.entries()) {
        difference += (got[place]! - value) ** 2
        length += value ** 2
      }
      assert.ok(Math.sqrt(difference / length) < 1e-5, `${name}: ${Math.sqrt(difference / length)}`)
    }
  })
})
