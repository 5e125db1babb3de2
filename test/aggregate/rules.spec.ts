/** Clipping, outer steps and scores against their formulas, in 64 bits. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { clipFactors } from '../../src/aggregate/clip.ts'
import { type OuterOptions, outerStateVectors, outerStep } from '../../src/aggregate/outer-step.ts'
import { normalizeDistances, scoreOf } from '../../src/aggregate/scores.ts'
import { Random } from '../../src/math/random.ts'
import { Vectors } from '../../src/math/vector.ts'
import { farthest, randomVector } from './vectors.ts'

describe('centered clipping', () => {
  const rows = [
    { why: 'nobody', distances: [], factors: [] },
    { why: 'one: its own radius', distances: [5], factors: [1] },
    { why: 'two: the lower of both', distances: [8, 2], factors: [0.25, 1] },
    { why: 'the lower median of four', distances: [1, 2, 4, 8], factors: [1, 1, 0.5, 0.25] },
    { why: 'one that is far out', distances: [1, 1, 1e6], factors: [1, 1, 1e-6] },
    { why: 'nobody has moved', distances: [0, 0, 0], factors: [1, 1, 1] },
    { why: 'most have not moved: the radius is nothing', distances: [0, 0, 3], factors: [1, 1, 0] }
  ]
  for (const { why, distances, factors } of rows) it(why, () => assert.deepEqual(clipFactors(distances), factors))

  it('never lengthens, and leaves at least half as they are', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 30 }), distances => {
        const factors = clipFactors(distances)
        assert.ok(factors.every(factor => factor >= 0 && factor <= 1))
        assert.ok(factors.filter(factor => factor === 1).length >= distances.length / 2)
      }),
      { seed: 1 }
    )
  })
})

describe('the outer step', () => {
  const floats = 64
  const options = (outer: OuterOptions['outer']): OuterOptions => ({ outer, outerLearningRate: 0.7, outerMomentum: 0.9 })

  /** Three steps in a row, by the formula of the file's header. */
  function plainly(
    { outer, outerLearningRate: rate, outerMomentum: momentum }: OuterOptions,
    start: number[],
    deltas: number[][]
  ) {
    const backbone = [...start]
    const first = start.map(() => 0)
    const second = start.map(() => 0)
    for (const delta of deltas) {
      for (const [place, d] of delta.entries()) {
        if (outer === 'average') backbone[place]! += d
        if (outer === 'nesterov') {
          first[place] = momentum * first[place]! + d
          backbone[place]! += rate * (d + momentum * first[place]!)
        }
        if (outer === 'adam') {
          first[place] = 0.9 * first[place]! + 0.1 * d
          second[place] = 0.99 * second[place]! + 0.01 * d * d
          backbone[place]! += (rate * first[place]!) / (Math.sqrt(second[place]!) + 1e-3)
        }
      }
    }
    return { backbone, first, second }
  }

  for (const outer of ['average', 'nesterov', 'adam'] as const) {
    it(`${outer} is its formula over three rounds`, () => {
      const vectors = new Vectors(floats * 64)
      const random = new Random(outer)
      const backbone = randomVector(vectors, floats, random)
      const start = [...backbone]
      const deltas = [0, 1, 2].map(() => randomVector(vectors, floats, random, 0.1))
      const state = Array.from({ length: outerStateVectors[outer] }, () => vectors.allocate(floats))
      for (const delta of deltas) outerStep(vectors, options(outer), backbone, delta, state)
      const want = plainly(
        options(outer),
        start,
        deltas.map(delta => [...delta])
      )
      assert.ok(farthest(backbone, want.backbone) < 1e-5)
      if (state.length > 0) assert.ok(farthest(state[0]!, want.first) < 1e-5)
      if (state.length > 1) assert.ok(farthest(state[1]!, want.second) < 1e-5)
    })
  }
})

describe('scores of the paper’s family', () => {
  const ranges = [
    { offset: 0, floats: 16 },
    { offset: 20, floats: 40 }
  ]
  const dot = (left: number[], right: number[]) => left.reduce((sum, value, place) => sum + value * right[place]!, 0)
  const minus = (left: number[], right: number[]) => left.map((value, place) => value - right[place]!)
  const norm = (vector: number[]) => Math.sqrt(dot(vector, vector))
  const plain = {
    cosine: (q: number[], c: number[], ref: number[]) =>
      dot(minus(q, ref), minus(c, ref)) / (norm(minus(q, ref)) * norm(minus(c, ref))),
    dot: (q: number[], c: number[]) => dot(q, c) / Math.sqrt(q.length),
    distance: (q: number[], c: number[]) => norm(minus(q, c))
  }
  for (const score of ['cosine', 'dot', 'distance'] as const) {
    it(`${score} is its formula in each group`, () => {
      const vectors = new Vectors(4096)
      const random = new Random(score)
      const [q, c, ref] = [0, 1, 2].map(() => randomVector(vectors, 60, random)) as [Float32Array, Float32Array, Float32Array]
      const got = scoreOf(vectors, ranges, score, q, c, ref)
      const part = (vector: Float32Array, { offset, floats }: { offset: number; floats: number }) => [
        ...vector.subarray(offset, offset + floats)
      ]
      const want = ranges.map(range => plain[score](part(q, range), part(c, range), part(ref, range)))
      assert.ok(farthest(got, want) < 1e-6)
    })
  }

  it('cosine is 0 where a side has not moved from the reference', () => {
    const vectors = new Vectors(4096)
    const [q, ref] = [randomVector(vectors, 60, new Random(1)), vectors.allocate(60)]
    ref.set(q)
    assert.deepEqual(scoreOf(vectors, ranges, 'cosine', q, randomVector(vectors, 60, new Random(2)), ref), [0, 0])
  })

  it('distances are in units of the mean of the others’', () => {
    assert.deepEqual(normalizeDistances([[0], [2], [6]]), [[-0], [-0.5], [-1.5]])
    assert.deepEqual(normalizeDistances([[0], [0]]), [[0], [0]])
    assert.deepEqual(normalizeDistances([]), [])
  })
})
