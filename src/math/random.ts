/**
 * The only source of chance: xoshiro128** (Blackman and Vigna 2018), seeded through splitmix32. Equal seeds, equal numbers, on any
 * machine; its state can be stored and taken up again.
 */
export class Random {
  #a: number
  #b: number
  #c: number
  #d: number
  /** The second of a pair of normal numbers. */
  #spare: number | null = null

  /** @param seed - a number or a name; both are hashed, so 1 and 2 have nothing in common. */
  constructor(seed: number | string) {
    const next = splitmix(hash(String(seed)))
    this.#a = next()
    this.#b = next()
    this.#c = next()
    this.#d = next()
  }

  static from(state: number[]): Random {
    const random = new Random(0)
    const [a = 0, b = 0, c = 0, d = 0] = state
    random.#a = a >>> 0
    random.#b = b >>> 0
    random.#c = c >>> 0
    random.#d = d >>> 0
    random.#spare = state[4] ?? null
    return random
  }

  /** What `from` takes. */
  state(): number[] {
    const words = [this.#a, this.#b, this.#c, this.#d]
    return this.#spare === null ? words : [...words, this.#spare]
  }

  /** An independent stream for a purpose. */
  fork(label: string): Random {
    return new Random(`${this.#a}/${this.#b}/${this.#c}/${this.#d}/${label}`)
  }

  uint32(): number {
    const scrambled = Math.imul(rotate(Math.imul(this.#b, 5), 7), 9) >>> 0
    const shifted = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= shifted
    this.#d = rotate(this.#d, 11)
    return scrambled
  }

  /** 0 ≤ x < 1, with 53 random bits. */
  float(): number {
    return (this.uint32() * 2 ** 21 + (this.uint32() >>> 11)) / 2 ** 53
  }

  /** A whole number, 0 ≤ x < n; n up to 2⁵³. */
  below(n: number): number {
    return Math.floor(this.float() * n)
  }

  /** Mean 0, variance 1 (Marsaglia's polar method). */
  normal(): number {
    if (this.#spare !== null) {
      const spare = this.#spare
      this.#spare = null
      return spare
    }
    for (;;) {
      const x = 2 * this.float() - 1
      const y = 2 * this.float() - 1
      const square = x * x + y * y
      if (square >= 1 || square === 0) continue
      const factor = Math.sqrt((-2 * Math.log(square)) / square)
      this.#spare = y * factor
      return x * factor
    }
  }
}

function hashBytes(bytes: Uint8Array): number {
  let value = 0x811c9dc5
  for (const byte of bytes) value = Math.imul(value ^ byte, 0x01000193)
  return value >>> 0
}

const rotate = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits))

/** FNV-1a of its UTF-8, 32 bits. Streams are forked by the thousand, and nearly all of their names are ASCII: no bytes are made of those. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let place = 0; place < text.length; place++) {
    const code = text.charCodeAt(place)
    if (code > 0x7f) return hashBytes(new TextEncoder().encode(text))
    value = Math.imul(value ^ code, 0x01000193)
  }
  return value >>> 0
}

function splitmix(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x9e3779b9) | 0
    let mixed = state ^ (state >>> 16)
    mixed = Math.imul(mixed, 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }
}
