/**
 * A simulated disk: what was synced survives a crash, what was not is lost or torn; it can be full.
 *
 *   write      temporary file, fsync, rename: durable when it returns, whole or not there (node/files.ts)
 *   append     one record and fsync (certified.car, records.jsonl); a crash in it leaves a torn end, which is cut off at the start
 *   writeLater a model file that nobody waits for: after a crash it is the old one, the new one, or torn
 */
import { WorldlmError } from '../errors.ts'
import type { Random } from '../math/random.ts'

interface File {
  durable: unknown
  /** Written and not synced; `undefined`: nothing. */
  unsynced: unknown
}

/** What a reader finds where a crash tore a file. */
export const torn = Symbol('torn')

export interface DiskCopy {
  readonly files: readonly (readonly [string, unknown])[]
  readonly logs: readonly (readonly [string, unknown[]])[]
}

export class Disk {
  full = false
  readonly #files = new Map<string, File>()
  readonly #logs = new Map<string, unknown[]>()
  readonly #unsynced = new Set<string>()

  /** @throws {WorldlmError} DISK_FULL; the old content is then untouched. */
  write(path: string, content: unknown): void {
    this.#room(path)
    this.#files.set(path, { durable: content, unsynced: undefined })
    this.#unsynced.delete(path)
  }

  /** @throws {WorldlmError} DISK_FULL */
  append(path: string, record: unknown): void {
    this.#room(path)
    const log = this.#logs.get(path)
    if (log === undefined) this.#logs.set(path, [record])
    else log.push(record)
  }

  /** @throws {WorldlmError} DISK_FULL */
  writeLater(path: string, content: unknown): void {
    this.#room(path)
    const file = this.#files.get(path)
    this.#files.set(path, { durable: file?.durable, unsynced: content })
    this.#unsynced.add(path)
  }

  read<Content>(path: string): Content | undefined {
    const file = this.#files.get(path)
    return (file?.unsynced ?? file?.durable) as Content | undefined
  }

  log<Entry>(path: string): readonly Entry[] {
    return (this.#logs.get(path) ?? []) as Entry[]
  }

  remove(path: string): void {
    this.#files.delete(path)
    this.#unsynced.delete(path)
  }

  /** All that would be read now, as a backup or a snapshot takes it. */
  copy(): DiskCopy {
    const files = [...this.#files].map(([path, { durable, unsynced }]) => [path, unsynced ?? durable] as const)
    return { files, logs: [...this.#logs].map(([path, records]) => [path, [...records]] as const) }
  }

  restore({ files, logs }: DiskCopy): void {
    this.wipe()
    for (const [path, durable] of files) this.#files.set(path, { durable, unsynced: undefined })
    for (const [path, records] of logs) this.#logs.set(path, [...records])
  }

  wipe(): void {
    this.#files.clear()
    this.#logs.clear()
    this.#unsynced.clear()
  }

  /** The machine loses its power: each file that was not synced is as before, as written, or torn. */
  crash(random: Random): void {
    for (const path of this.#unsynced) {
      const file = this.#files.get(path)!
      const kept = [file.durable, file.unsynced, torn][random.below(3)]
      if (kept === undefined) this.#files.delete(path)
      else this.#files.set(path, { durable: kept, unsynced: undefined })
    }
    this.#unsynced.clear()
  }

  #room(path: string): void {
    if (this.full) throw new WorldlmError('DISK_FULL', `the disk is full: ${path}`, 'Free some space and start the node again.')
  }
}
