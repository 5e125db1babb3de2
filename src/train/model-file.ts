/**
 * Model files: canonical safetensors (model/checkpoint.ts), read into and written from flat arrays without a second copy.
 */
import { closeSync, fsyncSync, fstatSync, openSync, readSync, renameSync, writeSync } from 'node:fs'
import { WorldlmError } from '../errors.ts'
import {
  checkAgainst,
  decodeHeader,
  type Encoding,
  encodeHeader,
  fromBf16,
  type Header,
  headerBytes,
  toBf16
} from '../model/checkpoint.ts'
import type { Layout } from '../model/layout.ts'

/** Floats converted at a time between bf16 and f32. */
const chunkFloats = 1 << 18

/** Reads a model into `targets`, one for each section. @throws {WorldlmError} MODEL_DAMAGED, MODEL_MISSING @returns the header's metadata. */
export function readModelFile(
  path: string,
  layout: Layout,
  targets: Float32Array[],
  sections: string[] = ['']
): Record<string, string> {
  const fd = openModel(path)
  try {
    const header = readHeader(fd, path)
    const encoding = checkAgainst(layout, header, path, sections)
    let offset = header.dataOffset
    for (const target of targets) {
      offset = encoding === 'f32' ? readF32(fd, offset, target, path) : readBf16(fd, offset, target, path)
    }
    return header.metadata
  } finally {
    closeSync(fd)
  }
}

function openModel(path: string): number {
  try {
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

function readHeader(fd: number, path: string): Header {
  const fileBytes = fstatSync(fd).size
  const start = new Uint8Array(8)
  const got = readSync(fd, start, 0, 8, 0)
  const head = new Uint8Array(Math.min(headerBytes(start.subarray(0, got), path), fileBytes))
  readFully(fd, head, 0, path)
  return decodeHeader(head, fileBytes, path)
}

function readFully(fd: number, bytes: Uint8Array, position: number, path: string): void {
  for (let done = 0; done < bytes.length; ) {
    const got = readSync(fd, bytes, done, bytes.length - done, position + done)
    if (got === 0)
      throw new WorldlmError(
        'MODEL_DAMAGED',
        `${path} is not a whole model: it ends too early`,
        'Fetch or export it again; the last good one is kept.'
      )
    done += got
  }
}

function readF32(fd: number, offset: number, target: Float32Array, path: string): number {
  const bytes = new Uint8Array(target.buffer, target.byteOffset, target.byteLength)
  readFully(fd, bytes, offset, path)
  return offset + bytes.length
}

function readBf16(fd: number, offset: number, target: Float32Array, path: string): number {
  const halves = new Uint16Array(Math.min(chunkFloats, target.length))
  for (let from = 0; from < target.length; from += halves.length) {
    const count = Math.min(halves.length, target.length - from)
    readFully(fd, new Uint8Array(halves.buffer, 0, count * 2), offset, path)
    fromBf16(halves.subarray(0, count), target.subarray(from, from + count))
    offset += count * 2
  }
  return offset
}

/** Writes a model whole or not at all. @throws {WorldlmError} DISK_FULL; what was at `path` is then untouched. */
export function writeModelFile(
  path: string,
  layout: Layout,
  sources: Float32Array[],
  {
    encoding = 'f32',
    metadata = {},
    sections = ['']
  }: { encoding?: Encoding; metadata?: Record<string, string>; sections?: string[] } = {}
): void {
  const temporary = `${path}.tmp`
  try {
    const fd = openSync(temporary, 'w', 0o644)
    try {
      writeFully(fd, encodeHeader(layout, encoding, metadata, sections))
      for (const source of sources) {
        if (encoding === 'f32') writeFully(fd, new Uint8Array(source.buffer, source.byteOffset, source.byteLength))
        else
          for (let from = 0; from < source.length; from += chunkFloats)
            writeFully(fd, new Uint8Array(toBf16(source.subarray(from, from + chunkFloats)).buffer))
      }
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(temporary, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    throw new WorldlmError(
      'DISK_FULL',
      `the disk is full: ${path} could not be written`,
      'Free some space and start the node again; nothing was lost.',
      { cause: error }
    )
  }
}

function writeFully(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done)
}
