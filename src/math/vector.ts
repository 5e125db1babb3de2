/**
 * Vectors of 32-bit floats in one linear memory, and the SIMD kernels over them (vector.as.ts). Each kernel has its plain oracle here.
 */
import { assert } from '../errors.ts'
import { wasmBase64 } from './vector.wasm.ts'

interface Kernels {
  scaleAndAdd(y: number, a: number, x: number, b: number, floats: number): void
  add(y: number, x: number, b: number, floats: number): void
  dotDifference(x: number, p: number, y: number, q: number, floats: number): number
  allWithin(x: number, bound: number, floats: number): number
  sketch(out: number, x: number, y: number, floats: number, seed: number): void
}

const pageBytes = 65_536
/** Address 0 means "none" to the kernels. */
const firstByte = 64

/** A memory of fixed size; what is allocated lives as long as it does. */
export class Vectors {
  readonly #memory: WebAssembly.Memory
  readonly #kernels: Kernels
  #next = firstByte

  /** @param floats - room for so many, rounded up; at most 2³⁰. @throws {RangeError} when the machine has no room. */
  constructor(floats: number) {
    // Every vector may lose 60 bytes to alignment; a few hundred vectors fit into the spare pages.
    const initial = Math.ceil((floats * 4 + firstByte) / pageBytes) + 2
    this.#memory = new WebAssembly.Memory({ initial, maximum: initial })
    const module = new WebAssembly.Module(Buffer.from(wasmBase64, 'base64'))
    const { exports } = new WebAssembly.Instance(module, { env: { memory: this.#memory } })
    this.#kernels = exports as unknown as Kernels
  }

  /** A vector of zeros, a view into the memory. @param floats - a multiple of 4. */
  allocate(floats: number): Float32Array<ArrayBuffer> {
    assert(floats % 4 === 0, 'vectors have a multiple of 4 floats', floats)
    return new Float32Array(this.#memory.buffer, this.#take(floats * 4), floats)
  }

  /** y ← a·y + b·x, in place. Shapes [n], [n]. Oracle: `scaleAndAddPlain`. */
  scaleAndAdd(y: Float32Array, a: number, x: Float32Array, b: number): void {
    this.#same(y, x)
    if (a === 1) this.#kernels.add(y.byteOffset, x.byteOffset, b, y.length)
    else this.#kernels.scaleAndAdd(y.byteOffset, a, x.byteOffset, b, y.length)
  }

  /** Σ (x − p)·(y − q) in 64 bits; p, q null: 0. Shapes [n]. Oracle: `dotPlain`. */
  dot(x: Float32Array, y: Float32Array, p: Float32Array | null = null, q: Float32Array | null = null): number {
    this.#same(x, y)
    return this.#kernels.dotDifference(x.byteOffset, p?.byteOffset ?? 0, y.byteOffset, q?.byteOffset ?? 0, x.length)
  }

  /** ‖x − y‖². Shapes [n], [n]. */
  distanceSquared(x: Float32Array, y: Float32Array): number {
    return this.dot(x, x, y, y)
  }

  /** Whether no float is NaN or infinite. */
  allWithin(x: Float32Array, bound: number): boolean {
    this.#same(x, x)
    return this.#kernels.allWithin(x.byteOffset, bound, x.length) === 1
  }

  /** Count sketch of x − y into 512 doubles, which are added to. Oracle: `sketchPlain`. */
  sketch(out: Float64Array, x: Float32Array, y: Float32Array | null, seed: number): void {
    assert(out.length === sketchBuckets && out.buffer === this.#memory.buffer, 'a sketch lies in the same memory')
    this.#kernels.sketch(out.byteOffset, x.byteOffset, y?.byteOffset ?? 0, x.length, seed)
  }

  allocateSketch(): Float64Array {
    return new Float64Array(this.#memory.buffer, this.#take(sketchBuckets * 8), sketchBuckets)
  }

  #take(bytes: number): number {
    const offset = this.#next
    this.#next += Math.ceil(bytes / 64) * 64
    assert(this.#next <= this.#memory.buffer.byteLength, 'out of the memory that was asked for', { bytes, next: this.#next })
    return offset
  }

  #same(x: Float32Array, y: Float32Array): void {
    assert(x.length === y.length && x.length % 4 === 0, 'vectors of one length, a multiple of 4', {
      left: x.length,
      right: y.length
    })
    assert(x.buffer === this.#memory.buffer && y.buffer === this.#memory.buffer, 'vectors of this memory')
  }
}

export const sketchBuckets = 512

/** The oracle of `scaleAndAdd`. */
export function scaleAndAddPlain(y: Float32Array, a: number, x: Float32Array, b: number): void {
  for (let index = 0; index < y.length; index++)
    y[index] = Math.fround(Math.fround(a) * y[index]!) + Math.fround(Math.fround(b) * x[index]!)
}

/** The oracle of `dot`. */
export function dotPlain(x: Float32Array, y: Float32Array): number {
  let sum = 0
  for (let index = 0; index < x.length; index++) sum += x[index]! * y[index]!
  return sum
}

/** The oracle of `sketch`. */
export function sketchPlain(x: Float32Array, seed: number): Float64Array {
  const out = new Float64Array(sketchBuckets)
  for (let index = 0; index < x.length; index++) {
    let h = (Math.imul(index, 0x9e3779b1) + seed) >>> 0
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
    h ^= h >>> 16
    out[h & 511]! += h & 512 ? -x[index]! : x[index]!
  }
  return out
}
