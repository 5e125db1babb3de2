/**
 * Parameters and AdamW's moments in one linear memory: the runtime reads the parameters in place, the kernels step them. Gradients come by in
 * pieces that stay in the processor's cache.
 */
import { WorldlmError } from '../../errors.ts'
import type { Layout } from '../../model/layout.ts'
import { wasmBase64 } from './adam.wasm.ts'

interface Kernels {
  adamw(
    w: number,
    g: number,
    m: number,
    v: number,
    floats: number,
    scale: number,
    rate: number,
    decay: number,
    root: number
  ): void
  sumOfSquares(x: number, floats: number): number
}

/** 256 KB: with as much of parameters and moments each, it fits the second-level cache. */
const pieceFloats = 65_536
const pageBytes = 65_536
/** WebAssembly's memory ends at 4 GiB. */
const pagesMax = 65_536

export class EngineMemory {
  readonly kernels: Kernels
  readonly parameters: Float32Array<ArrayBuffer>
  readonly first: Float32Array<ArrayBuffer>
  readonly second: Float32Array<ArrayBuffer>
  /** A piece of a gradient. */
  readonly #piece: Float32Array<ArrayBuffer>
  /** Tokens of the batch, in the graph's order, [N] each. */
  readonly inputs: Int32Array<ArrayBuffer>
  readonly targets: Int32Array<ArrayBuffer>

  /** @throws {WorldlmError} MODEL_TOO_LARGE */
  constructor(layout: Layout, tokens: number) {
    const bytes = 64 + 4 * (3 * layout.floats + pieceFloats + 2 * tokens) + 64 * 6
    const pages = Math.ceil(bytes / pageBytes)
    if (pages > pagesMax) {
      throw new WorldlmError(
        'MODEL_TOO_LARGE',
        `${layout.floats} parameters with their moments need ${Math.ceil(bytes / 2 ** 30)} GiB, this engine has 4`,
        'Choose a smaller model.'
      )
    }
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    const module = new WebAssembly.Module(Buffer.from(wasmBase64, 'base64'))
    this.kernels = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels
    let next = 64
    const take = (count: number): number => {
      const offset = next
      next += Math.ceil((count * 4) / 64) * 64
      return offset
    }
    const floats = (count: number) => new Float32Array(memory.buffer, take(count), count)
    this.parameters = floats(layout.floats)
    this.first = floats(layout.floats)
    this.second = floats(layout.floats)
    this.#piece = floats(pieceFloats)
    this.inputs = new Int32Array(memory.buffer, take(tokens), tokens)
    this.targets = new Int32Array(memory.buffer, take(tokens), tokens)
  }

  /** Exchanges the parameters for others, piece by piece. */
  swap(others: Float32Array): void {
    const piece = new Float32Array(pieceFloats)
    for (let from = 0; from < others.length; from += pieceFloats) {
      const [own, other] = [this.parameters, others].map(one => one.subarray(from, from + pieceFloats)) as [
        Float32Array,
        Float32Array
      ]
      piece.set(own)
      own.set(other)
      other.set(piece.subarray(0, other.length))
    }
  }

  /** Brings `gradient` into this memory piece by piece; each is there, at byte `at`, until the next comes. `from` counts floats. */
  *pieces(gradient: Float32Array): Generator<{ at: number; from: number; count: number }> {
    for (let from = 0; from < gradient.length; from += pieceFloats) {
      const count = Math.min(pieceFloats, gradient.length - from)
      this.#piece.set(gradient.subarray(from, from + count))
      yield { at: this.#piece.byteOffset, from, count }
    }
  }
}
