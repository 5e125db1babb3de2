/** Sets of chunk numbers as bits, lowest bit of the first byte first: 2 KiB for the largest blob. */

export const bitmapBytes = (count: number): number => Math.ceil(count / 8)

export function bitmapOf(places: Iterable<number>, count: number): Uint8Array {
  const bitmap = new Uint8Array(bitmapBytes(count))
  for (const place of places) setBit(bitmap, place)
  return bitmap
}

export const fullBitmap = (count: number): Uint8Array => bitmapOf(Array(count).keys(), count)

/** False past the end. */
export const hasBit = (bitmap: Uint8Array, place: number): boolean => ((bitmap[place >> 3] ?? 0) & (1 << (place & 7))) !== 0

export function setBit(bitmap: Uint8Array, place: number): void {
  bitmap[place >> 3]! |= 1 << (place & 7)
}

export function clearBit(bitmap: Uint8Array, place: number): void {
  bitmap[place >> 3]! &= ~(1 << (place & 7))
}

/** Bits set among the first `count`. */
export function countBits(bitmap: Uint8Array, count: number): number {
  let sum = 0
  for (let place = 0; place < count; place++) if (hasBit(bitmap, place)) sum++
  return sum
}
