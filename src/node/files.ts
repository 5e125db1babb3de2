/** Files that are whole or not there (temporary name, fsync, rename, fsync of the folder), and files that grow by what is whole. */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, renameSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { WorldlmError, isDiskFull } from '../errors.ts'

/** @throws {WorldlmError} DISK_FULL, naming the file; the old content is then untouched. */
export function writeFileDurably(path: string, content: Uint8Array | string, mode = 0o644): void {
  const temporary = `${path}.tmp`
  try {
    const fd = openSync(temporary, 'w', mode)
    try {
      const bytes = typeof content === 'string' ? Buffer.from(content) : content
      writeAll(fd, bytes)
    } finally {
      closeSync(fd)
    }
    renameDurably(temporary, path)
  } catch (error) {
    if (!isDiskFull(error)) throw error
    throw new WorldlmError(
      'DISK_FULL',
      `the disk is full: ${path} could not be written`,
      'Free some space and start the node again; nothing was lost.',
      { cause: error }
    )
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; ) offset += writeSync(fd, bytes, offset)
  fsyncSync(fd)
}

/** A file that grows, each piece on disk when `append` returns. */
export class GrowingFile {
  readonly #path: string
  readonly #fd: number
  /** Why nothing is written any more: behind a torn end it could not be read. */
  #torn: unknown = null

  /** Opens or creates. @param wholeOf - how many of its bytes are whole: a torn end is cut off. */
  constructor(path: string, wholeOf: (size: number) => number) {
    this.#path = path
    this.#fd = openSync(path, 'a', 0o644)
    const { size } = fstatSync(this.#fd)
    const whole = wholeOf(size)
    if (whole < size) ftruncateSync(this.#fd, whole)
  }

  /** @throws {WorldlmError} DISK_FULL; then, and whatever else went wrong, the same each time. */
  append(bytes: Uint8Array): void {
    if (this.#torn !== null) throw this.#torn
    try {
      writeAll(this.#fd, bytes)
    } catch (error) {
      const hint = 'Free some space and start the node again; the torn end is cut off.'
      this.#torn = isDiskFull(error)
        ? new WorldlmError('DISK_FULL', `the disk is full: ${this.#path} could not grow`, hint, { cause: error })
        : error
      throw this.#torn
    }
  }

  close(): void {
    closeSync(this.#fd)
  }
}

/** What `path` held is gone; a file of one folder, which is on disk already. */
export function renameDurably(from: string, path: string): void {
  renameSync(from, path)
  syncFolder(dirname(path))
}

/** So that a rename in it outlives the machine's next failure. */
export function syncFolder(path: string): void {
  const folder = openSync(path, 'r')
  fsyncSync(folder)
  closeSync(folder)
}
