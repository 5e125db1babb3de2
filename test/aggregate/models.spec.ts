/** The aggregation of whole models against the plain formulas of docs/algorithm.md, for every rule and any share of key layers. */
import assert from 'node:assert/strict'
import { softmax } from '../../src/aggregate/attend.ts'
import {
  type AggregateOptions,
  aggregateModels,
  ModelSpace,
  modelSlotsMax,
  type ReadModel
} from '../../src/aggregate/models.ts'
import { sketchLogits, sketchUpdate } from '../../src/aggregate/sketch.ts'
import { Random } from '../../src/math/random.ts'
import { Vectors } from '../../src/math/vector.ts'
import { backboneRanges, createLayout, groupRanges, type KeyLayers, type Layout, type Range } from '../../src/model/layout.ts'
import { farthest } from './vectors.ts'

const model = { layers: 3, width: 8, hidden: 12, heads: 2, context: 8, vocabulary: 16, ropeBase: 10_000, normEpsilon: 1e-5 }
const defaults: AggregateOptions = {
  outer: 'average',
  outerLearningRate: 0.7,
  outerMomentum: 0.9,
  up: 'update',
  upTemperature: 0.4,
  clip: 'centered'
}

const randomModel = (layout: Layout, seed: string, scale = 1): Float32Array => {
  const random = new Random(seed)
  return Float32Array.from({ length: layout.floats }, () => scale * random.normal())
}
const reader =
  (values: Float32Array): ReadModel =>
  into =>
    into.set(values)
const part = (values: ArrayLike<number>, { offset, floats }: Range) => Array.from(values).slice(offset, offset + floats)
const norm = (values: number[]) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))

/** Members' contributions: ΔB, and K near the federation's, one of them far off. */
function contributions(layout: Layout, previous: Float32Array, count: number) {
  return Array.from({ length: count }, (_, member) => {
    const values = randomModel(layout, `member/${member}`, member === 1 ? 3 : 0.3)
    for (const { offset, floats } of groupRanges(layout))
      for (let place = offset; place < offset + floats; place++) values[place]! += previous[place]!
    const keysDistance = norm(
      groupRanges(layout).flatMap(range =>
        part(
          values.map((v, p) => v - previous[p]!),
          range
        )
      )
    )
    const vectors = new Vectors(layout.floats * 4 + 4096)
    const [after, before] = [vectors.allocate(layout.floats), vectors.allocate(layout.floats)]
    after.set(values)
    before.set(previous)
    const sketches = sketchUpdate(vectors, groupRanges(layout), after, before, 0, vectors.allocateSketch())
    return { values, weight: 100 * (member + 1), keysDistance, sketches, read: reader(values) }
  })
}

function plainly(layout: Layout, previous: Float32Array, inputs: ReturnType<typeof contributions>, options: AggregateOptions) {
  const out = Array.from(previous)
  const total = inputs.reduce((sum, { weight }) => sum + weight, 0)
  for (const { offset, floats } of backboneRanges(layout))
    for (let place = offset; place < offset + floats; place++)
      out[place]! += inputs.reduce((sum, { values, weight }) => sum + (weight / total) * values[place]!, 0)
  const distances = inputs.map(({ keysDistance }) => keysDistance)
  const radius = distances.toSorted((a, b) => a - b)[Math.floor((distances.length - 1) / 2)]!
  const clipped = inputs.map(({ values, keysDistance }) => {
    const factor = options.clip === 'centered' ? Math.min(1, radius / keysDistance) : 1
    return Array.from(values, (value, place) => previous[place]! + (value - previous[place]!) * factor)
  })
  const groups = groupRanges(layout)
  const weights = softmax(sketchLogits(inputs, groups.length, options))
  for (const [group, { offset, floats }] of groups.entries())
    for (let place = offset; place < offset + floats; place++)
      out[place] = clipped.reduce((sum, values, member) => sum + weights[member]![group]! * values[place]!, 0)
  return out
}

describe('the aggregation of models', () => {
  const keyLayers: KeyLayers[] = [
    { keyFraction: 0, embeddingIsKey: false },
    { keyFraction: 0.3, embeddingIsKey: false },
    { keyFraction: 0.5, embeddingIsKey: true },
    { keyFraction: 1, embeddingIsKey: false },
    { keyFraction: 1, embeddingIsKey: true }
  ]
  for (const keys of keyLayers)
    for (const clip of ['centered', 'none'] as const)
      for (const up of ['update', 'mean'] as const) {
        it(`is its formula: ${keys.keyFraction} key layers${keys.embeddingIsKey ? ' and the embedding' : ''}, ${up}, clip ${clip}`, () => {
          const layout = createLayout(model, keys)
          const space = new ModelSpace(layout, new Vectors(layout.floats * modelSlotsMax + 16_384))
          const previous = randomModel(layout, 'previous')
          const inputs = contributions(layout, previous, 4)
          const options = { ...defaults, clip, up }
          const genesis = reader(randomModel(layout, 'genesis'))
          const job = { options, previous: reader(previous), genesis, inputs, root: true, outerState: null, seed: 0 }
          const got = aggregateModels(space, job)
          assert.ok(farthest(got.model, plainly(layout, previous, inputs, options)) < 1e-5)
          const bits = Float32Array.from(got.model)
          assert.deepEqual(Float32Array.from(aggregateModels(space, job).model), bits, 'the same bits again (I7)')
        })
      }

  it('below a root adds the mean change as it is, whatever the root’s optimizer', () => {
    const layout = createLayout(model, { keyFraction: 0.3, embeddingIsKey: false })
    const previous = randomModel(layout, 'previous')
    const inputs = contributions(layout, previous, 3)
    const run = (root: boolean, outer: AggregateOptions['outer']) => {
      const space = new ModelSpace(layout, new Vectors(layout.floats * modelSlotsMax + 16_384))
      const genesis = reader(previous)
      const options = { ...defaults, outer }
      const got = aggregateModels(space, { options, previous: genesis, genesis, inputs, root, outerState: null, seed: 0 })
      return { model: Float32Array.from(got.model), vectors: got.outerState.length }
    }
    const average = run(true, 'average')
    assert.deepEqual(run(false, 'nesterov'), average)
    assert.equal(run(true, 'nesterov').vectors, 1)
    assert.equal(run(true, 'adam').vectors, 2)
    assert.ok(farthest(run(true, 'nesterov').model, average.model) > 1e-3)
  })

  it('carries the outer optimizer’s state on: two rounds are two rounds of the formula', () => {
    const layout = createLayout(model, { keyFraction: 0, embeddingIsKey: false })
    const previous = randomModel(layout, 'previous')
    const [input] = contributions(layout, previous, 1)
    const options = { ...defaults, outer: 'nesterov' as const }
    const space = new ModelSpace(layout, new Vectors(layout.floats * modelSlotsMax + 16_384))
    const round = (from: Float32Array, state: Float32Array[] | null) => {
      const got = aggregateModels(space, {
        options,
        previous: reader(from),
        genesis: reader(from),
        inputs: [input!],
        root: true,
        outerState: state === null ? null : into => into.forEach((vector, place) => void vector.set(state[place]!)),
        seed: 0
      })
      return { model: Float32Array.from(got.model), state: got.outerState.map(vector => Float32Array.from(vector)) }
    }
    const first = round(previous, null)
    const second = round(first.model, first.state)
    const d = input!.values
    const want = Array.from(previous, (value, place) => {
      const [v1, v2] = [d[place]!, 0.9 * d[place]! + d[place]!]
      return value + 0.7 * (d[place]! + 0.9 * v1) + 0.7 * (d[place]! + 0.9 * v2)
    })
    assert.ok(farthest(second.model, want) < 1e-5)
  })

  for (const up of ['cosine', 'dot', 'distance'] as const) {
    it(`the paper’s family, ${up}: the federation’s own key layers are a candidate, and all weights sum to 1`, () => {
      const layout = createLayout(model, { keyFraction: 0.3, embeddingIsKey: false })
      const space = new ModelSpace(layout, new Vectors(layout.floats * modelSlotsMax + 16_384))
      const previous = randomModel(layout, 'previous')
      const got = aggregateModels(space, {
        options: { ...defaults, up, upTemperature: 0.25, clip: 'none' },
        previous: reader(previous),
        genesis: reader(randomModel(layout, 'genesis')),
        inputs: contributions(layout, previous, 3),
        root: true,
        outerState: null,
        seed: 0
      })
      assert.deepEqual([got.attention.length, got.ownAttention.length], [3, 1])
      const sum = got.attention.reduce((all, row) => all + row[0]!, got.ownAttention[0]!)
      assert.ok(Math.abs(sum - 1) < 1e-9)
      const nearest = up === 'dot' ? sum : got.ownAttention[0]!
      assert.ok(
        got.attention.every(row => row[0]! <= nearest),
        'nobody is nearer to it than itself'
      )
    })
  }
})
