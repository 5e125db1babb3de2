import assert from 'node:assert/strict'
import { createLayout, type ModelConfig } from '../../src/model/layout.ts'
import { ropeDivisors } from '../../src/model/rope.ts'

const config: ModelConfig = {
  layers: 2,
  width: 32,
  hidden: 64,
  heads: 2,
  context: 8,
  vocabulary: 256,
  ropeBase: 10_000,
  normEpsilon: 1e-5
}
const llama3 = { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 256 } as const

describe('RoPE’s turns', () => {
  it('are powers of the base without scaling, and slower by the factor with linear scaling', () => {
    const plain = ropeDivisors(config)
    assert.deepEqual([...plain.subarray(0, 2)], [1, 10_000 ** (2 / 16)])
    const linear = ropeDivisors({ ...config, ropeScaling: { type: 'linear', factor: 4 } })
    assert.deepEqual(
      [...linear],
      [...plain].map(value => value * 4)
    )
  })

  it('of Llama 3 stay where fast, are slowed where slow, and grow between', () => {
    const plain = ropeDivisors(config)
    const scaled = ropeDivisors({ ...config, ropeScaling: llama3 })
    const rounds = [...plain].map(divisor => 256 / (2 * Math.PI * divisor))
    const kinds = rounds.map(value => (value > 4 ? 'fast' : value < 1 ? 'slow' : 'between'))
    assert.deepEqual(new Set(kinds), new Set(['fast', 'between', 'slow']))
    for (const [pair, kind] of kinds.entries()) {
      const ratio = scaled[pair]! / plain[pair]!
      if (kind === 'fast') assert.equal(ratio, 1)
      else if (kind === 'slow') assert.equal(ratio, 8)
      else assert.ok(ratio > 1 && ratio < 8, `pair ${pair}: ${ratio}`)
    }
  })
})

describe('the layout of Llama’s variants', () => {
  const keys = { keyFraction: 0.5, embeddingIsKey: true }

  it('has narrow keys and values, and a head in the group of the last block', () => {
    const { tensors, floats, groups } = createLayout({ ...config, heads: 4, kvHeads: 1, tiedHead: false }, keys)
    const of = (name: string) => tensors.find(tensor => tensor.name === name)
    assert.deepEqual(of('blocks.0.key')?.shape, [32, 8])
    assert.deepEqual(of('blocks.1.value')?.shape, [32, 8])
    assert.deepEqual(of('head'), {
      name: 'head',
      shape: [256, 32],
      offset: floats - 256 * 32,
      floats: 256 * 32,
      class: 'keys',
      group: '1'
    })
    assert.deepEqual(groups, ['embedding', '1'])
  })

  it('is the same whether defaults are written out or not', () => {
    assert.deepEqual(createLayout({ ...config, kvHeads: 2, tiedHead: true }, keys).tensors, createLayout(config, keys).tensors)
  })

  const wrong: { why: string; change: Partial<ModelConfig> }[] = [
    { why: 'kvHeads', change: { heads: 4, kvHeads: 3 } },
    { why: 'kvHeads', change: { kvHeads: 0 } },
    { why: 'ropeScaling.factor', change: { ropeScaling: { ...llama3, factor: 0 } } },
    { why: 'ropeScaling.type', change: { ropeScaling: { type: 'yarn', factor: 2 } as never } }
  ]
  for (const { why, change } of wrong) {
    it(`refuses ${JSON.stringify(change)}, naming ${why}`, () => {
      assert.throws(() => createLayout({ ...config, ...change }, keys), {
        code: 'BAD_MODEL',
        message: new RegExp(`model\\.${why.replace('.', '\\.')} is`)
      })
    })
  }
})
