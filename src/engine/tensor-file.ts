/**
 * Files of named tensors (safetensors of any layout), read one tensor at a time as 32-bit floats, and written in one go: checkpoints of
 * others, and what goes to and fro between an external trainer and us.
 * Our own models are read and written as one run instead: train/model-file.ts.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { WorldlmError, isDiskFull } from '../errors.ts'
import {
  damaged,
  decodeHeader,
  type Encoding,
  frameHeader,
  fromBf16,
  fromF16,
  type Header,
  headerBytes,
  toBf16
} from '../model/checkpoint.ts'

/** Floats converted at a time. */
const chunkFloats = 1 << 18
const sizeOf = (shape: number[]): number => shape.reduce((product, size) => product * size, 1)

export interface NamedTensor {
  name: string
  shape: number[]
  /** Whether they are whole numbers of 32 bits, whatever the encoding of the others. */
  integers?: boolean
  /** Its numbers. Called when its turn to be written has come; what it returns may be overwritten by the next call. */
  floats: () => Float32Array | Int32Array
}

/** @throws {WorldlmError} MODEL_MISSING */
export function openFile(path: string): number {
  try {
    if (statSync(path).isDirectory()) throw new Error('it is a folder')
    return openSync(path, 'r')
  } catch (cause) {
    throw new WorldlmError(
      'MODEL_MISSING',
      `${path} cannot be read: ${cause instanceof Error ? cause.message : cause}`,
      'Check the path; a node fetches what it lacks when it is started again.',
      { cause }
    )
  }
}

/** @throws {WorldlmError} MODEL_DAMAGED */
export function readHeader(fd: number, path: string): Header {
  const fileBytes = fstatSync(fd).size
  const start = new Uint8Array(8)
  const got = readSync(fd, start, 0, 8, 0)
  const head = new Uint8Array(Math.min(headerBytes(start.subarray(0, got), path), fileBytes))
  readFully(fd, head, 0, path)
  return decodeHeader(head, fileBytes, path)
}

export function readFully(fd: number, bytes: Uint8Array, position: number, path: string): void {
  for (let done = 0; done < bytes.length; ) {
    const got = readSync(fd, bytes, done, bytes.length - done, position + done)
    if (got === 0) throw damaged(path, 'it ends too early')
    done += got
  }
}

/** Reads `target.length` floats that are stored as `dtype` from byte `offset` on. @returns the byte after them. */
export function readFloats(
  fd: number,
  dtype: 'F32' | 'BF16' | 'F16',
  offset: number,
  target: Float32Array,
  path: string
): number {
  if (dtype === 'F32') {
    const bytes = new Uint8Array(target.buffer, target.byteOffset, target.byteLength)
    readFully(fd, bytes, offset, path)
    return offset + bytes.length
  }
  const convert = dtype === 'BF16' ? fromBf16 : fromF16
  const halves = new Uint16Array(Math.min(chunkFloats, target.length))
  for (let from = 0; from < target.length; from += halves.length) {
    const count = Math.min(halves.length, target.length - from)
    readFully(fd, new Uint8Array(halves.buffer, 0, count * 2), offset, path)
    convert(halves.subarray(0, count), target.subarray(from, from + count))
    offset += count * 2
  }
  return offset
}

export class TensorFile {
  readonly path: string
  readonly header: Header
  readonly #fd: number

  /** @throws {WorldlmError} MODEL_MISSING, MODEL_DAMAGED */
  constructor(path: string) {
    this.path = path
    this.#fd = openFile(path)
    try {
      this.header = readHeader(this.#fd, path)
    } catch (error) {
      closeSync(this.#fd)
      throw error
    }
  }

  /** Reads a tensor that is there. @throws {WorldlmError} MODEL_DAMAGED: missing, another shape, not of floats. */
  read(name: string, shape: number[], target: Float32Array): void {
    const tensor = this.header.tensors[name]
    if (tensor === undefined) throw damaged(this.path, `tensor ${name} is missing`)
    if (tensor.shape.join() !== shape.join())
      throw new WorldlmError(
        'MODEL_SHAPE',
        `${this.path}: tensor ${name} has shape [${tensor.shape}], its configuration says [${shape}]`,
        'config.json and the weights are of different models: fetch both again.'
      )
    const { dtype, data_offsets } = tensor
    if (dtype !== 'F32' && dtype !== 'BF16' && dtype !== 'F16')
      throw new WorldlmError(
        'MODEL_DTYPE',
        `${this.path}: tensor ${name} is stored as ${dtype}`,
        'Known are F32, BF16 and F16: convert it, or choose a checkpoint without quantization.'
      )
    const bytes = sizeOf(shape) * (dtype === 'F32' ? 4 : 2)
    if (data_offsets[1] - data_offsets[0] !== bytes)
      throw damaged(this.path, `tensor ${name} has ${data_offsets[1] - data_offsets[0]} bytes, its shape needs ${bytes}`)
    readFloats(this.#fd, dtype, this.header.dataOffset + data_offsets[0], target, this.path)
  }

  close(): void {
    closeSync(this.#fd)
  }
}

/** Writes tensors in the order given, whole or not at all. @throws {WorldlmError} DISK_FULL; what was at `path` is then untouched. */
export function writeTensorFile(
  path: string,
  tensors: NamedTensor[],
  encoding: Encoding,
  metadata: Record<string, string> = {},
  { durable = true }: { durable?: boolean } = {}
): void {
  const header: Record<string, unknown> = { __metadata__: metadata }
  let offset = 0
  for (const { name, shape, integers = false } of tensors) {
    const dtype = integers ? 'I32' : encoding === 'f32' ? 'F32' : 'BF16'
    const bytes = sizeOf(shape) * (dtype === 'BF16' ? 2 : 4)
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] }
    offset += bytes
  }
  writeWhole(
    path,
    fd => {
      writeFully(fd, frameHeader(header))
      for (const { floats } of tensors) {
        const numbers = floats()
        if (numbers instanceof Float32Array) writeFloats(fd, numbers, encoding)
        else writeFully(fd, new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength))
      }
    },
    durable
  )
}

/**
 * Temporary file, fsync, rename: whole or not at all.
 * @param durable - whether it must outlive the machine's next failure. @throws {WorldlmError} DISK_FULL
 */
export function writeWhole(path: string, write: (fd: number) => void, durable = true): void {
  const temporary = `${path}.tmp`
  try {
    const fd = openSync(temporary, 'w', 0o644)
    try {
      write(fd)
      if (durable) fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(temporary, path)
  } catch (error) {
    if (!isDiskFull(error)) throw error
    rmSync(temporary, { force: true })
    throw new WorldlmError(
      'DISK_FULL',
      `the disk is full: ${path} could not be written`,
      'Free some space and start the node again; nothing was lost.',
      { cause: error }
    )
  }
}

export function writeFloats(fd: number, floats: Float32Array, encoding: Encoding): void {
  if (encoding === 'f32') writeFully(fd, new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength))
  else
    for (let from = 0; from < floats.length; from += chunkFloats)
      writeFully(fd, new Uint8Array(toBf16(floats.subarray(from, from + chunkFloats)).buffer))
}

export function writeFully(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done)
}
