/**
 * How much of one text stands word for word in another: a plain n-gram check over bytes, for warnings.
 *
 * Is: windows of 64 bytes looked up in a Bloom filter (Bloom 1970) over all windows of the other text; about 1 in 5,000 is found by chance.
 * Of a text with more than 20 MB a share of the windows stands for all: those whose hash divides by a number.
 * Is not: a near-duplicate search; a changed character in every line hides a copy.
 */
import { blocksOf, type Bytes } from './spool.ts'

/** Long enough that common phrases do not count, short enough to find a copied sentence. */
export const overlapBytes = 64

const base = 0x01000193
/** base⁶⁴, to take the byte that leaves the window out again. */
const leaving = Array.from({ length: overlapBytes }).reduce<number>(power => Math.imul(power, base), 1)

/** As many are told apart well, and found in a reasonable time. */
const windowsMax = 20_000_000

/** All windows of a text. */
export class WindowSet {
  readonly #bits: Uint32Array
  readonly #mask: number
  /** A window is looked at whose spread hash lies below: all at 2³². */
  readonly #below: number

  /** @param most - windows that are looked at, of all. */
  constructor(texts: Bytes[], most: number = windowsMax) {
    const windows = texts.reduce((sum, { length }) => sum + length, 0)
    const share = Math.min(1, most / Math.max(1, windows))
    this.#below = 2 ** 32 * share
    const words = 2 ** Math.min(25, Math.max(8, 1 + Math.ceil(Math.log2(Math.max(1, windows * share)))))
    this.#bits = new Uint32Array(words)
    this.#mask = words * 32 - 1
    for (const text of texts) this.#add(text)
  }

  #add(text: Bytes): void {
    const [bits, below] = [this.#bits, this.#below]
    /** The last bytes, each at its place modulo their number. */
    const last = new Uint8Array(overlapBytes)
    let [hash, place] = [0, 0]
    for (const block of blocksOf(text)) {
      for (const byte of block) {
        const slot = place % overlapBytes
        hash = (Math.imul(hash, base) + byte + 1) | 0
        if (place >= overlapBytes) hash = (hash - Math.imul(leaving, last[slot]! + 1)) | 0
        last[slot] = byte
        place++
        if (spread(hash) >= below || place < overlapBytes) continue
        for (const bit of this.#places(hash)) bits[bit >>> 5]! |= 1 << (bit & 31)
      }
    }
  }

  /** @param from - of a window in `text`. @returns null where this window is not looked at. */
  has(text: Uint8Array, from: number): boolean | null {
    let hash = 0
    for (let place = from; place < from + overlapBytes; place++) hash = (Math.imul(hash, base) + text[place]! + 1) | 0
    if (spread(hash) >= this.#below) return null
    return this.#places(hash).every(bit => (this.#bits[bit >>> 5]! & (1 << (bit & 31))) !== 0)
  }

  #places(hash: number): [number, number, number] {
    const first = mix(hash)
    const second = mix(first ^ 0x9e3779b9)
    return [first & this.#mask, second & this.#mask, mix(second ^ 0x7f4a7c15) & this.#mask]
  }
}

/** 0 ≤ spread < 2³²; a hash's own low bits tell of its last bytes alone. */
const spread = (hash: number): number => Math.imul(hash, 0x9e3779b1) >>> 0

function mix(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}

/** Share of the text's windows (one after the other, the rest left out) that stand in the set; 0 for a text without a window. */
export function overlap(text: Bytes, set: WindowSet): number {
  let [looked, found] = [0, 0]
  for (const block of blocksOf(text)) {
    for (let from = 0; from + overlapBytes <= block.length; from += overlapBytes) {
      const has = set.has(block, from)
      if (has === null) continue
      looked++
      if (has) found++
    }
  }
  return looked === 0 ? 0 : found / looked
}
