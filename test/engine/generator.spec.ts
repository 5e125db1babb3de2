import assert from 'node:assert/strict'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { createEngine } from '../../src/engine/create.ts'
import { buildGenerationGraph } from '../../src/engine/onnx/generation-graph.ts'
import { Generator } from '../../src/engine/onnx/generator.ts'
import type { ModelConfig } from '../../src/model/layout.ts'
import { engineOptions, families, randomBatch, testParameters } from './models.ts'

/** −ln softmax(logits)[target] of each row. */
function nllOf(logits: Float32Array, targets: Int32Array, vocabulary: number): number[] {
  return Array.from(targets, (target, row) => {
    const values = logits.subarray(row * vocabulary, (row + 1) * vocabulary)
    const most = Math.max(...values)
    return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0)) - values[target]!
  })
}

const close = (mine: ArrayLike<number>, want: ArrayLike<number>, most: number, what: string): void => {
  assert.equal(mine.length, want.length)
  for (let place = 0; place < want.length; place++)
    assert.ok(Math.abs(mine[place]! - want[place]!) < most, `${what}, place ${place}: ${mine[place]} instead of ${want[place]}`)
}

describe('the generator', () => {
  for (const { why, config } of [{ why: 'defaults', config: {} as Partial<ModelConfig> }, ...families]) {
    it(`gives what the reference gives, whether tokens come at once, one by one, or in parts: ${why}`, async () => {
      const options = engineOptions({ context: 12, ...config }, { batch: 1 })
      const model = options.layout.config
      const parameters = Float32Array.from(testParameters(options, 11))
      const { inputs, targets } = randomBatch(options, 11)
      const reference = await createEngine('reference', options)
      await reference.load(parameters)
      const want = await reference.evaluate({ inputs, targets })
      const generator = await Generator.create(model, parameters, 1)
      const atOnce = await generator.feed(inputs, 'each')
      close(nllOf(atOnce, targets, model.vocabulary), want, 1e-5, 'at once')
      for (const cuts of [[...inputs.keys()].slice(1), [5, 7]]) {
        generator.truncate(0)
        for (const [part, from] of [0, ...cuts].entries()) {
          const to = cuts[part] ?? inputs.length
          const logits = await generator.feed(inputs.subarray(from, to))
          close(
            logits,
            atOnce.subarray((to - 1) * model.vocabulary, to * model.vocabulary),
            1e-4,
            `cut at ${cuts}, ${from}..${to}`
          )
        }
        assert.equal(generator.length, inputs.length)
      }
      await generator.dispose()
    })
  }

  it('goes on from where it was cut back to', async () => {
    const options = engineOptions({ context: 12 }, { batch: 1 })
    const { inputs } = randomBatch(options, 2)
    const generator = await Generator.create(options.layout.config, Float32Array.from(testParameters(options, 2)), 1)
    await generator.feed(inputs.subarray(0, 4))
    const want = (await generator.feed(inputs.subarray(4, 6))).slice()
    generator.truncate(3)
    await generator.feed(inputs.subarray(7, 9))
    generator.truncate(3)
    await generator.feed(inputs.subarray(3, 4))
    close(await generator.feed(inputs.subarray(4, 6)), want, 1e-5, 'again')
    await generator.dispose()
  })

  it('takes texts longer than what it computes at once', async () => {
    const options = engineOptions({ context: 300, width: 16, heads: 2, kvHeads: 1 }, { batch: 1 })
    const parameters = Float32Array.from(testParameters(options, 4))
    const { inputs, targets } = randomBatch(options, 4)
    const engine = await createEngine('onnx', options)
    await engine.load(parameters)
    const want = await engine.evaluate({ inputs, targets })
    const generator = await Generator.create(options.layout.config, parameters, 1)
    close(nllOf(await generator.feed(inputs, 'each'), targets, options.layout.config.vocabulary), want, 1e-4, 'nll')
    await Promise.all([generator.dispose(), engine.dispose()])
  })

  it('stands alone as an ONNX file: the same logits from onnxruntime, without our weights', async () => {
    const options = engineOptions({ ...families.at(-1)!.config, context: 12 }, { batch: 1 })
    const config = options.layout.config
    const parameters = Float32Array.from(testParameters(options, 3))
    const generator = await Generator.create(config, parameters, 1)
    const { inputs } = randomBatch(options, 3)
    const want = await generator.feed(inputs.subarray(0, 1))
    const session = await InferenceSession.create(buildGenerationGraph(config, parameters))
    const columns = ((config.kvHeads ?? config.heads) * config.width) / config.heads
    const past = Array.from({ length: config.layers }, (_, block) =>
      ['key', 'value'].map(kind => `blocks.${block}.past.${kind}`)
    )
    const { logits } = await session.run({
      tokens: new Tensor('int32', inputs.slice(0, 1), [1]),
      positions: new Tensor('int64', BigInt64Array.of(0n), [1, 1]),
      mask: new Tensor('float32', new Float32Array(1), [1, 1]),
      wanted: new Tensor('int64', BigInt64Array.of(0n), [1]),
      ...Object.fromEntries(past.flat().map(name => [name, new Tensor('float32', new Float32Array(0), [0, columns])]))
    })
    close(logits!.data as Float32Array, want, 1e-5, 'logits')
    await Promise.all([generator.dispose(), session.release()])
  })

  it('refuses what does not fit: more tokens than the context, a token of no vocabulary', async () => {
    const options = engineOptions({}, { batch: 1 })
    const generator = await Generator.create(options.layout.config, Float32Array.from(testParameters(options, 1)), 1)
    await assert.rejects(generator.feed(new Int32Array(options.layout.config.context + 1)), /fits the context/)
    await assert.rejects(generator.feed([options.layout.config.vocabulary]), /of the vocabulary/)
    await generator.dispose()
  })
})
