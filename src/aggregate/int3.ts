/**
 * Three bits a float: blocks of 256 share a step, and each float is one of −3 to 3 of it. Of a block's steps from a seventh to a third of its
 * largest float the one is taken that leaves the least squared error (for a normal distribution about 0.65 deviations: Max 1960), so that a
 * few large floats do not cost all others their sign.
 *
 *   scales f32 little-endian, one a block; then eight floats in three bytes, the first in the lowest bits, a float as level + 3
 */

const blockFloats = 256
const levelMax = 3
/** Shares of the block's largest float, over `levelMax`. */
const shares = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.43]

export const int3Bytes = (floats: number): number => Math.ceil(floats / blockFloats) * 4 + Math.ceil((floats * 3) / 8)

export function encodeInt3(floats: Float32Array): Uint8Array<ArrayBuffer> {
  const blocks = Math.ceil(floats.length / blockFloats)
  const out = new Uint8Array(int3Bytes(floats.length))
  const scales = new DataView(out.buffer, 0, blocks * 4)
  const packed = out.subarray(blocks * 4)
  for (let block = 0; block < blocks; block++) {
    const from = block * blockFloats
    const own = floats.subarray(from, from + blockFloats)
    const scale = bestScale(own)
    scales.setFloat32(block * 4, scale, true)
    for (const [place, float] of own.entries()) put(packed, from + place, levelOf(float, scale) + levelMax)
  }
  return out
}

/** @returns what is wrong with the bytes, or null. */
export function decodeInt3(bytes: Uint8Array, into: Float32Array): string | null {
  const blocks = Math.ceil(into.length / blockFloats)
  const scales = new DataView(bytes.buffer, bytes.byteOffset, blocks * 4)
  const packed = bytes.subarray(blocks * 4)
  for (let place = 0; place < into.length; place++) {
    const block = Math.floor(place / blockFloats)
    const scale = scales.getFloat32(block * 4, true)
    if (!Number.isFinite(scale)) return `the scale of block ${block} is ${scale}`
    const level = take(packed, place) - levelMax
    if (level > levelMax) return `place ${place} holds no level`
    into[place] = level * scale
  }
  return null
}

function bestScale(block: Float32Array): number {
  let largest = 0
  // What is no number makes the scale none: the receiver must see it.
  for (const float of block) largest = Math.max(largest, Math.abs(float))
  let [best, least] = [Math.fround(largest / levelMax), Number.POSITIVE_INFINITY]
  for (const share of shares) {
    const scale = Math.fround((largest / levelMax) * share)
    let squares = 0
    for (const float of block) squares += (float - levelOf(float, scale) * scale) ** 2
    if (squares < least) [best, least] = [scale, squares]
  }
  return best
}

const levelOf = (float: number, scale: number): number =>
  scale > 0 ? Math.max(-levelMax, Math.min(levelMax, Math.round(float / scale))) : 0

function put(packed: Uint8Array, place: number, code: number): void {
  const bit = place * 3
  const byte = bit >> 3
  const shifted = code << (bit & 7)
  packed[byte]! |= shifted & 0xff
  if (shifted > 0xff) packed[byte + 1]! |= shifted >> 8
}

function take(packed: Uint8Array, place: number): number {
  const bit = place * 3
  const byte = bit >> 3
  return ((packed[byte]! | ((packed[byte + 1] ?? 0) << 8)) >> (bit & 7)) & 7
}
