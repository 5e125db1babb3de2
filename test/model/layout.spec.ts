/** Every float of the model belongs to one tensor, one class and one group, whatever the model and the share of key layers. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { WorldlmError } from '../../src/errors.ts'
import { backboneRanges, createLayout, groupRanges, type ModelConfig } from '../../src/model/layout.ts'
import { presets } from '../../src/model/presets.ts'
import { initialParameters } from '../../src/model/initial.ts'

const base: ModelConfig = { ...presets.tiny.model, layers: 3, width: 16, hidden: 24, heads: 4, vocabulary: 20 }

const configs = fc
  .record({
    layers: fc.integer({ min: 1, max: 7 }),
    headWidth: fc.constantFrom(2, 4, 8),
    heads: fc.constantFrom(1, 2, 4, 6),
    kvShare: fc.constantFrom(1, 2),
    hidden: fc.integer({ min: 1, max: 9 }),
    vocabulary: fc.integer({ min: 1, max: 40 }),
    tiedHead: fc.boolean()
  })
  .filter(({ headWidth, heads, kvShare }) => (headWidth * heads) % 4 === 0 && heads % kvShare === 0)
  .map(({ headWidth, kvShare, hidden, ...rest }) => ({
    ...base,
    ...rest,
    width: headWidth * rest.heads,
    hidden: hidden * 4,
    kvHeads: rest.heads / kvShare
  }))
const keyLayers = fc.record({ keyFraction: fc.double({ min: 0, max: 1, noNaN: true }), embeddingIsKey: fc.boolean() })

describe('the layout', () => {
  it('gives every float to just one tensor, and every tensor to the backbone or to one group', () => {
    fc.assert(
      fc.property(configs, keyLayers, (config, keys) => {
        const layout = createLayout(config, keys)
        let end = 0
        for (const { offset, floats, shape } of layout.tensors) {
          assert.equal(offset, end)
          assert.equal(offset % 4, 0, 'kernels need it')
          assert.equal(
            floats,
            shape.reduce((product, size) => product * size, 1)
          )
          end += floats
        }
        assert.equal(end, layout.floats)
        assert.equal(new Set(layout.tensors.map(({ name }) => name)).size, layout.tensors.length)
        const seen = new Uint8Array(layout.floats)
        for (const { offset, floats } of [...backboneRanges(layout), ...groupRanges(layout)])
          for (let place = offset; place < offset + floats; place++) seen[place]!++
        assert.ok(
          seen.every(count => count === 1),
          'backbone and groups are all there is, and share nothing'
        )
        for (const tensor of layout.tensors) assert.equal(tensor.class === 'keys', tensor.group !== null)
      }),
      { numRuns: 300, seed: 1 }
    )
  })

  it('makes ⌈fraction · L⌉ blocks key layers, from the last one down, and scores each by itself', () => {
    fc.assert(
      fc.property(configs, keyLayers, (config, keys) => {
        const { layers } = config
        const blocks = Math.ceil(keys.keyFraction * layers)
        const want = Array.from({ length: blocks }, (_, place) => String(layers - blocks + place))
        const { groups, tensors } = createLayout(config, keys)
        assert.deepEqual(groups, keys.embeddingIsKey ? ['embedding', ...want] : want)
        const groupOf = (name: string) => tensors.find(tensor => tensor.name === name)?.group
        const last = blocks > 0 ? String(layers - 1) : null
        assert.equal(groupOf('finalNorm'), last, 'the final norm belongs to the last block')
        if (!config.tiedHead) assert.equal(groupOf('head'), last)
      }),
      { numRuns: 200, seed: 2 }
    )
  })

  it('has the sizes that the presets are named for', () => {
    const floats = Object.values(presets).map(
      ({ model }) => createLayout(model, { keyFraction: 1, embeddingIsKey: true }).floats
    )
    assert.deepEqual(floats, [787_584, 3_344_640, 23_468_544])
  })

  const wrong: { field: string; config?: Partial<ModelConfig>; keyFraction?: number }[] = [
    { field: 'layers', config: { layers: 0 } },
    { field: 'layers', config: { layers: 1.5 } },
    { field: 'width', config: { width: 18 } },
    { field: 'hidden', config: { hidden: 10 } },
    { field: 'heads', config: { heads: 5 } },
    { field: 'heads', config: { width: 12, heads: 4 } },
    { field: 'kvHeads', config: { kvHeads: 3 } },
    { field: 'context', config: { context: Number.NaN } },
    { field: 'vocabulary', config: { vocabulary: -1 } },
    { field: 'ropeBase', config: { ropeBase: 0 } },
    { field: 'normEpsilon', config: { normEpsilon: Number.POSITIVE_INFINITY } },
    { field: 'ropeScaling.factor', config: { ropeScaling: { type: 'linear', factor: -1 } } },
    { field: 'keyFraction', keyFraction: 1.01 },
    { field: 'keyFraction', keyFraction: Number.NaN }
  ]
  for (const { field, config = {}, keyFraction = 1 } of wrong) {
    it(`refuses ${JSON.stringify(config)}${keyFraction === 1 ? '' : ` keyFraction ${keyFraction}`} and names ${field}`, () => {
      assert.throws(
        () => createLayout({ ...base, ...config }, { keyFraction, embeddingIsKey: false }),
        (error: WorldlmError) => error.code === 'BAD_MODEL' && error.message.startsWith(`model.${field} is `)
      )
    })
  }
})

describe('initial parameters', () => {
  it('of more than a machine can hold are refused by name', () => {
    const layout = createLayout(presets.tiny.model, { keyFraction: 1, embeddingIsKey: true })
    assert.throws(() => initialParameters({ ...layout, floats: 2 ** 45 }, 0), {
      code: 'MODEL_TOO_LARGE',
      message: /35184372088832 parameters/
    })
  })

  it('are drawn from the seed: norms 1, deviation 0.02, less for projections back into the stream', () => {
    const layout = createLayout(presets.tiny.model, { keyFraction: 1, embeddingIsKey: true })
    const parameters = initialParameters(layout, 3)
    assert.deepEqual(initialParameters(layout, 3), parameters)
    assert.notDeepEqual(initialParameters(layout, 4), parameters)
    for (const { name, shape, offset, floats } of layout.tensors) {
      const values = parameters.subarray(offset, offset + floats)
      if (shape.length === 1)
        assert.ok(
          values.every(value => value === 1),
          name
        )
      else {
        const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / floats)
        const want = /output|down/.test(name) ? 0.02 / Math.sqrt(8) : 0.02
        assert.ok(Math.abs(deviation / want - 1) < 0.05, `${name}: ${deviation}, not ${want}`)
      }
    }
  })
})
