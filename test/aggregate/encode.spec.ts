import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  type BlockEncoding,
  decodeStretch,
  encodedBytes,
  encodeStretch,
  encodeUpdate,
  stretchBytes,
  stretchFloats
} from '../../src/aggregate/encode.ts'
import { Random } from '../../src/math/random.ts'

const encodings: BlockEncoding[] = ['int8', 'int3', 'topk']
/** No denormals: where onnxruntime has computed in this thread before, they count as 0. */
const finite = fc
  .float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e30), max: Math.fround(1e30) })
  .map(value => (Math.abs(value) < 1e-30 ? 0 : value))
const stretches = fc.array(finite, { minLength: 1, maxLength: 700 }).map(floats => Float32Array.from(floats))

function decoded(encoding: BlockEncoding, bytes: Uint8Array, floats: number): Float32Array {
  const into = new Float32Array(floats).fill(7)
  assert.equal(decodeStretch(encoding, bytes, into), null)
  return into
}

const normal = (count: number, seed: string): Float32Array => {
  const random = new Random(seed)
  return Float32Array.from({ length: count }, () => random.normal() * 10 ** (random.below(7) - 5))
}

describe('encodings of updates', () => {
  it('int8 is off by half a step of its block at most', () => {
    fc.assert(
      fc.property(stretches, floats => {
        const got = decoded('int8', encodeStretch('int8', floats), floats.length)
        for (let block = 0; block < floats.length; block += 256) {
          const own = floats.subarray(block, block + 256)
          const step = Math.max(...own.map(Math.abs)) / 127
          for (const [place, float] of own.entries())
            assert.ok(
              Math.abs(got[block + place]! - float) <= step * 0.5001 + 2 ** -140,
              `${float} became ${got[block + place]}`
            )
        }
      })
    )
  })

  it('int3 and int8 are refused where a scale is no number, and int3 where three bits are no level', () => {
    for (const encoding of ['int8', 'int3'] as const)
      for (const none of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const bytes = encodeStretch(encoding, normal(300, 'scales'))
        new DataView(bytes.buffer).setFloat32(4, none, true)
        assert.match(decodeStretch(encoding, bytes, new Float32Array(300)) ?? 'taken', /the scale of block 1 is/)
      }
    const bytes = encodeStretch('int3', normal(300, 'levels'))
    bytes[8 + 3] = 0xff
    assert.match(decodeStretch('int3', bytes, new Float32Array(300)) ?? 'taken', /place 8 holds no level/)
  })

  it('topk takes of equal floats the first, and no more of them than leave room for larger ones', () => {
    const floats = new Float32Array(32)
    floats.set([1, -1, 1, 2], 5)
    const got = decoded('topk', encodeStretch('topk', floats), 32)
    assert.deepEqual(
      [...got.entries()].filter(([, float]) => float !== 0),
      [
        [5, 1],
        [8, 2]
      ]
    )
  })

  it('int3 leaves no more than the best of its steps, and of what is normal a twentieth of the squares', () => {
    const leastOf = (own: Float32Array) => {
      const largest = Math.max(...own.map(Math.abs))
      const errors = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.43].map(share => {
        const step = Math.fround((largest / 3) * share)
        return own.reduce((sum, float) => {
          const level = step === 0 ? 0 : Math.max(-3, Math.min(3, Math.round(float / step)))
          return sum + (float - level * step) ** 2
        }, 0)
      })
      return Math.min(...errors)
    }
    const squares = (floats: Float32Array) => floats.reduce((sum, float) => sum + float * float, 0)
    fc.assert(
      fc.property(stretches, floats => {
        const got = decoded('int3', encodeStretch('int3', floats), floats.length)
        for (let block = 0; block < floats.length; block += 256) {
          const own = floats.subarray(block, block + 256)
          const left = squares(own.map((float, place) => float - got[block + place]!))
          assert.ok(left <= leastOf(own) * 1.0001 + squares(own) * 1e-12, `${left} beside ${leastOf(own)}`)
        }
      })
    )
    const random = new Random('three bits')
    const bell = Float32Array.from({ length: 65_536 }, () => random.normal())
    const got = decoded('int3', encodeStretch('int3', bell), bell.length)
    assert.ok(squares(bell.map((float, place) => float - got[place]!)) / squares(bell) < 0.05)
  })

  it('topk keeps the largest sixteenth, of equal ones the first, and nothing else', () => {
    fc.assert(
      fc.property(stretches, floats => {
        const got = decoded('topk', encodeStretch('topk', floats), floats.length)
        // Oracle: sorted by size, then by place.
        const order = [...floats.keys()].sort(
          (left, right) => Math.abs(floats[right]!) - Math.abs(floats[left]!) || left - right
        )
        const kept = new Set(order.slice(0, Math.ceil(floats.length / 16)))
        for (const [place, float] of floats.entries()) {
          if (!kept.has(place)) assert.equal(got[place], 0)
          else assert.ok(Math.abs(got[place]! - float) <= Math.abs(float) / 256 + 2 ** -130, `${float} became ${got[place]}`)
        }
      })
    )
  })

  for (const encoding of encodings) {
    it(`${encoding} takes the bytes that it should at whatever length, and equal floats equal bytes`, () => {
      for (const floats of [1, 2, 15, 16, 17, 255, 256, 257, 4096, stretchFloats - 1, stretchFloats]) {
        const made = encodeStretch(encoding, normal(floats, 'length'))
        assert.equal(made.length, stretchBytes(encoding, floats))
        assert.deepEqual(encodeStretch(encoding, normal(floats, 'length')), made)
      }
      for (const floats of [1, stretchFloats, stretchFloats + 1, 3 * stretchFloats + 1000]) {
        let bytes = 0
        encodeUpdate(encoding, normal(floats, 'update'), [floats], null, block => {
          bytes += block.length
        })
        assert.equal(bytes, encodedBytes(encoding, [floats]))
      }
    })

    it(`${encoding}: all of it arrives over the rounds: what was sent and what is kept add up to the truth`, () => {
      const floats = 3000
      const rest = new Float32Array(floats)
      const [truth, sent] = [new Float64Array(floats), new Float64Array(floats)]
      for (let round = 0; round < 60; round++) {
        const change = normal(floats, `round ${round}`)
        for (const [place, float] of change.entries()) truth[place]! += float
        encodeUpdate(encoding, change, [1000, 2000], rest, () => undefined)
        for (const [place, float] of change.entries()) sent[place]! += float
      }
      for (let place = 0; place < floats; place++)
        assert.ok(Math.abs(sent[place]! + rest[place]! - truth[place]!) < 1e-4, `float ${place}`)
    })

    it(`${encoding}: a change that stays the same has all arrived after enough rounds, one float like another`, () => {
      const change = normal(640, 'constant')
      const rest = new Float32Array(640)
      const sent = new Float64Array(640)
      const rounds = 400
      for (let round = 0; round < rounds; round++) {
        const one = change.slice()
        encodeUpdate(encoding, one, [640], rest, () => undefined)
        for (const [place, float] of one.entries()) sent[place]! += float
      }
      const largest = Math.max(...change.map(Math.abs))
      for (const [place, float] of change.entries())
        assert.ok(Math.abs(sent[place]! / rounds - float) <= largest / 10, `${float} arrived as ${sent[place]! / rounds}`)
    })

    it(`${encoding}: what the update holds afterwards is what the receiver reads`, () => {
      const update = normal(stretchFloats + 777, 'receiver')
      const read: number[] = []
      const sizes = [stretchFloats, 777]
      encodeUpdate(encoding, update, [stretchFloats + 777], new Float32Array(update.length), bytes => {
        read.push(...decoded(encoding, bytes, sizes.shift()!))
      })
      assert.deepEqual(Float32Array.from(read), update)
    })

    it(`${encoding}: a tensor of large changes does not crowd out one of small ones`, () => {
      const update = Float32Array.from({ length: 4096 }, (_, place) => (place < 2048 ? 1 : 1e-6) * (1 + (place % 7)))
      encodeUpdate(encoding, update, [2048, 2048], null, () => undefined)
      assert.ok(update.subarray(2048).filter(float => float !== 0).length >= 128)
    })

    it(`${encoding}: other bytes are floats, or refused by what is wrong with them; never an exception`, () => {
      fc.assert(
        fc.property(fc.integer({ min: 1, max: 600 }), fc.uint8Array({ maxLength: 3000 }), (floats, bytes) => {
          const why = decodeStretch(encoding, bytes, new Float32Array(floats))
          if (bytes.length !== stretchBytes(encoding, floats)) assert.match(why!, /takes/)
        })
      )
      for (let turn = 0; turn < 50; turn++) {
        const bytes = Uint8Array.from({ length: stretchBytes(encoding, 300) }, (_, place) => (place * 31 + turn * 7) % 256)
        assert.match(decodeStretch(encoding, bytes, new Float32Array(300)) ?? 'scale place', /scale|place/)
      }
    })

    it(`${encoding}: what is no number stays none, or is refused`, () => {
      const floats = normal(300, 'nan')
      floats[42] = Number.NaN
      const into = new Float32Array(300)
      const why = decodeStretch(encoding, encodeStretch(encoding, floats), into)
      assert.ok(why !== null || Number.isNaN(into[42]), 'it became a number')
    })
  }

  it('int8 with a scale that is no number, and topk with places out of order or out of range, are refused by name', () => {
    const scaled = encodeStretch('int8', normal(10, 'scale'))
    new DataView(scaled.buffer).setFloat32(0, Number.POSITIVE_INFINITY, true)
    assert.match(decodeStretch('int8', scaled, new Float32Array(10))!, /scale of block 0 is Infinity/)
    const kept = encodeStretch('topk', normal(32, 'places'))
    new DataView(kept.buffer).setUint16(0, 31, true)
    assert.match(decodeStretch('topk', kept, new Float32Array(32))!, /follows 31/)
    new DataView(kept.buffer).setUint16(2, 32, true)
    assert.match(decodeStretch('topk', kept, new Float32Array(32))!, /place 32/)
  })
})
