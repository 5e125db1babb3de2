/**
 * How much of one text stands word for word in another: a plain n-gram check over bytes, for warnings.
 *
 * Is: windows of 64 bytes looked up in a Bloom filter (Bloom 1970) over all windows of the other text; about 1 in 5,000 is found by chance.
 * Is not: a near-duplicate search; a changed character in every line hides a copy.
 */

/** Long enough that common phrases do not count, short enough to find a copied sentence. */
export const overlapBytes = 64

const base = 0x01000193
/** base⁶⁴, to take the byte that leaves the window out again. */
const leaving = Array.from({ length: overlapBytes }).reduce<number>(power => Math.imul(power, base), 1)

/** All windows of a text. */
export class WindowSet {
  readonly #bits: Uint32Array
  readonly #mask: number

  /** @param texts - in all, at most about 100 MB are told apart well. */
  constructor(texts: Uint8Array[]) {
    const windows = texts.reduce((sum, { length }) => sum + length, 0)
    const words = 2 ** Math.min(25, Math.max(8, 1 + Math.ceil(Math.log2(Math.max(1, windows)))))
    this.#bits = new Uint32Array(words)
    this.#mask = words * 32 - 1
    for (const text of texts) {
      let hash = 0
      for (let place = 0; place < text.length; place++) {
        hash = (Math.imul(hash, base) + text[place]! + 1) | 0
        if (place >= overlapBytes) hash = (hash - Math.imul(leaving, text[place - overlapBytes]! + 1)) | 0
        if (place >= overlapBytes - 1) for (const bit of this.#places(hash)) this.#bits[bit >>> 5]! |= 1 << (bit & 31)
      }
    }
  }

  /** @param from - of a window in `text`. */
  has(text: Uint8Array, from: number): boolean {
    let hash = 0
    for (let place = from; place < from + overlapBytes; place++) hash = (Math.imul(hash, base) + text[place]! + 1) | 0
    return this.#places(hash).every(bit => (this.#bits[bit >>> 5]! & (1 << (bit & 31))) !== 0)
  }

  #places(hash: number): [number, number, number] {
    const first = mix(hash)
    const second = mix(first ^ 0x9e3779b9)
    return [first & this.#mask, second & this.#mask, mix(second ^ 0x7f4a7c15) & this.#mask]
  }
}

function mix(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}

/** Share of the text's windows (one after the other, the rest left out) that stand in the set; 0 for a text without a window. */
export function overlap(text: Uint8Array, set: WindowSet): number {
  const windows = Math.floor(text.length / overlapBytes)
  let found = 0
  for (let window = 0; window < windows; window++) if (set.has(text, window * overlapBytes)) found++
  return windows === 0 ? 0 : found / windows
}
