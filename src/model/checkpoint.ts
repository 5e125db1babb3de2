/**
 * Models as safetensors (https://huggingface.co/docs/safetensors, "Format"): length, JSON header, data.
 *
 * Ours are canonical: tensors in the order of the layout, nothing between them, the header padded so that data begins at a multiple
 * of 64 bytes. So the data of an f32 model *is* the flat array, and equal models are equal bytes.
 */
import { WorldlmError } from '../errors.ts'
import type { Layout } from './layout.ts'

export type Encoding = 'f32' | 'bf16'
/** Of updates. Those that are not of models too stand in aggregate/encode.ts. */
export const updateEncodings = ['f32', 'bf16', 'int8', 'int3', 'topk'] as const
export type UpdateEncoding = (typeof updateEncodings)[number]

const dtypes: Record<Encoding, { dtype: string; bytes: number }> = {
  f32: { dtype: 'F32', bytes: 4 },
  bf16: { dtype: 'BF16', bytes: 2 }
}

/** Longer headers are of no model that fits into a memory. */
const headerBytesMax = 16 * 1024 * 1024

interface StoredTensor {
  dtype: string
  shape: number[]
  data_offsets: [number, number]
}
export interface Header {
  tensors: Record<string, StoredTensor>
  metadata: Record<string, string>
  /** First byte of data. */
  dataOffset: number
}

/** The bytes before the data. Extra sections (an optimizer's moments) repeat the layout under a prefix. */
export function encodeHeader(
  layout: Layout,
  encoding: Encoding,
  metadata: Record<string, string>,
  sections: string[] = ['']
): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata }
  const { dtype, bytes } = dtypes[encoding]
  let offset = 0
  for (const prefix of sections) {
    for (const { name, shape, floats } of layout.tensors) {
      header[prefix + name] = { dtype, shape, data_offsets: [offset, offset + floats * bytes] }
      offset += floats * bytes
    }
  }
  return frameHeader(header)
}

/** More than a file of so many sections of this layout has, in any encoding. */
export const modelBytesMax = ({ floats }: Layout, sections: number): number =>
  headerBytesMax + sections * floats * dtypes.f32.bytes

/** Length and JSON, padded with spaces so that data begins at a multiple of 64 bytes, where a typed array of whatever kind can lie. */
export function frameHeader(header: Record<string, unknown>): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(header))
  const whole = new Uint8Array(Math.ceil((8 + json.length) / 64) * 64).fill(0x20)
  whole.set(json, 8)
  new DataView(whole.buffer).setBigUint64(0, BigInt(whole.length - 8), true)
  return whole
}

export const damaged = (where: string, what: string): WorldlmError =>
  new WorldlmError(
    'MODEL_DAMAGED',
    `${where} is not a whole model: ${what}`,
    'Fetch or export it again; the last good one is kept.'
  )

/** @param head - the first bytes of the file, the whole header among them. @throws {WorldlmError} MODEL_DAMAGED */
export function decodeHeader(head: Uint8Array, fileBytes: number, where: string): Header {
  const length = headerBytes(head, where) - 8
  if (8 + length > head.length) throw damaged(where, 'it ends inside its header')
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(head.subarray(8, 8 + length)))
  } catch {
    throw damaged(where, 'its header is not JSON')
  }
  if (!isRecord(parsed)) throw damaged(where, 'its header is not an object')
  const { __metadata__: metadata = {}, ...tensors } = parsed
  if (!isRecord(metadata) || !Object.values(metadata).every(value => typeof value === 'string'))
    throw damaged(where, 'its metadata are not strings')
  for (const [name, tensor] of Object.entries(tensors))
    if (!isStoredTensor(tensor)) throw damaged(where, `tensor ${name} is not described by dtype, shape and data_offsets`)
  const header = {
    tensors: tensors as Record<string, StoredTensor>,
    metadata: metadata as Record<string, string>,
    dataOffset: 8 + length
  }
  checkOffsets(header, fileBytes, where)
  return header
}

/** Bytes of length and header together. @param head - at least 8 bytes. */
export function headerBytes(head: Uint8Array, where: string): number {
  if (head.length < 8) throw damaged(where, `it has ${head.length} bytes`)
  const length = new DataView(head.buffer, head.byteOffset, 8).getBigUint64(0, true)
  if (length > BigInt(headerBytesMax)) throw damaged(where, `its header claims ${length} bytes`)
  return Number(length) + 8
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const areSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every(size => Number.isSafeInteger(size) && size >= 0)

const isStoredTensor = (value: unknown): value is StoredTensor =>
  isRecord(value) &&
  typeof value.dtype === 'string' &&
  areSizes(value.shape) &&
  areSizes(value.data_offsets) &&
  value.data_offsets.length === 2

/** Tensors cover the data, without holes and without overlap, in whatever order the header names them. */
function checkOffsets({ tensors, dataOffset }: Header, fileBytes: number, where: string): void {
  let end = 0
  const inOrder = Object.entries(tensors).sort(([, { data_offsets: a }], [, { data_offsets: b }]) => a[0] - b[0] || a[1] - b[1])
  for (const [name, { data_offsets }] of inOrder) {
    const [from, to] = data_offsets
    if (from !== end || to < from) throw damaged(where, `tensor ${name} lies at ${from}..${to}, expected from ${end}`)
    end = to
  }
  if (dataOffset + end !== fileBytes) throw damaged(where, `it has ${fileBytes} bytes, its tensors need ${dataOffset + end}`)
}

/** @returns the encoding, if the header holds just this layout (in each section). @throws {WorldlmError} MODEL_DAMAGED */
export function checkAgainst(layout: Layout, { tensors }: Header, where: string, sections: string[] = ['']): Encoding {
  const names = sections.flatMap(prefix => layout.tensors.map(tensor => ({ ...tensor, name: prefix + tensor.name })))
  const stored = Object.entries(tensors)
  const encoding = stored[0]?.[1].dtype === 'BF16' ? 'bf16' : 'f32'
  let offset = 0
  for (const [place, { name, shape }] of names.entries()) {
    const [storedName, tensor] = stored[place] ?? []
    if (storedName !== name || tensor === undefined)
      throw damaged(where, `tensor ${name} is missing${storedName === undefined ? '' : `, ${storedName} is in its place`}`)
    if (tensor.shape.join() !== shape.join())
      throw damaged(where, `tensor ${name} has shape [${tensor.shape}], the model's is [${shape}]`)
    if (tensor.dtype !== dtypes[encoding].dtype) throw damaged(where, `tensor ${name} is ${tensor.dtype}`)
    const [from, to] = tensor.data_offsets
    if (to - from !== shape.reduce((product, size) => product * size, 1) * dtypes[encoding].bytes)
      throw damaged(where, `tensor ${name} has ${to - from} bytes`)
    // The data are read as one flat array, so their order must be the layout's too.
    if (from !== offset) throw damaged(where, `tensor ${name} lies at ${from}, the model's at ${offset}`)
    offset = to
  }
  if (stored.length !== names.length) throw damaged(where, `it holds ${stored.length} tensors, the model ${names.length}`)
  return encoding
}

/** bfloat16, rounded to the nearest, ties to even; NaN stays NaN. @param out - of the same length. */
export function toBf16(
  floats: Float32Array,
  out: Uint16Array<ArrayBuffer> = new Uint16Array(floats.length)
): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length)
  for (let place = 0; place < bits.length; place++) {
    const word = bits[place]!
    const notANumber = (word & 0x7fffffff) > 0x7f800000
    out[place] = notANumber ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
  }
  return out
}

/** Into `out`, of the same length. */
export function fromBf16(halves: Uint16Array, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length)
  for (let place = 0; place < halves.length; place++) bits[place] = halves[place]! << 16
}

/** IEEE half precision, which some checkpoints are stored in. Into `out`, of the same length. */
export function fromF16(halves: Uint16Array, out: Float32Array): void {
  for (let place = 0; place < halves.length; place++) {
    const half = halves[place]!
    const sign = half & 0x8000 ? -1 : 1
    const exponent = (half >>> 10) & 0x1f
    const fraction = half & 0x3ff
    if (exponent === 0) out[place] = sign * fraction * 2 ** -24
    else if (exponent === 31) out[place] = fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
    else out[place] = sign * (1024 + fraction) * 2 ** (exponent - 25)
  }
}
