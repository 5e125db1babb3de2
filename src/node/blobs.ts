/**
 * Blobs on disk: `blobs/<link>` with `blobs/<link>.index`, and `blobs/<link>.part` while it is being pulled.
 *
 * A blob is there whole or not at all: temporary file, fsync, rename. A partial one is resumed by checking which of its chunks
 * have their hash already, so nothing but the file itself has to be remembered. What has arrived of it can be read meanwhile.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { type FileHandle, open, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WorldlmError, isDiskFull } from '../errors.ts'
import type { Link } from '../ids.ts'
import type { ChunkReader } from '../net/blob-store.ts'
import { type BlobIndex, blobIndexCodec, chunkBytesOf } from '../wire/blob-index.ts'
import { bitmapOf } from '../wire/bitmap.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { limits } from '../wire/limits.ts'

/** Longer than a pull rests before it is begun again, or a round takes from making a blob to naming it. */
const freshMs = 60_000
const openFilesMax = 32
/** Written before the disk is told to begin. */
const syncBytes = 32 * 1024 * 1024

export class Blobs {
  readonly #folder: string
  readonly #indices = new Map<Link, BlobIndex>()
  readonly #arriving = new Map<Link, Partial>()
  /** Files that were read from a moment ago. */
  readonly #open = new Map<Link, Promise<FileHandle>>()

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Opens the folder and checks every blob in it. @returns also the names of those that were damaged, which are removed. */
  static async open(folder: string): Promise<{ blobs: Blobs; damaged: string[] }> {
    mkdirSync(folder, { recursive: true })
    const blobs = new Blobs(folder)
    const damaged: string[] = []
    for (const name of readdirSync(folder).sort()) {
      if (name.endsWith('.tmp')) rmSync(join(folder, name))
      if (name.includes('.')) continue
      if (!(await blobs.#isWhole(name))) {
        damaged.push(name)
        blobs.remove(name)
      }
    }
    return { blobs, damaged }
  }

  path(link: Link): string {
    return join(this.#folder, link)
  }

  has(link: Link): boolean {
    return existsSync(this.path(link)) && existsSync(`${this.path(link)}.index`)
  }

  bytes(link: Link): number {
    return statSync(this.path(link)).size
  }

  index(link: Link): BlobIndex | null {
    const known = this.#indices.get(link)
    if (known !== undefined) return known
    const path = `${this.path(link)}.index`
    if (!existsSync(path)) return null
    const bytes = readFileSync(path)
    const index = blobIndexCodec.decode(bytes)
    if (isMalformed(index) || linkOf(bytes) !== link) return null
    this.#indices.set(link, index)
    return index
  }

  /** Of a blob that is whole here or arriving; else null. */
  indexBytes(link: Link): Uint8Array | null {
    const index = this.#indexToServe(link)
    return index === null ? null : blobIndexCodec.encode(index)
  }

  chunkCount(link: Link): number | null {
    return this.#indexToServe(link)?.chunks.length ?? null
  }

  #indexToServe(link: Link): BlobIndex | null {
    return this.#arriving.get(link)?.index ?? (this.has(link) ? this.index(link) : null)
  }

  /** Which chunks of a blob are here, while it is arriving (wire/bitmap.ts). @returns null if it is whole. */
  held(link: Link): Uint8Array | null {
    const partial = this.#arriving.get(link)
    if (partial === undefined) return null
    const count = partial.index.chunks.length
    return bitmapOf(
      Array.from({ length: count }, (_, chunk) => chunk).filter(chunk => !partial.missing.has(chunk)),
      count
    )
  }

  /** Takes a finished file over: it is moved into the store under the name of its content. */
  async put(path: string): Promise<{ link: Link; bytes: number }> {
    const file = await open(path, 'r+')
    try {
      const index = await indexOf(file)
      const bytes = blobIndexCodec.encode(index)
      const link = linkOf(bytes)
      await this.#writeIndex(link, bytes)
      await this.#settle(link, path, file)
      this.#indices.set(link, index)
      return { link, bytes: index.length }
    } catch (error) {
      throw diskError(error, this.#folder)
    } finally {
      await file.close()
    }
  }

  /** sha256 of a whole blob's bytes, in hex; the event loop goes on after each chunk. */
  async digest(link: Link): Promise<string> {
    const file = await open(this.path(link), 'r')
    try {
      const hash = createHash('sha256')
      for await (const chunk of chunksOf(file, this.bytes(link))) hash.update(chunk)
      return hash.digest('hex')
    } finally {
      await file.close()
    }
  }

  /** One chunk that is here, to be read in slices. */
  chunk(link: Link, chunk: number): ChunkReader | 'notHeld' | 'badRange' {
    const index = this.#indexToServe(link)
    if (index === null) return 'notHeld'
    if (chunk >= index.chunks.length) return 'badRange'
    if (this.#arriving.get(link)?.missing.has(chunk) === true) return 'notHeld'
    const begin = chunk * index.chunkBytes
    return { bytes: chunkBytesOf(index, chunk), read: (offset, into) => this.#read(link, begin + offset, into) }
  }

  async #read(link: Link, position: number, into: Uint8Array): Promise<Uint8Array> {
    const file = this.#arriving.get(link)?.file ?? (await this.#opened(link))
    const { bytesRead } = await file.read(into, 0, into.length, position)
    if (bytesRead !== into.length) throw new Error(`blob ${link} ends before byte ${position + into.length}`)
    return into
  }

  #opened(link: Link): Promise<FileHandle> {
    const known = this.#open.get(link)
    if (known !== undefined) return known
    const opening = open(this.path(link), 'r')
    opening.catch(() => this.#open.delete(link))
    this.#open.set(link, opening)
    const oldest = this.#open.keys().next()
    if (this.#open.size > openFilesMax && oldest.done !== true) this.#closeFile(oldest.value)
    return opening
  }

  #closeFile(link: Link): void {
    const opened = this.#open.get(link)
    this.#open.delete(link)
    opened?.then(file => file.close()).catch(() => undefined)
  }

  /** Closes what was read from; for the end of a process, or of a test. */
  async close(): Promise<void> {
    const files = [...this.#open.values()]
    this.#open.clear()
    for (const opened of await Promise.allSettled(files)) if (opened.status === 'fulfilled') await opened.value.close()
  }

  /** Begins or resumes a blob. @returns null if `indexBytes` is not the index that `link` names. */
  async begin(link: Link, indexBytes: Uint8Array): Promise<Partial | null> {
    const index = blobIndexCodec.decode(indexBytes)
    if (isMalformed(index) || linkOf(indexBytes) !== link) return null
    if (index.chunks.length !== Math.ceil(index.length / index.chunkBytes)) return null
    try {
      await this.#writeIndex(link, indexBytes)
      const part = `${this.path(link)}.part`
      const resumed = existsSync(part)
      const file = await open(part, resumed ? 'r+' : 'w+')
      try {
        await file.truncate(index.length)
        const missing = new Set(index.chunks.keys())
        if (resumed) for (const chunk of await wholeChunks(file, index)) missing.delete(chunk)
        const partial = new Partial(this, link, index, file, missing)
        this.#arriving.set(link, partial)
        return partial
      } catch (error) {
        await file.close()
        throw error
      }
    } catch (error) {
      throw diskError(error, this.#folder)
    }
  }

  /** For `Partial`: the file is complete, or left as it is. */
  async settle(link: Link, file: FileHandle, isWhole: boolean): Promise<void> {
    if (isWhole) await this.#settle(link, `${this.path(link)}.part`, file)
    this.#arriving.delete(link)
  }

  /** Not on disk for good before the blob is, nor whole at once: who resumes a blob is given its index again. */
  async #writeIndex(link: Link, bytes: Uint8Array): Promise<void> {
    if (this.index(link) === null) await writeFile(`${this.path(link)}.index`, bytes)
  }

  /** Both files, then their names. The disk is waited for twice in all, and the event loop does not stand still meanwhile. */
  async #settle(link: Link, path: string, file: FileHandle): Promise<void> {
    const index = await open(`${this.path(link)}.index`, 'r+')
    try {
      await Promise.all([file.sync(), index.sync()])
    } finally {
      await index.close()
    }
    await rename(path, this.path(link))
    const folder = await open(this.#folder, 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  }

  remove(link: Link): void {
    for (const path of [this.path(link), `${this.path(link)}.index`, `${this.path(link)}.part`]) rmSync(path, { force: true })
    this.#indices.delete(link)
    this.#closeFile(link)
  }

  /** Removes every blob, whole or partial, that is not in `links`, is not arriving, and was not written just now. @returns how many. */
  keep(links: ReadonlySet<Link>): number {
    const names = new Set(readdirSync(this.#folder).map(name => name.replace(/\.(index|part|tmp)$/, '')))
    const gone = [...names].filter(name => !links.has(name) && !this.#arriving.has(name) && !this.#isFresh(name))
    for (const name of gone) this.remove(name)
    return gone.length
  }

  /** A blob that is about to be pulled (its index is there first), or was made a moment ago and is about to be announced. */
  #isFresh(link: Link): boolean {
    const youngest = Math.max(
      0,
      ...['', '.part', '.index'].map(suffix => statSync(this.path(link) + suffix, { throwIfNoEntry: false })?.mtimeMs ?? 0)
    )
    return Date.now() - youngest < freshMs
  }

  async #isWhole(link: Link): Promise<boolean> {
    const index = this.index(link)
    if (index === null || statSync(this.path(link)).size !== index.length) return false
    const file = await open(this.path(link), 'r')
    try {
      return (await wholeChunks(file, index)).length === index.chunks.length
    } finally {
      await file.close()
    }
  }
}

/** A blob that is being pulled; chunks may come in any order. */
export class Partial {
  readonly index: BlobIndex
  readonly missing: Set<number>
  /** Readable too: what is here is passed on before the rest has come. */
  readonly file: FileHandle
  readonly #store: Blobs
  readonly #link: Link
  #unsyncedBytes = 0
  #syncing: Promise<void> | null = null

  constructor(store: Blobs, link: Link, index: BlobIndex, file: FileHandle, missing: Set<number>) {
    this.#store = store
    this.#link = link
    this.index = index
    this.file = file
    this.missing = missing
  }

  /** @param bytes - a chunk whose hash was found right. @throws {WorldlmError} DISK_FULL */
  async write(chunk: number, bytes: Uint8Array): Promise<void> {
    try {
      await this.file.write(bytes, 0, bytes.length, chunk * this.index.chunkBytes)
    } catch (error) {
      throw diskError(error, 'the blobs’ folder')
    }
    this.missing.delete(chunk)
    this.#unsyncedBytes += bytes.length
    if (this.#unsyncedBytes >= syncBytes) this.#syncAhead()
  }

  /** The disk writes while the network receives, so that the last sync has little left to wait for. */
  #syncAhead(): void {
    if (this.#syncing !== null) return
    this.#unsyncedBytes = 0
    // What fails here fails again in `finish`.
    this.#syncing = this.file
      .datasync()
      .catch(() => undefined)
      .finally(() => {
        this.#syncing = null
      })
  }

  async finish(): Promise<void> {
    await this.#syncing
    await this.#store.settle(this.#link, this.file, true)
    await this.file.close()
  }

  /** Leaves the file as it is, to be resumed. */
  async leave(): Promise<void> {
    await this.#syncing
    await this.#store.settle(this.#link, this.file, false)
    await this.file.close()
  }
}

async function* chunksOf(file: FileHandle, length: number): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(limits.blobChunkBytes)
  for (let offset = 0; offset < length; offset += buffer.length) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - offset), offset)
    yield buffer.subarray(0, bytesRead)
  }
}

async function indexOf(file: FileHandle): Promise<BlobIndex> {
  const { size } = await file.stat()
  const chunks: Uint8Array[] = []
  for await (const chunk of chunksOf(file, size)) chunks.push(new Uint8Array(createHash('sha256').update(chunk).digest()))
  return { length: size, chunkBytes: limits.blobChunkBytes, chunks }
}

async function wholeChunks(file: FileHandle, index: BlobIndex): Promise<number[]> {
  const whole: number[] = []
  let place = 0
  for await (const chunk of chunksOf(file, index.length)) {
    if (
      createHash('sha256')
        .update(chunk)
        .digest()
        .equals(index.chunks[place] ?? new Uint8Array())
    )
      whole.push(place)
    place++
  }
  return whole
}

function diskError(error: unknown, where: string): unknown {
  if (!isDiskFull(error)) return error
  return new WorldlmError(
    'DISK_FULL',
    `the disk is full: a blob could not be written in ${where}`,
    'Free some space; what is already here is kept and the transfer resumes.',
    {
      cause: error
    }
  )
}
