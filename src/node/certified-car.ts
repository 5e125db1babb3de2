/**
 * `certified.car`: the certified log of every federation that this node follows, as a CAR archive of dag-cbor blocks
 * (CARv1, https://ipld.io/specs/transport/car/carv1/).
 *
 *   header { version 1, roots: [] } · charter · signed update · entry · certificate · …      appended and fsynced, never rewritten
 *
 * Roots are left empty: federations are added while the archive grows, and CARv1 fixes its header at the beginning. A torn tail
 * (the process died while it wrote) is cut off at opening; a damaged block in the middle is an error that names it.
 */
import { closeSync, createReadStream, existsSync, fsyncSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import { WorldlmError, isDiskFull } from '../errors.ts'
import type { FederationId, Link } from '../ids.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { type CertifiedBytes, signedCodec } from '../wire/messages.ts'
import { certificateCodec, charterCodec, entryCodec } from '../wire/records.ts'

/** A block larger than any record is no block of ours. */
const blockBytesMax = 8 * 1024 * 1024

export interface CertifiedArchive {
  charters: Map<FederationId, Uint8Array>
  /** In order of index, from 1. */
  logs: Map<FederationId, CertifiedBytes[]>
  /** Signed update records by the link of the record. */
  updates: Map<Link, Uint8Array>
  /** Bytes cut off the end. */
  tornBytes: number
}

function varint(value: number): Uint8Array {
  const bytes: number[] = []
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value & 0x7f) | 0x80)
  return Uint8Array.from([...bytes, value])
}

function readVarint(bytes: Uint8Array, offset: number): { value: number; end: number } | null {
  let value = 0
  for (let place = 0; place < 5; place++) {
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
  const archive: CertifiedArchive = { charters: new Map(), logs: new Map(), updates: new Map(), tornBytes: 0 }
  const entries = new Map<Link, Uint8Array>()
  let offset = 0
  for await (const block of blocks(path)) {
    if ('tornAt' in block) {
      offset = block.tornAt
      archive.tornBytes = statSync(path).size - offset
      break
    }
    offset = block.end
    sort(archive, entries, block.bytes, block.link)
  }
  return { ...archive, bytes: offset }
}

/** Puts a block where it belongs, by its shape. Unknown blocks are left alone: a newer version may have written them. */
function sort(archive: CertifiedArchive, entries: Map<Link, Uint8Array>, bytes: Uint8Array, link: Link): void {
  const value = dagCbor.decode<Record<string, unknown>>(bytes)
  if ('schema' in value && !isMalformed(charterCodec.decode(bytes))) archive.charters.set(link, bytes)
  else if ('kind' in value && !isMalformed(entryCodec.decode(bytes))) entries.set(link, bytes)
  else if ('signatures' in value) {
    const certificate = certificateCodec.decode(bytes)
    if (isMalformed(certificate)) return
    const entry = entries.get(certificate.entry)
    if (entry === undefined) return
    const log = archive.logs.get(certificate.federation) ?? []
    log[certificate.index - 1] = { entry, certificate: bytes }
    archive.logs.set(certificate.federation, log)
    entries.delete(certificate.entry)
  } else if ('record' in value) {
    const signed = signedCodec.decode(bytes)
    if (!isMalformed(signed)) archive.updates.set(linkOf(signed.record), bytes)
  }
}

async function* blocks(path: string): AsyncGenerator<{ bytes: Uint8Array; link: Link; end: number } | { tornAt: number }> {
  let rest: Uint8Array = new Uint8Array()
  let offset = 0
  let inHeader = true
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    rest = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer])
    for (;;) {
      const length = readVarint(rest, 0)
      if (length === null) break
      if (length.value > blockBytesMax) throw damaged(path, offset, 'a length that no block has')
      if (rest.length < length.end + length.value) break
      const body = rest.subarray(length.end, length.end + length.value)
      offset += length.end + length.value
      rest = rest.subarray(length.end + length.value)
      if (inHeader) {
        if (Buffer.compare(body, header.subarray(1)) !== 0) throw damaged(path, 0, 'it does not begin as an archive of ours')
        inHeader = false
      } else yield { ...checked(path, offset - body.length, body), end: offset }
    }
  }
  if (rest.length > 0) yield { tornAt: offset }
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
  readonly #fd: number
  readonly #written = new Set<Link>()

  private constructor(fd: number, written: Iterable<Link>) {
    this.#fd = fd
    this.#written = new Set(written)
  }

  /** Opens or creates; cuts a torn tail off. @throws {WorldlmError} CAR_DAMAGED */
  static async open(path: string): Promise<{ car: CertifiedCar; archive: CertifiedArchive }> {
    if (!existsSync(path) || statSync(path).size < header.length) {
      const fd = openSync(path, 'w+')
      writeSync(fd, header)
      fsyncSync(fd)
      return {
        car: new CertifiedCar(fd, []),
        archive: { charters: new Map(), logs: new Map(), updates: new Map(), tornBytes: 0 }
      }
    }
    const { bytes, ...archive } = await readCertifiedCar(path)
    const fd = openSync(path, 'r+')
    if (archive.tornBytes > 0) ftruncateSync(fd, bytes)
    closeSync(fd)
    return { car: new CertifiedCar(openSync(path, 'a'), [...archive.charters.keys(), ...archive.updates.keys()]), archive }
  }

  addCharter(bytes: Uint8Array): void {
    this.#append([{ link: linkOf(bytes), bytes }])
  }

  /** Signed updates that an entry which is not certified yet may come to count, on disk when this returns. */
  addUpdates(updates: { link: Link; bytes: Uint8Array }[]): void {
    this.#append(updates)
  }

  /** An entry, its certificate, and the signed updates that it counts, on disk when this returns. */
  addEntry({ entry, certificate }: CertifiedBytes, updates: { link: Link; bytes: Uint8Array }[]): void {
    this.#append([...updates, { link: null, bytes: entry }, { link: null, bytes: certificate }])
  }

  close(): void {
    closeSync(this.#fd)
  }

  #append(items: { link: Link | null; bytes: Uint8Array }[]): void {
    const fresh = items.filter(({ link }) => link === null || !this.#written.has(link))
    if (fresh.length === 0) return
    try {
      const whole = Buffer.concat(fresh.map(({ bytes }) => frame(bytes)))
      for (let offset = 0; offset < whole.length; ) offset += writeSync(this.#fd, whole, offset)
      fsyncSync(this.#fd)
    } catch (error) {
      if (!isDiskFull(error)) throw error
      throw new WorldlmError(
        'DISK_FULL',
        'the disk is full: certified.car could not grow',
        'Free some space and start the node again; the torn end is cut off.',
        {
          cause: error
        }
      )
    }
    for (const { link } of fresh) if (link !== null) this.#written.add(link)
  }
}
