/** Attention against the plain softmax, and against itself to the bit. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Attention, likelihoodLogits, softmax } from '../../src/aggregate/attend.ts'
import { Random } from '../../src/math/random.ts'
import { Vectors } from '../../src/math/vector.ts'
import { farthest, randomVector } from './vectors.ts'

const ranges = [
  { offset: 4, floats: 8 },
  { offset: 16, floats: 20 }
]
const floats = 40

/** Some candidates with a logit a group each, by seed. */
function candidatesOf(vectors: Vectors, seed: number, count: number, spread: number) {
  const random = new Random(seed)
  return Array.from({ length: count }, () => ({
    vector: randomVector(vectors, floats, random),
    logits: ranges.map(() => spread * random.normal())
  }))
}

function attend(vectors: Vectors, candidates: { vector: Float32Array; logits: number[] }[]) {
  const result = vectors.allocate(floats).fill(7)
  const attention = new Attention(vectors, ranges, result)
  for (const { vector, logits } of candidates) attention.add(vector, logits)
  return { result, weights: attention.finish() }
}

/** Σ softmax(logits) · c, in 64 bits. */
function attendPlain(candidates: { vector: Float32Array; logits: number[] }[]): Float64Array {
  const out = new Float64Array(floats).fill(7)
  const weights = softmax(candidates.map(({ logits }) => logits))
  for (const [group, { offset, floats: count }] of ranges.entries())
    for (let place = offset; place < offset + count; place++)
      out[place] = candidates.reduce((sum, { vector }, candidate) => sum + weights[candidate]![group]! * vector[place]!, 0)
  return out
}

describe('attend', () => {
  const seeds = fc.integer({ min: 0, max: 1_000_000 })
  const counts = fc.integer({ min: 1, max: 40 })
  const spreads = fc.constantFrom(0, 0.1, 3, 30, 300)

  it('agrees with the plain softmax to 1e-5, and touches nothing outside its groups', () => {
    fc.assert(
      fc.property(seeds, counts, spreads, (seed, count, spread) => {
        const vectors = new Vectors(floats * (count + 2) * 8)
        const candidates = candidatesOf(vectors, seed, count, spread)
        const { result, weights } = attend(vectors, candidates)
        assert.ok(farthest(result, attendPlain(candidates)) < 1e-5)
        const want = softmax(candidates.map(({ logits }) => logits))
        for (const [candidate, row] of weights.entries()) assert.ok(farthest(row, want[candidate]!) < 1e-6)
      }),
      { numRuns: 200, seed: 1 }
    )
  })

  it('gives the same bits for the same candidates in the same order (I7), and nearly the same in any other', () => {
    fc.assert(
      fc.property(seeds, counts, (seed, count) => {
        const [one, other] = [new Vectors(floats * (count + 3) * 8), new Vectors(floats * (count + 3) * 8)]
        const candidates = candidatesOf(one, seed, count, 5)
        const again = candidatesOf(other, seed, count, 5)
        const { result } = attend(one, candidates)
        assert.deepEqual(attend(other, again).result, result)
        assert.ok(farthest(attend(one, candidates.toReversed()).result, result) < 1e-5)
      }),
      { numRuns: 50, seed: 2 }
    )
  })

  it('knows no difference between logits that are shifted alike', () => {
    const vectors = new Vectors(floats * 64)
    const candidates = candidatesOf(vectors, 3, 5, 2)
    const shifted = candidates.map(({ vector, logits }) => ({ vector, logits: logits.map(logit => logit + 900) }))
    assert.ok(farthest(attend(vectors, shifted).result, attend(vectors, candidates).result) < 1e-6)
  })

  it('gives a candidate of −∞ no weight, wherever it stands, and keeps the only one that has any to the bit', () => {
    const vectors = new Vectors(floats * 64)
    const candidates = candidatesOf(vectors, 4, 3, 0)
    for (const kept of [0, 1, 2]) {
      const some = candidates.map((one, place) => (place === kept ? one : { ...one, logits: [-Infinity, -Infinity] }))
      const { result, weights } = attend(vectors, some)
      assert.deepEqual(
        weights.map(row => row[0]),
        [0, 1, 2].map(place => (place === kept ? 1 : 0))
      )
      for (const { offset, floats: count } of ranges)
        assert.deepEqual(result.subarray(offset, offset + count), candidates[kept]!.vector.subarray(offset, offset + count))
    }
    assert.throws(
      () =>
        attend(
          vectors,
          candidates.map(one => ({ ...one, logits: [-Infinity, 0] }))
        ),
      RangeError
    )
    assert.throws(() => attend(vectors, []), RangeError)
  })

  it('does without groups', () => {
    const vectors = new Vectors(256)
    const attention = new Attention(vectors, [], vectors.allocate(8))
    attention.add(vectors.allocate(8), [])
    assert.deepEqual(attention.finish(), [])
  })
})

describe('the score likelihood', () => {
  const logitOf = (nllPerByte: number, textBytes: number, own = 1024) =>
    likelihoodLogits(
      [
        { nllPerByte: 1, textBytes: own },
        { nllPerByte, textBytes }
      ],
      0.25,
      0.5
    )[1]!

  it('is −L/τ + β·ln t', () => {
    assert.ok(Math.abs(logitOf(2, 4096) - (-2 / 0.25 + 0.5 * Math.log(4096))) < 1e-12)
    assert.deepEqual(likelihoodLogits([{ nllPerByte: 1, textBytes: 1 }], 0.5, 3), [-2])
  })

  it('counts t rounded to a power of two, and as at most a hundred times one’s own: nobody gains by claiming more', () => {
    assert.equal(logitOf(1, 4000), logitOf(1, 4096))
    assert.equal(logitOf(1, 1e18), logitOf(1, 2 ** 30))
    assert.ok(Math.abs(logitOf(1, 1e18) - (-4 + 0.5 * Math.log(102_400))) < 1e-12)
    assert.equal(logitOf(1, 0), logitOf(1, 1))
  })

  it('gives less weight to a candidate that predicts one’s own text worse', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 8, noNaN: true }), fc.double({ min: 0.01, max: 8, noNaN: true }), (nll, worse) => {
        assert.ok(logitOf(nll + worse, 4096) < logitOf(nll, 4096))
      }),
      { seed: 3 }
    )
  })
})
