/**
 * Parameters, gradients and AdamW's moments in one linear memory: the runtime reads and writes them in place, the kernels step them.
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
  scatterAdd(table: number, ids: number, rows: number, count: number, width: number): void
  sumOfSquares(x: number, floats: number): number
}

const pageBytes = 65_536
/** WebAssembly's memory ends at 4 GiB. */
const pagesMax = 65_536

export class EngineMemory {
  readonly kernels: Kernels
  readonly parameters: Float32Array<ArrayBuffer>
  readonly gradient: Float32Array<ArrayBuffer>
  readonly first: Float32Array<ArrayBuffer>
  readonly second: Float32Array<ArrayBuffer>
  /** Gradient of the embedded inputs, and of the targets' rows: [N, d] each; empty where only adapters are trained. */
  readonly embedded: Float32Array<ArrayBuffer>
  readonly targeted: Float32Array<ArrayBuffer>
  /** Tokens of the batch, in the graph's order, [N] each. */
  readonly inputs: Int32Array<ArrayBuffer>
  readonly targets: Int32Array<ArrayBuffer>

  /** @throws {WorldlmError} MODEL_TOO_LARGE */
  constructor(layout: Layout, tokens: number) {
    const rows = layout.base === undefined ? tokens * layout.config.width : 0
    const bytes = 64 + 4 * (4 * layout.floats + 2 * rows + 2 * tokens) + 64 * 8
    const pages = Math.ceil(bytes / pageBytes)
    if (pages > pagesMax) {
      throw new WorldlmError(
        'MODEL_TOO_LARGE',
        `${layout.floats} parameters with their gradient and moments need ${Math.ceil(bytes / 2 ** 30)} GiB, this engine has 4`,
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
    this.gradient = floats(layout.floats)
    this.first = floats(layout.floats)
    this.second = floats(layout.floats)
    this.embedded = floats(rows)
    this.targeted = floats(rows)
    this.inputs = new Int32Array(memory.buffer, take(tokens), tokens)
    this.targets = new Int32Array(memory.buffer, take(tokens), tokens)
  }
}
