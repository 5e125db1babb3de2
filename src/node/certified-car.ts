/**
 * `certified.car`: the certified log of every federation that this node follows, as a CAR archive of dag-cbor blocks
 * (CARv1, https://ipld.io/specs/transport/car/carv1/).
 *
 *   header { version 1, roots: [] } · charter · signed update · entry · certificate · …      appended and fsynced, never rewritten
 *
 * Roots are left empty: federations are added while the archive grows, and CARv1 fixes its header at the beginning. A torn tail
 * (the process died while it wrote) is cut off at opening; a damaged block in the middle is an error that names it.
 */
import { closeSync, existsSync, fsyncSync, openSync, statSync, writeSync } from 'node:fs'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import { WorldlmError } from '../errors.ts'
import type { Entry } from '../federation/entry.ts'
import type { FederationId, Link } from '../ids.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { type CertifiedBytes, signedCodec } from '../wire/messages.ts'
import { certificateCodec, charterCodec, entryCodec } from '../wire/records.ts'
import { limits } from '../wire/limits.ts'
import { Breath } from './breath.ts'
import { BlockFile, EntryLog, type Place, StoredUpdates } from './entry-log.ts'
import { GrowingFile } from './files.ts'

/** A block larger than any record is no block of ours. */
const blockBytesMax = 8 * 1024 * 1024

/** Charters are in memory, the rest is read when it is asked for, until `file` is closed. */
export interface CertifiedArchive {
  file: BlockFile
  charters: Map<FederationId, Uint8Array>
  logs: Map<FederationId, EntryLog>
  updates: StoredUpdates
  /** Bytes cut off the end. */
  tornBytes: number
}

/** Of a block's length. */
const varintBytesMax = 5

function varint(value: number): Uint8Array {
  const bytes: number[] = []
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value & 0x7f) | 0x80)
  return Uint8Array.from([...bytes, value])
}

function readVarint(bytes: Uint8Array, offset: number): { value: number; end: number } | null {
  let value = 0
  for (let place = 0; place < varintBytesMax; place++) {
    const byte = bytes[offset + place]
    if (byte === undefined) return null
    value += (byte & 0x7f) * 0x80 ** place
    if (byte < 0x80) return { value, end: offset + place + 1 }
  }
  return { value: Number.MAX_SAFE_INTEGER, end: offset }
}

const header = (() => {
  const body = dagCbor.encode({ version: 1, roots: [] })
  return Buffer.concat([varint(body.length), body])
})()

const cidBytes = 36

function frame(block: Uint8Array): Uint8Array {
  const cid = CID.parse(linkOf(block)).bytes
  return Buffer.concat([varint(cid.length + block.length), cid, block])
}

/** Reads an archive, whole blocks at a time. @throws {WorldlmError} CAR_DAMAGED, naming the offset and the block. */
export async function readCertifiedCar(path: string): Promise<CertifiedArchive & { bytes: number }> {
  const file = new BlockFile(path)
  const archive: CertifiedArchive = {
    file,
    charters: new Map(),
    logs: new Map(),
    updates: new StoredUpdates(file),
    tornBytes: 0
  }
  const entries = new Map<Link, { entry: Entry; place: Place }>()
  const breath = new Breath()
  let offset = header.length
  try {
    for (const block of blocks(path, file)) {
      await breath.take()
      if ('tornAt' in block) {
        offset = block.tornAt
        archive.tornBytes = statSync(path).size - offset
        break
      }
      offset = block.end
      sort(archive, entries, block)
    }
  } catch (error) {
    file.close()
    throw error
  }
  return { ...archive, bytes: offset }
}

/** The charters of an archive; none if there is no archive that can be read. */
export async function readCharters(path: string): Promise<Map<FederationId, Uint8Array>> {
  try {
    const { file, charters } = await readCertifiedCar(path)
    file.close()
    return charters
  } catch {
    return new Map()
  }
}

interface Block {
  bytes: Uint8Array
  link: Link
  /** Of the file, behind it. */
  end: number
}

/** Puts a block where it belongs, by its shape. Unknown blocks are left alone: a newer version may have written them. */
function sort(
  { file, charters, logs, updates }: CertifiedArchive,
  entries: Map<Link, { entry: Entry; place: Place }>,
  { bytes, link, end }: Block
): void {
  const value = dagCbor.decode<Record<string, unknown>>(bytes)
  const place = { offset: end - bytes.length, length: bytes.length }
  if ('schema' in value && !isMalformed(charterCodec.decode(bytes))) charters.set(link, bytes)
  else if ('signatures' in value) {
    const certificate = certificateCodec.decode(bytes)
    const certified = isMalformed(certificate) ? undefined : entries.get(certificate.entry)
    if (isMalformed(certificate) || certified === undefined) return
    const log = logs.get(certificate.federation) ?? new EntryLog(file)
    log.put(certified.entry, { entry: certified.place, certificate: place })
    logs.set(certificate.federation, log)
    entries.delete(certificate.entry)
  } else if ('kind' in value) {
    const entry = entryCodec.decode(bytes)
    if (!isMalformed(entry)) entries.set(link, { entry, place })
  } else if ('record' in value) {
    const signed = signedCodec.decode(bytes)
    if (!isMalformed(signed)) updates.put(linkOf(signed.record), place)
  }
}

/** At most so much is read at once, unless a block is larger. */
const windowBytes = 1024 * 1024

function* blocks(path: string, file: BlockFile): Generator<Block | { tornAt: number }> {
  const size = statSync(path).size
  if (size < header.length) {
    yield { tornAt: 0 }
    return
  }
  if (Buffer.compare(file.read({ offset: 0, length: header.length }), header) !== 0)
    throw damaged(path, 0, 'it does not begin as an archive of ours')
  let window: Uint8Array = new Uint8Array()
  for (let [offset, start] = [header.length, header.length]; offset < size; ) {
    const seen = window.subarray(offset - start)
    const length = readVarint(seen, 0)
    if (length !== null && length.value > blockBytesMax) throw damaged(path, offset, 'a length that no block has')
    const needed = length === null ? varintBytesMax : length.end + length.value
    if (length === null || seen.length < needed) {
      if (start + window.length === size && offset >= start) {
        yield { tornAt: offset }
        return
      }
      start = offset
      window = file.read({ offset, length: Math.min(size - offset, Math.max(windowBytes, needed)) })
      continue
    }
    offset += needed
    yield { ...checked(path, offset - length.value, seen.subarray(length.end, needed)), end: offset }
  }
}

function checked(path: string, offset: number, body: Uint8Array): { bytes: Uint8Array; link: Link } {
  const bytes = new Uint8Array(body.subarray(cidBytes))
  const link = linkOf(bytes)
  if (Buffer.compare(CID.parse(link).bytes, body.subarray(0, cidBytes)) !== 0)
    throw damaged(path, offset, 'a block does not have the bytes that its link names')
  return { bytes, link }
}

const damaged = (path: string, offset: number, what: string): WorldlmError =>
  new WorldlmError(
    'CAR_DAMAGED',
    `${path} is damaged at byte ${offset}: ${what}`,
    'Move the file away and start the node again: it fetches the certified log from the other members.'
  )

/** The archive of a running node. */
export class CertifiedCar {
  readonly #growing: GrowingFile
  readonly #file: BlockFile
  /** Of the file, so far. */
  #bytes: number
  /** Charters, and updates that no entry counts yet: each is written once. */
  readonly #written: Set<Link>

  private constructor(growing: GrowingFile, file: BlockFile, bytes: number, written: Iterable<Link>) {
    this.#growing = growing
    this.#file = file
    this.#bytes = bytes
    this.#written = new Set(written)
  }

  /** Opens or creates; cuts a torn tail off. What the archive has can be read until the car is closed. @throws {WorldlmError} CAR_DAMAGED */
  static async open(path: string): Promise<{ car: CertifiedCar; archive: CertifiedArchive }> {
    if (!existsSync(path) || statSync(path).size < header.length) {
      const fd = openSync(path, 'w')
      writeSync(fd, header)
      fsyncSync(fd)
      closeSync(fd)
    }
    const { bytes, ...archive } = await readCertifiedCar(path)
    const { file, charters, updates } = archive
    const growing = new GrowingFile(path, () => bytes)
    const written = [...charters.keys(), ...updates.links().slice(-limits.updatesKeptMax)]
    return { car: new CertifiedCar(growing, file, bytes, written), archive }
  }

  /** A log that begins here, for `addEntry` to continue. */
  newLog(): EntryLog {
    return new EntryLog(this.#file)
  }

  addCharter(bytes: Uint8Array): void {
    this.#append([{ link: linkOf(bytes), bytes }])
  }

  /** Signed updates that an entry which is not certified yet may come to count, on disk when this returns. */
  addUpdates(updates: { link: Link; bytes: Uint8Array }[]): void {
    this.#append(updates)
  }

  /** An entry, its certificate, and the signed updates that it counts, on disk, and in `log`, when this returns. */
  addEntry(
    log: EntryLog,
    decoded: Entry,
    { entry, certificate }: CertifiedBytes,
    updates: { link: Link; bytes: Uint8Array }[]
  ): void {
    const places = this.#append([...updates, { link: null, bytes: entry }, { link: null, bytes: certificate }])
    log.put(decoded, { entry: places.at(-2)!, certificate: places.at(-1)! })
    // Nothing counts an update twice (I4), so nobody writes it again.
    for (const { link } of updates) this.#written.delete(link)
  }

  close(): void {
    this.#growing.close()
    this.#file.close()
  }

  /** @returns where those lie that were not written before. */
  #append(items: { link: Link | null; bytes: Uint8Array }[]): Place[] {
    const fresh = items.filter(({ link }) => link === null || !this.#written.has(link))
    if (fresh.length === 0) return []
    const frames = fresh.map(({ bytes }) => frame(bytes))
    this.#growing.append(Buffer.concat(frames))
    for (const { link } of fresh) if (link !== null) this.#written.add(link)
    return fresh.map(({ bytes }, place) => {
      this.#bytes += frames[place]!.length
      return { offset: this.#bytes - bytes.length, length: bytes.length }
    })
  }
}
