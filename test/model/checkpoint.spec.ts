/** Headers of model files, and bf16: round trips, and every kind of damage refused by name. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { WorldlmError } from '../../src/errors.ts'
import { checkAgainst, decodeHeader, encodeHeader, fromBf16, headerBytes, toBf16 } from '../../src/model/checkpoint.ts'
import { createLayout } from '../../src/model/layout.ts'
import { presets } from '../../src/model/presets.ts'

const layout = createLayout(
  { ...presets.tiny.model, layers: 2, width: 8, hidden: 12, vocabulary: 16 },
  { keyFraction: 0.5, embeddingIsKey: false }
)
const dataBytes = (bytes: number, sections = 1) => layout.floats * bytes * sections

/** A header as safetensors frames it, of any JSON text. */
function framed(json: string): Uint8Array {
  const text = new TextEncoder().encode(json)
  const whole = new Uint8Array(8 + text.length)
  new DataView(whole.buffer).setBigUint64(0, BigInt(text.length), true)
  whole.set(text, 8)
  return whole
}

describe('the header of a model file', () => {
  for (const encoding of ['f32', 'bf16'] as const)
    for (const sections of [[''], ['', 'first.', 'second.']]) {
      it(`comes back as it was written: ${encoding}, ${sections.length} sections`, () => {
        const metadata = { step: '7', note: 'naïve ✓' }
        const head = encodeHeader(layout, encoding, metadata, sections)
        assert.equal(head.length % 64, 0, 'data begin where any typed array may lie')
        const fileBytes = head.length + dataBytes(encoding === 'f32' ? 4 : 2, sections.length)
        const header = decodeHeader(head, fileBytes, 'model')
        assert.deepEqual([header.metadata, header.dataOffset, headerBytes(head, 'model')], [metadata, head.length, head.length])
        assert.equal(checkAgainst(layout, header, 'model', sections), encoding)
      })
    }

  const head = encodeHeader(layout, 'f32', {})
  const whole = head.length + dataBytes(4)
  const edited = (edit: (header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>) => void) => {
    const header = JSON.parse(new TextDecoder().decode(head.subarray(8)))
    edit(header)
    return framed(JSON.stringify(header))
  }
  const tensor = (dtype = 'F32', shape: unknown = [2], offsets: unknown = [0, 8]) =>
    framed(JSON.stringify({ a: { dtype, shape, data_offsets: offsets } }))

  const unreadable: { why: string; head: Uint8Array; fileBytes?: number; says: RegExp }[] = [
    { why: 'nothing', head: new Uint8Array(), says: /it has 0 bytes/ },
    { why: 'less than a length', head: head.subarray(0, 7), says: /it has 7 bytes/ },
    { why: 'a cut header', head: head.subarray(0, 100), says: /ends inside its header/ },
    { why: 'a length beyond all measure', head: new Uint8Array(8).fill(0xff), says: /claims 18446744073709551615 bytes/ },
    { why: 'no JSON', head: framed('{'), says: /not JSON/ },
    { why: 'JSON that is not UTF-8', head: Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0x28), says: /not JSON/ },
    { why: 'a list', head: framed('[]'), says: /not an object/ },
    { why: 'null', head: framed('null'), says: /not an object/ },
    { why: 'metadata that are no strings', head: framed('{"__metadata__":{"a":1}}'), says: /metadata are not strings/ },
    { why: 'a tensor that is none', head: framed('{"a":1}'), says: /tensor a is not described/ },
    { why: 'a shape with a fraction', head: tensor('F32', [1.5]), says: /tensor a is not described/ },
    { why: 'offsets below 0', head: tensor('F32', [2], [-8, 0]), says: /tensor a is not described/ },
    { why: 'three offsets', head: tensor('F32', [2], [0, 4, 8]), says: /tensor a is not described/ },
    { why: 'a hole before a tensor', head: tensor('F32', [2], [4, 12]), says: /tensor a lies at 4\.\.12, expected from 0/ },
    { why: 'a tensor that ends before it begins', head: tensor('F32', [2], [0, 8]), fileBytes: 3, says: /it has 3 bytes/ },
    { why: 'a file that is cut', head, fileBytes: whole - 1, says: new RegExp(`has ${whole - 1} bytes.*need ${whole}`) },
    { why: 'a file that is too long', head, fileBytes: whole + 1, says: new RegExp(`need ${whole}`) }
  ]
  for (const { why, head: bytes, fileBytes = whole, says } of unreadable) {
    it(`is refused: ${why}`, () => {
      assert.throws(
        () => decodeHeader(bytes, fileBytes, 'the model m'),
        (error: WorldlmError) =>
          error.code === 'MODEL_DAMAGED' && error.message.startsWith('the model m ') && says.test(error.message)
      )
    })
  }

  const foreign: { why: string; head: Uint8Array; says: RegExp }[] = [
    { why: 'a tensor less', head: edited(header => void delete header.finalNorm), says: /tensor finalNorm is missing|bytes/ },
    {
      why: 'a tensor of another name',
      head: edited(header => {
        header.other = header.finalNorm!
        delete header.finalNorm
      }),
      says: /finalNorm is missing, other is in its place/
    },
    {
      why: 'another shape of as many floats',
      head: edited(header => void (header.embedding!.shape = [8, 16])),
      says: /embedding has shape \[8,16\], the model's is \[16,8\]/
    },
    {
      why: 'two kinds of numbers',
      head: edited(header => void (header.finalNorm!.dtype = 'I32')),
      says: /tensor finalNorm is I32/
    },
    {
      why: 'tensors in another order',
      head: edited(header => {
        const [one, other] = [header['blocks.0.gate']!, header['blocks.0.up']!]
        ;[one.data_offsets, other.data_offsets] = [other.data_offsets, one.data_offsets]
      }),
      says: /tensor blocks\.0\.gate lies at/
    }
  ]
  for (const { why, head: bytes, says } of foreign) {
    it(`is refused as another model’s: ${why}`, () => {
      const end = Math.max(
        ...Object.entries(JSON.parse(new TextDecoder().decode(bytes.subarray(8))))
          .filter(([name]) => name !== '__metadata__')
          .map(([, one]) => (one as { data_offsets: number[] }).data_offsets[1]!)
      )
      assert.throws(
        () => checkAgainst(layout, decodeHeader(bytes, bytes.length + end, 'm'), 'm'),
        (error: WorldlmError) => error.code === 'MODEL_DAMAGED' && says.test(error.message)
      )
    })
  }

  it('is refused as another model’s: a tensor more', () => {
    const more = edited(
      header => void (header.more = { dtype: 'F32', shape: [1], data_offsets: [dataBytes(4), dataBytes(4) + 4] })
    )
    const header = decodeHeader(more, more.length + dataBytes(4) + 4, 'm')
    assert.throws(() => checkAgainst(layout, header, 'm'), /holds \d+ tensors/)
  })

  it('never does anything but be read or be refused, whatever bytes are changed or missing', () => {
    const bytes = fc.array(fc.record({ at: fc.nat({ max: head.length - 1 }), to: fc.integer({ min: 0, max: 255 }) }), {
      maxLength: 4
    })
    fc.assert(
      fc.property(bytes, fc.nat({ max: head.length }), fc.boolean(), (changes, length, cut) => {
        const damagedHead = head.slice(0, cut ? length : head.length)
        for (const { at, to } of changes) if (at < damagedHead.length) damagedHead[at] = to
        try {
          checkAgainst(layout, decodeHeader(damagedHead, whole, 'm'), 'm')
        } catch (error) {
          assert.ok(error instanceof WorldlmError && error.code === 'MODEL_DAMAGED', String(error))
        }
      }),
      { numRuns: 1000, seed: 1 }
    )
  })
})

describe('bf16', () => {
  const through = (value: number): number => {
    const out = new Float32Array(1)
    fromBf16(toBf16(Float32Array.of(value)), out)
    return out[0]!
  }

  it('gives back every one of its own numbers', () => {
    const halves = Uint16Array.from({ length: 65_536 }, (_, bits) => bits)
    const floats = new Float32Array(halves.length)
    fromBf16(halves, floats)
    const back = toBf16(floats)
    for (const [place, bits] of halves.entries()) {
      if (Number.isNaN(floats[place])) assert.ok(Number.isNaN(through(floats[place]!)))
      else assert.equal(back[place], bits)
    }
  })

  it('rounds to the nearest of its numbers, ties to the even one', () => {
    fc.assert(
      fc.property(fc.nat({ max: 0x7f7effff }), fc.boolean(), (magnitude, negative) => {
        const bits = negative ? (magnitude | 0x80000000) >>> 0 : magnitude
        const at = (word: number) => new Float32Array(Uint32Array.of(word >>> 0).buffer)[0]!
        const value = at(bits)
        const [below, above] = [at(bits & 0xffff0000), at((bits & 0xffff0000) + 0x10000)]
        const got = through(value)
        const [low, high] = [Math.abs(value - below), Math.abs(above - value)]
        const even = ((bits >>> 16) & 1) === 0 ? below : above
        assert.equal(got, low < high ? below : low > high ? above : even)
      }),
      { numRuns: 2000, seed: 2 }
    )
    assert.deepEqual([1 + 2 ** -8, 1 + 3 * 2 ** -8].map(through), [1, 1 + 2 ** -6], 'ties')
    assert.deepEqual([Infinity, -Infinity, -0].map(through), [Infinity, -Infinity, -0])
  })
})
