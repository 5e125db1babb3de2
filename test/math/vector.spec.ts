/** The SIMD kernels against their plain oracles (src/math/vector.ts). */
import assert from 'node:assert/strict'
import { Random } from '../../src/math/random.ts'
import { dotPlain, scaleAndAddPlain, sketchBuckets, sketchPlain, Vectors } from '../../src/math/vector.ts'

/** Lengths around every unrolled loop's edge. */
const lengths = [4, 8, 12, 16, 60, 64, 68, 1020, 4096]

function randomVectors(vectors: Vectors, floats: number, count: number, seed: number): Float32Array[] {
  const random = new Random(seed)
  return Array.from({ length: count }, () => {
    const vector = vectors.allocate(floats)
    for (let place = 0; place < floats; place++) vector[place] = random.normal()
    return vector
  })
}

describe('vector kernels', () => {
  for (const floats of lengths) {
    it(`agree with their oracles on ${floats} floats`, () => {
      const vectors = new Vectors(floats * 16)
      const [x, y, p, q] = randomVectors(vectors, floats, 4, floats) as [Float32Array, Float32Array, Float32Array, Float32Array]
      for (const a of [1, 0, -0.75, 1.5]) {
        const want = Float32Array.from(y)
        scaleAndAddPlain(want, a, x, 0.3)
        const got = vectors.allocate(floats)
        got.set(y)
        vectors.scaleAndAdd(got, a, x, 0.3)
        for (const [place, value] of want.entries())
          assert.ok(Math.abs(got[place]! - value) <= 1e-6 * Math.max(1, Math.abs(value)), `a ${a}, place ${place}`)
      }
      const difference = (left: Float32Array, right: Float32Array) => left.map((value, place) => value - right[place]!)
      const want = dotPlain(difference(x, p), difference(y, q))
      assert.ok(Math.abs(vectors.dot(x, y, p, q) - want) <= 1e-5 * Math.sqrt(floats))
      assert.ok(Math.abs(vectors.dot(x, y) - dotPlain(x, y)) <= 1e-5 * Math.sqrt(floats))
      const sketch = vectors.allocateSketch()
      vectors.sketch(sketch, x, null, 7)
      const plain = sketchPlain(x, 7)
      for (let bucket = 0; bucket < sketchBuckets; bucket++) assert.ok(Math.abs(sketch[bucket]! - plain[bucket]!) < 1e-9)
    })
  }

  it('find a single float that is too large or no number, wherever it stands', () => {
    const vectors = new Vectors(64)
    const x = vectors.allocate(20)
    x.fill(-8)
    assert.equal(vectors.allWithin(x, 8), true)
    for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 8.000001, -8.000001]) {
      for (let place = 0; place < x.length; place++) {
        x[place] = wrong
        assert.equal(vectors.allWithin(x, 8), false, `${wrong} at ${place}`)
        x[place] = 8
      }
    }
  })

  it('refuse vectors of different lengths and of another memory', () => {
    const [one, other] = [new Vectors(64), new Vectors(64)]
    assert.throws(() => one.scaleAndAdd(one.allocate(8), 1, one.allocate(12), 1), /one length/)
    assert.throws(() => one.scaleAndAdd(one.allocate(8), 1, other.allocate(8), 1), /this memory/)
  })
})
