/**
 * Builds an ONNX model, operator by operator (https://onnx.ai/onnx/repo-docs/IR.html; field numbers are those of onnx.proto).
 *
 * A value is a name. Shapes are known while the graph is built, so a wrong one fails here and not inside the runtime.
 */
import { float, integer, join, nested, string } from './protobuf.ts'

const dataTypes = { float: 1, int32: 6, int64: 7 } as const
type DataType = keyof typeof dataTypes

type Shape = (number | string)[]

export type Attribute = number | number[] | { float: number }

const opset = 17
const irVersion = 8

/** An operator, and what it reads and makes. */
interface Node {
  inputs: string[]
  outputs: string[]
  bytes: Uint8Array
}

export class Graph {
  readonly #nodes: Node[] = []
  readonly #wanted = new Set<string>()
  readonly #initializers: Uint8Array[] = []
  readonly #inputs: Uint8Array[] = []
  readonly #outputs: Uint8Array[] = []
  readonly #constants = new Map<string, string>()
  #count = 0

  /** @param shape - a size that a run decides is a name. */
  input(name: string, type: DataType, shape: Shape): string {
    this.#inputs.push(valueInfo(name, type, shape))
    return name
  }

  /** Names `value` as an output of the model. */
  output(name: string, value: string, shape: Shape): void {
    this.#emit('Identity', [value], {}, '', [name])
    this.#wanted.add(name)
    this.#outputs.push(valueInfo(name, 'float', shape))
  }

  constant(name: string, type: DataType, shape: number[], data: Float32Array | BigInt64Array | Int32Array): string {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    const dims = shape.map(size => integer(1, size))
    this.#initializers.push(join([...dims, integer(2, dataTypes[type]), string(8, name), nested(9, bytes)]))
    return name
  }

  /** A scalar, made once. */
  scalar(value: number): string {
    const name = `scalar ${value}`
    if (!this.#constants.has(name)) this.#constants.set(name, this.constant(name, 'float', [], Float32Array.of(value)))
    return name
  }

  /** A list of whole numbers, made once: shapes and axes. */
  integers(values: number[]): string {
    const name = `integers ${values}`
    if (!this.#constants.has(name))
      this.#constants.set(name, this.constant(name, 'int64', [values.length], BigInt64Array.from(values.map(BigInt))))
    return name
  }

  /** One operator with one result. */
  op(type: string, inputs: string[], attributes: Record<string, Attribute> = {}): string {
    const result = this.#name()
    this.#emit(type, inputs, attributes, '', [result])
    return result
  }

  cast(x: string, type: DataType): string {
    return this.op('Cast', [x], { to: dataTypes[type] })
  }

  /** Of values of one shape, or that broadcast. */
  sum(parts: string[]): string {
    return parts.reduce((sum, part) => this.op('Add', [sum, part]))
  }

  /** Rows below each other. */
  stacked(parts: string[]): string {
    return parts.length === 1 ? parts[0]! : this.op('Concat', parts, { axis: 0 })
  }

  /** One of onnxruntime's own operators (https://onnxruntime.ai/docs/reference/operators/ContribOperators.html). */
  runtimeOp(type: string, inputs: string[], attributes: Record<string, Attribute> = {}): string {
    const result = this.#name()
    this.#emit(type, inputs, attributes, 'com.microsoft', [result])
    return result
  }

  /** One operator with two results. */
  pair(type: string, inputs: string[], attributes: Record<string, Attribute>): [string, string] {
    const results: [string, string] = [this.#name(), this.#name()]
    this.#emit(type, inputs, attributes, '', results)
    return results
  }

  /**
   * The model's bytes. What no output needs is left out. Operators are written last to first: onnxruntime begins with the output that stands last
   * in the file, and computes what it needs as late as it can. So outputs are computed in the order in which they were made here, a block's
   * gradients as soon as the backward pass has come to it, and what they are made of is not kept until all else is done.
   */
  model(): Uint8Array {
    const graph = join([
      ...this.#needed()
        .reverse()
        .map(({ bytes }) => nested(1, bytes)),
      string(2, 'worldlm'),
      ...this.#initializers.map(tensor => nested(5, tensor)),
      ...this.#inputs.map(info => nested(11, info)),
      ...this.#outputs.map(info => nested(12, info))
    ])
    const imports = [join([string(1, ''), integer(2, opset)]), join([string(1, 'com.microsoft'), integer(2, 1)])]
    return join([integer(1, irVersion), string(2, 'worldlm'), nested(7, graph), ...imports.map(one => nested(8, one))])
  }

  /** Adds nothing to `x`, once `earlier` is computed: what is large and no longer needed can then be given back first. [n, d] each. */
  after(x: string, earlier: string[]): string {
    const one = this.integers([1, 1])
    const corners = earlier.map(y => this.op('Slice', [y, this.integers([0, 0]), one, this.integers([0, 1])])) // [1, 1]
    return this.op('Add', [x, this.op('Mul', [this.sum(corners), this.scalar(0)])])
  }

  /** Operators stand behind those that they read from: one pass from the last finds all. */
  #needed(): Node[] {
    const read = new Set(this.#wanted)
    const nodes = this.#nodes.toReversed().filter(({ inputs, outputs }) => {
      if (!outputs.some(name => read.has(name))) return false
      for (const name of inputs) read.add(name)
      return true
    })
    return nodes.reverse()
  }

  #name(): string {
    return `v${this.#count++}`
  }

  #emit(type: string, inputs: string[], attributes: Record<string, Attribute>, domain: string, outputs: string[]): void {
    const named = Object.entries(attributes).map(([name, value]) => nested(5, attribute(name, value)))
    const bytes = join([
      ...inputs.map(name => string(1, name)),
      ...outputs.map(name => string(2, name)),
      string(3, `${type} ${this.#nodes.length}`),
      string(4, type),
      ...named,
      ...(domain === '' ? [] : [string(7, domain)])
    ])
    this.#nodes.push({ inputs, outputs, bytes })
  }
}

/** AttributeProto: type 1 float, 2 int, 7 ints. */
function attribute(name: string, value: Attribute): Uint8Array {
  if (Array.isArray(value)) return join([string(1, name), ...value.map(one => integer(8, one)), integer(20, 7)])
  if (typeof value === 'object') return join([string(1, name), float(2, value.float), integer(20, 1)])
  return join([string(1, name), integer(3, value), integer(20, 2)])
}

function valueInfo(name: string, type: DataType, shape: Shape): Uint8Array {
  const dims = join(shape.map(size => nested(1, typeof size === 'number' ? integer(1, size) : string(2, size))))
  const tensor = join([integer(1, dataTypes[type]), nested(2, dims)])
  return join([string(1, name), nested(2, nested(1, tensor))])
}
