/**
 * Encodings of updates (docs/encodings.md): what a change costs on the wire, and what is lost of it.
 *
 *   f32    4 bytes a float     nothing is lost
 *   bf16   2                   the last 16 bits of each
 *   int8   1.016               blocks of 256 share a scale; each float is off by half a step at most
 *   int3   0.39                the same with seven steps in all (int3.ts)
 *   topk   0.25                the largest sixteenth of each stretch, as bf16; the rest is sent later
 *
 * A stretch is up to 65,536 floats of one tensor: tensors differ in size of change, and the large must not crowd out the small.
 *
 * `int8`, `int3` and `topk` hold changes, never models: what is close to nothing may become nothing. What they lose is kept by the sender and added
 * to its next update (error feedback: Seide et al. 2014; Stich et al. 2018), so that over the rounds all of it arrives.
 *
 *   sent = decode(encode(change + rest)),   rest ← change + rest − sent
 *
 * Is: pure, one stretch at a time; equal floats give equal bytes, and equal bytes equal floats, on every machine (I7).
 * Is not: a check of what the numbers mean; whether they are finite is asked of the whole model.
 */
import { decodeInt3, encodeInt3, int3Bytes } from './int3.ts'
import { type Encoding, fromBf16, toBf16, type UpdateEncoding } from '../model/checkpoint.ts'

export type BlockEncoding = Exclude<UpdateEncoding, Encoding>

/** Floats that are encoded together: places in it fit 16 bits. */
export const stretchFloats = 65_536
const scaleFloats = 256
const stepsMax = 127
/** One of so many floats is sent. */
const keepEvery = 16

interface Codec {
  /** Of a stretch of so many floats. */
  bytes(floats: number): number
  encode(floats: Float32Array): Uint8Array<ArrayBuffer>
  /** @returns what is wrong with the bytes, or null. */
  decode(bytes: Uint8Array, into: Float32Array): string | null
}

const codecs: Record<BlockEncoding, Codec> = {
  int8: {
    bytes: floats => Math.ceil(floats / scaleFloats) * 4 + floats,
    encode: encodeInt8,
    decode: decodeInt8
  },
  int3: { bytes: int3Bytes, encode: encodeInt3, decode: decodeInt3 },
  topk: { bytes: floats => keptOf(floats) * 4, encode: encodeTopk, decode: decodeTopk }
}

/** @param encoding - any name, as a file says it. */
export const isBlockEncoding = (encoding: string): encoding is BlockEncoding => Object.hasOwn(codecs, encoding)

/** How many floats `topk` sends of a stretch: at least one. */
const keptOf = (floats: number): number => Math.ceil(floats / keepEvery)

/** Bytes of a stretch of `floats` ≤ 65,536. */
export function stretchBytes(encoding: BlockEncoding, floats: number): number {
  return codecs[encoding].bytes(floats)
}

/** Where the stretches of tensors of so many floats begin and end. */
export function* stretches(tensorFloats: readonly number[]): Generator<{ from: number; to: number }> {
  let offset = 0
  for (const floats of tensorFloats) {
    for (let from = 0; from < floats; from += stretchFloats)
      yield { from: offset + from, to: offset + Math.min(floats, from + stretchFloats) }
    offset += floats
  }
}

/** Bytes of tensors of so many floats, without a file's header. */
export function encodedBytes(encoding: UpdateEncoding, tensorFloats: readonly number[]): number {
  if (!isBlockEncoding(encoding)) return tensorFloats.reduce((sum, floats) => sum + floats, 0) * (encoding === 'f32' ? 4 : 2)
  let bytes = 0
  for (const { from, to } of stretches(tensorFloats)) bytes += stretchBytes(encoding, to - from)
  return bytes
}

/** @param floats - at most 65,536. */
export function encodeStretch(encoding: BlockEncoding, floats: Float32Array): Uint8Array<ArrayBuffer> {
  return codecs[encoding].encode(floats)
}

/** @param into - as long as what was encoded. @returns what is wrong with the bytes, or null. */
export function decodeStretch(encoding: BlockEncoding, bytes: Uint8Array, into: Float32Array): string | null {
  const want = stretchBytes(encoding, into.length)
  if (bytes.length !== want) return `${bytes.length} bytes for ${into.length} floats, ${encoding} takes ${want}`
  return codecs[encoding].decode(bytes, into)
}

/**
 * Encodes `update` stretch by stretch. Afterwards `update` holds what the receiver will read.
 * @param rest - as long as `update`: what earlier ones lacked, added before; afterwards, what this one lacks. null: what is lost is lost.
 */
export function encodeUpdate(
  encoding: BlockEncoding,
  update: Float32Array,
  tensorFloats: readonly number[],
  rest: Float32Array | null,
  write: (bytes: Uint8Array) => void
): void {
  for (const { from, to } of stretches(tensorFloats)) {
    const stretch = update.subarray(from, to)
    const owed = rest?.subarray(from, to) ?? null
    if (owed !== null) for (let place = 0; place < stretch.length; place++) owed[place] = stretch[place]! + owed[place]!
    const bytes = encodeStretch(encoding, owed ?? stretch)
    decodeStretch(encoding, bytes, stretch)
    if (owed !== null) for (let place = 0; place < stretch.length; place++) owed[place] = owed[place]! - stretch[place]!
    write(bytes)
  }
}

// ── int8: scales f32 little-endian, then a signed byte a float ──

function encodeInt8(floats: Float32Array): Uint8Array<ArrayBuffer> {
  const scaleCount = Math.ceil(floats.length / scaleFloats)
  const out = new Uint8Array(scaleCount * 4 + floats.length)
  const scales = new DataView(out.buffer, 0, scaleCount * 4)
  const steps = new Int8Array(out.buffer, scaleCount * 4)
  for (let block = 0; block < scaleCount; block++) {
    const end = Math.min(floats.length, (block + 1) * scaleFloats)
    let largest = 0
    for (let place = block * scaleFloats; place < end; place++) {
      // What is no number makes the scale none: the receiver must see it.
      largest = Math.max(largest, Math.abs(floats[place]!))
    }
    const scale = Math.fround(largest / stepsMax)
    scales.setFloat32(block * 4, scale, true)
    if (scale === 0) continue
    for (let place = block * scaleFloats; place < end; place++) {
      const step = Math.round(floats[place]! / scale)
      steps[place] = Math.max(-stepsMax, Math.min(stepsMax, step))
    }
  }
  return out
}

function decodeInt8(bytes: Uint8Array, into: Float32Array): string | null {
  const scaleCount = Math.ceil(into.length / scaleFloats)
  const scales = new DataView(bytes.buffer, bytes.byteOffset, scaleCount * 4)
  const steps = new Int8Array(bytes.buffer, bytes.byteOffset + scaleCount * 4, into.length)
  for (let block = 0; block < scaleCount; block++) {
    const scale = scales.getFloat32(block * 4, true)
    if (!Number.isFinite(scale)) return `the scale of block ${block} is ${scale}`
    const end = Math.min(into.length, (block + 1) * scaleFloats)
    for (let place = block * scaleFloats; place < end; place++) into[place] = steps[place]! * scale
  }
  return null
}

// ── topk: places u16 little-endian, ascending, then values bf16 little-endian ──

function encodeTopk(floats: Float32Array): Uint8Array<ArrayBuffer> {
  const places = largest(floats, keptOf(floats.length))
  const values = toBf16(Float32Array.from(places, place => floats[place]!))
  const out = new Uint8Array(places.length * 4)
  const view = new DataView(out.buffer)
  for (const [order, place] of places.entries()) {
    view.setUint16(order * 2, place, true)
    view.setUint16((places.length + order) * 2, values[order]!, true)
  }
  return out
}

function decodeTopk(bytes: Uint8Array, into: Float32Array): string | null {
  const kept = keptOf(into.length)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  into.fill(0)
  const [half, whole] = [new Uint16Array(1), new Float32Array(1)]
  let before = -1
  for (let order = 0; order < kept; order++) {
    const place = view.getUint16(order * 2, true)
    if (place <= before || place >= into.length) return `place ${place} follows ${before} in a stretch of ${into.length}`
    before = place
    half[0] = view.getUint16((kept + order) * 2, true)
    fromBf16(half, whole)
    into[place] = whole[0]!
  }
  return null
}

/** Places of the `count` floats that are largest in size, ascending; of equal ones the first. Exact, by counting: no order of sorting to agree on. */
function largest(floats: Float32Array, count: number): Uint16Array {
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length)
  // The bits of a float without its sign are ordered as its size is: counted by their upper 16, then, in the one bin that is cut, by the lower 15.
  const upper = cut(bits, word => (word & 0x7fffffff) >>> 15, 65_536, count)
  const lower = cut(bits, word => ((word & 0x7fffffff) >>> 15 === upper.bin ? word & 0x7fff : -1), 32_768, upper.left)
  const least = (upper.bin << 15) | lower.bin
  const places = new Uint16Array(count)
  let [kept, ties] = [0, lower.left]
  for (let place = 0; place < bits.length && kept < count; place++) {
    const size = bits[place]! & 0x7fffffff
    if (size < least || (size === least && ties-- <= 0)) continue
    places[kept++] = place
  }
  return places
}

/** The bin in which the `count`-th largest lies, and how many of it are among them. */
function cut(bits: Uint32Array, binOf: (word: number) => number, bins: number, count: number): { bin: number; left: number } {
  const sizes = new Uint32Array(bins)
  for (let place = 0; place < bits.length; place++) {
    const bin = binOf(bits[place]!)
    if (bin >= 0) sizes[bin]!++
  }
  let left = count
  let bin = bins - 1
  for (; bin > 0 && sizes[bin]! < left; bin--) left -= sizes[bin]!
  return { bin, left }
}
