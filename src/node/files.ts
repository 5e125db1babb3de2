/** Files that are whole or not there: temporary name, fsync, rename, fsync of the folder. */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { WorldlmError, isDiskFull } from '../errors.ts'

/** @throws {WorldlmError} DISK_FULL, naming the file; the old content is then untouched. */
export function writeFileDurably(path: string, content: Uint8Array | string): void {
  const temporary = `${path}.tmp`
  try {
    const fd = openSync(temporary, 'w', 0o644)
    try {
      const bytes = typeof content === 'string' ? Buffer.from(content) : content
      for (let offset = 0; offset < bytes.length; ) offset += writeSync(fd, bytes, offset)
      fsyncSync(fd)
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
