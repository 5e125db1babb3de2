/**
 * A run of bytes that may be larger than memory: it is kept in memory up to a limit, and beyond that in a temporary file without a name,
 * which is gone when nobody reads it any more, or the process ends, however it ends.
 *
 * Is not: a cache. Nothing is found again by the next process.
 */
import { randomUUID } from 'node:crypto'
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WorldlmError } from '../errors.ts'

/** A text of this size is still kept in memory. */
export const memoryBytesDefault = 256 * 1024 * 1024

/** What a `Uint8Array` offers too. */
export interface Bytes {
  readonly length: number
  /** @returns a part of it, cut at its ends; of a file, a copy. */
  subarray(from: number, to: number): Uint8Array
}

const blockBytes = 1 << 20

/** All of it, a piece of at most 1 MiB after the other. */
export function* blocksOf(bytes: Bytes): Generator<Uint8Array> {
  for (let from = 0; from < bytes.length; from += blockBytes) yield bytes.subarray(from, from + blockBytes)
}

/** A part of it, without reading it. */
export const viewOf = (bytes: Bytes, from: number, to: number): Bytes =>
  bytes instanceof FileBytes ? bytes.view(from, to) : bytes.subarray(from, to)

/** Grows by what is added. */
export class Spool {
  readonly #memoryBytesMax: number
  #memory: Uint8Array
  /** In `#memory`: all, or what is not written yet. */
  #length = 0
  #file: TemporaryFile | null = null
  #written = 0

  /** @param expectedBytes - what will be added in all, if something is known of it. */
  constructor(memoryBytesMax: number, expectedBytes = 0) {
    this.#memoryBytesMax = memoryBytesMax
    this.#memory = new Uint8Array(Math.min(memoryBytesMax, Math.max(expectedBytes, 1 << 16)))
  }

  /** @throws {WorldlmError} DATA_NO_SPACE */
  add(bytes: Uint8Array): void {
    const needed = this.#length + bytes.length
    if (this.#file === null && needed > this.#memoryBytesMax) {
      this.#file = new TemporaryFile()
      this.#flush(blockBytes)
    }
    if (this.#file !== null) {
      if (this.#length + bytes.length > this.#memory.length) this.#flush(blockBytes)
      if (bytes.length > this.#memory.length) {
        this.#file.write(bytes, this.#written)
        this.#written += bytes.length
        return
      }
    } else if (needed > this.#memory.length) {
      const larger = new Uint8Array(Math.min(this.#memoryBytesMax, Math.max(needed, this.#memory.length * 2)))
      larger.set(this.#memory.subarray(0, this.#length))
      this.#memory = larger
    }
    this.#memory.set(bytes, this.#length)
    this.#length += bytes.length
  }

  /** Nothing is added afterwards. @throws {WorldlmError} DATA_NO_SPACE */
  whole(): Bytes {
    if (this.#file === null) return this.#memory.subarray(0, this.#length)
    this.#flush(0)
    return new FileBytes(this.#file, 0, this.#written)
  }

  #flush(nextBytes: number): void {
    this.#file!.write(this.#memory.subarray(0, this.#length), this.#written)
    this.#written += this.#length
    this.#length = 0
    if (this.#memory.length !== nextBytes) this.#memory = new Uint8Array(nextBytes)
  }
}

class FileBytes implements Bytes {
  readonly #file: TemporaryFile
  readonly #from: number
  readonly length: number

  constructor(file: TemporaryFile, from: number, length: number) {
    this.#file = file
    this.#from = from
    this.length = length
  }

  subarray(from: number, to: number): Uint8Array {
    const end = Math.min(to, this.length)
    return this.#file.read(this.#from + from, Math.max(0, end - from))
  }

  view(from: number, to: number): FileBytes {
    const end = Math.min(to, this.length)
    return new FileBytes(this.#file, this.#from + from, Math.max(0, end - from))
  }
}

const closing = new FinalizationRegistry<number>(descriptor => closeSync(descriptor))

class TemporaryFile {
  readonly #descriptor: number

  constructor() {
    const path = join(tmpdir(), `worldlm-text-${randomUUID()}`)
    this.#descriptor = withRoom(() => openSync(path, 'wx+', 0o600))
    unlinkSync(path)
    closing.register(this, this.#descriptor)
  }

  write(bytes: Uint8Array, position: number): void {
    withRoom(() => {
      for (let done = 0; done < bytes.length; )
        done += writeSync(this.#descriptor, bytes, done, bytes.length - done, position + done)
    })
  }

  read(position: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let done = 0; done < length; ) {
      const read = readSync(this.#descriptor, bytes, done, length - done, position + done)
      if (read === 0) throw new RangeError(`a temporary file ends at byte ${position + done}`)
      done += read
    }
    return bytes
  }
}

function withRoom<Result>(work: () => Result): Result {
  try {
    return work()
  } catch (cause) {
    throw new WorldlmError(
      'DATA_NO_SPACE',
      `a text that is larger than memory cannot be laid down in ${tmpdir()}: ${(cause as Error).message}`,
      'Make room there, or name another folder: TMPDIR=/a/large/disk.',
      { cause }
    )
  }
}
