/** Sketches of updates: linear, and good enough to estimate a cosine by; the logits that come from them. */
import assert from 'node:assert/strict'
import { softmax } from '../../src/aggregate/attend.ts'
import { areFinite, isSketched, readSketch, sketchGroupBytes, sketchLogits, sketchUpdate } from '../../src/aggregate/sketch.ts'
import { Random } from '../../src/math/random.ts'
import { sketchBuckets, sketchPlain, Vectors } from '../../src/math/vector.ts'
import { toBf16 } from '../../src/model/checkpoint.ts'
import { farthest, randomVector } from './vectors.ts'

const dot = (left: Float64Array, right: Float64Array) => left.reduce((sum, value, place) => sum + value * right[place]!, 0)
const cosine = (left: Float64Array, right: Float64Array) => dot(left, right) / Math.sqrt(dot(left, left) * dot(right, right))

/** Bytes as they are announced, of one number a bucket and group. */
const announced = (...groups: number[][]): Uint8Array => {
  const whole = new Float32Array(groups.length * sketchBuckets)
  for (const [group, values] of groups.entries()) whole.set(values, group * sketchBuckets)
  return new Uint8Array(toBf16(whole).buffer)
}

describe('a sketch', () => {
  it('is linear: of a weighted sum it is the weighted sum', () => {
    const random = new Random('linear')
    const [x, y] = [0, 1].map(() => Float32Array.from({ length: 10_000 }, () => random.normal())) as [
      Float32Array,
      Float32Array
    ]
    const sum = x.map((value, place) => Math.fround(2 * value - 3 * y[place]!))
    const [of, ofX, ofY] = [sketchPlain(sum, 5), sketchPlain(x, 5), sketchPlain(y, 5)]
    assert.ok(
      farthest(
        of,
        ofX.map((value, place) => 2 * value - 3 * ofY[place]!)
      ) < 1e-5
    )
  })

  it('estimates the cosine of two updates to ±0.05 (one deviation), without bias, whatever it is', () => {
    const floats = 4096
    for (const want of [-0.6, 0, 0.3, 0.9]) {
      const errors = Array.from({ length: 200 }, (_, seed) => {
        const random = new Random(`${want}/${seed}`)
        const x = Float32Array.from({ length: floats }, () => random.normal())
        const y = x.map(value => want * value + Math.sqrt(1 - want * want) * random.normal())
        const exact = cosine(Float64Array.from(x), Float64Array.from(y))
        return cosine(sketchPlain(x, seed), sketchPlain(y, seed)) - exact
      })
      const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length
      const deviation = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / errors.length)
      assert.ok(deviation < 0.05, `cosine ${want}: deviation ${deviation}`)
      // Four deviations of a mean of 200.
      assert.ok(Math.abs(mean) < (4 * 0.05) / Math.sqrt(200), `cosine ${want}: bias ${mean}`)
    }
  })

  it('travels as 512 bf16 numbers a group, of the change and not of the model', () => {
    const vectors = new Vectors(8192)
    const random = new Random('update')
    const [before, change] = [randomVector(vectors, 128, random), randomVector(vectors, 128, random, 0.01)]
    const after = vectors.allocate(128)
    for (let place = 0; place < 128; place++) after[place] = before[place]! + change[place]!
    const ranges = [
      { offset: 0, floats: 64 },
      { offset: 64, floats: 64 }
    ]
    const bytes = sketchUpdate(vectors, ranges, after, before, 9, vectors.allocateSketch())
    assert.equal(bytes.length, 2 * sketchGroupBytes)
    const read = readSketch(bytes)
    // As it lies in a message that it came in.
    assert.deepEqual(readSketch(Uint8Array.of(7, ...bytes).subarray(1)), read)
    for (const [group, { offset, floats }] of ranges.entries()) {
      const plain = sketchPlain(
        after.subarray(offset, offset + floats).map((value, place) => Math.fround(value - before[offset + place]!)),
        (9 * 8191 + group * 131) >>> 0
      )
      const got = read.subarray(group * sketchBuckets, (group + 1) * sketchBuckets)
      for (const [bucket, value] of plain.entries())
        assert.ok(Math.abs(got[bucket]! - value) <= Math.abs(value) / 256 + 1e-9, `group ${group}, bucket ${bucket}`)
    }
    assert.deepEqual(sketchUpdate(vectors, ranges, before, before, 9, vectors.allocateSketch()), new Uint8Array(bytes.length))
  })
})

describe('whether sketches are finite', () => {
  it('is what reading them shows, for every bf16 number there is, at whichever place it stands', () => {
    const wrong: string[] = []
    for (const length of [4, 6])
      for (let at = 0; at < length; at += 2) {
        const bytes = new Uint8Array(length)
        for (let bits = 0; bits < 65_536; bits++) {
          bytes.set([bits & 0xff, bits >> 8], at)
          if (areFinite(bytes) !== Number.isFinite(readSketch(bytes)[at / 2]))
            wrong.push(`${bits.toString(16)} at ${at} of ${length}`)
        }
      }
    assert.deepEqual(wrong, [])
  })

  it('is told wherever in a message they begin', () => {
    for (const offset of [0, 1, 2, 3, 4]) {
      const sketches = new Uint8Array(16).subarray(offset, offset + 8)
      assert.equal(areFinite(sketches), true, `at byte ${offset}`)
      sketches.set([0x80, 0x7f], 4)
      assert.equal(areFinite(sketches), false, `at byte ${offset}`)
    }
  })
})

describe('logits from sketches', () => {
  const east = [1]
  const north = [0, 1]
  const weights = (inputs: { sketches: Uint8Array; weight: number }[], groups = 1, options = {}) =>
    softmax(sketchLogits(inputs, groups, { up: 'update', upTemperature: 0.4, ...options }))

  it('are cos(q, u)/τ + ln w, q the mean of the updates, each brought to length 1', () => {
    const inputs = [
      { sketches: announced(east), weight: 10 },
      { sketches: announced(north), weight: 30 }
    ]
    const logits = sketchLogits(inputs, 1, { up: 'update', upTemperature: 0.4 })
    for (const [place, { weight }] of inputs.entries())
      assert.ok(Math.abs(logits[place]![0]! - (Math.SQRT1_2 / 0.4 + Math.log(weight))) < 1e-9)
  })

  it('give equal updates the weighted mean', () => {
    const got = weights([
      { sketches: announced(east), weight: 10 },
      { sketches: announced(east), weight: 30 }
    ])
    assert.ok(Math.abs(got[0]![0]! - 0.25) < 1e-9)
  })

  it('are not moved by how loud a member is', () => {
    const quiet = [east, [1, 0.2], [0.9, -0.1]].map(one => ({ sketches: announced(one), weight: 1 }))
    const loud = [...quiet.slice(0, 2), { sketches: announced([0.9 * 1024, -0.1 * 1024]), weight: 1 }]
    assert.ok(farthest(weights(loud).flat(), weights(quiet).flat()) < 1e-2)
  })

  it('give who turns against the others least', () => {
    const got = weights([east, [1, 0.1], [1, -0.1], [-1]].map(one => ({ sketches: announced(one), weight: 1 }))).flat()
    assert.equal(Math.min(...got), got[3])
    assert.ok(got[3]! < 0.02)
  })

  it('score 0 where a member, or everybody, has not moved in a group', () => {
    const still = weights(
      [announced([], east), announced([], east)].map(sketches => ({ sketches, weight: 1 })),
      2
    )
    assert.deepEqual(still, [
      [0.5, 0.5],
      [0.5, 0.5]
    ])
    const logits = sketchLogits(
      [
        { sketches: announced([]), weight: 1 },
        { sketches: announced(east), weight: 1 }
      ],
      1,
      { up: 'update', upTemperature: 0.4 }
    )
    assert.deepEqual(logits, [[0], [2.5]])
  })

  it('know `mean` and `uniform` as the weighted mean', () => {
    for (const up of ['mean', 'uniform'] as const) {
      const got = weights(
        [
          { sketches: announced(east), weight: 1 },
          { sketches: announced([-1]), weight: 3 }
        ],
        1,
        { up }
      )
      assert.ok(farthest(got.flat(), [0.25, 0.75]) < 1e-9)
    }
    assert.deepEqual(
      (['update', 'mean', 'uniform', 'cosine', 'dot', 'distance'] as const).map(up => isSketched({ up, upTemperature: 1 })),
      [true, true, true, false, false, false]
    )
  })
})
