/**
 * Text files of an organization, whatever their format, as one run of UTF-8 bytes (docs/data.md).
 *
 *   .txt .md           as they are
 *   .jsonl .jsonl.gz   a document a line, in the field `text`
 *   .parquet           a document a row, in the column `text`
 *
 * Documents end with a line break. Pieces, lines and row groups are read one after the other: no file has to fit into memory.
 */
import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { brotliDecompressSync, createGunzip, gunzipSync, zstdDecompressSync } from 'node:zlib'
import { WorldlmError } from '../errors.ts'
import type { Bytes } from './spool.ts'

const suffixes = ['.txt', '.md', '.jsonl', '.jsonl.gz', '.parquet'] as const
type Suffix = (typeof suffixes)[number]

/** For hints. */
export const formatNames = suffixes.join(', ')

const suffixOf = (name: string): Suffix | undefined => suffixes.find(suffix => name.endsWith(suffix))

/** Whether it is a text file by its name; hidden ones are not. */
export const isTextFile = (name: string): boolean => suffixOf(name) !== undefined && !name.startsWith('.')

/** `train` of `train.jsonl.gz`. */
export const stemOf = (name: string): string => basename(name, suffixOf(name))

/** Takes the next bytes of a text; they are the reader's again afterwards. */
export type Take = (bytes: Uint8Array) => void

/** @throws {WorldlmError} DATA_UNREADABLE, DATA_NOT_UTF8, DATA_JSONL, DATA_PARQUET */
export async function readTextFile(organization: string, path: string, take: Take): Promise<void> {
  const suffix = suffixOf(path)
  try {
    // A pipe says nothing for ever, a device never ends.
    if (!(await stat(path)).isFile()) throw new Error('it is no file, but a folder, a pipe or a device')
    if (suffix === '.parquet') await readParquet(organization, path, take)
    else if (suffix === '.jsonl' || suffix === '.jsonl.gz')
      await readJsonLines(organization, path, suffix === '.jsonl.gz', take)
    else await readPlain(organization, path, take)
  } catch (cause) {
    if (cause instanceof WorldlmError) throw cause
    throw new WorldlmError(
      'DATA_UNREADABLE',
      `${path} of organization ${organization} cannot be read: ${(cause as Error).message}`,
      'Check its permissions, and that it is whole.',
      { cause }
    )
  }
}

async function readPlain(organization: string, path: string, take: Take): Promise<void> {
  const refuseFrom = (at: number, wrong: number | null) => {
    if (wrong === null) return
    throw new WorldlmError(
      'DATA_NOT_UTF8',
      `${path} of organization ${organization} is not UTF-8: byte ${at + wrong} begins no character`,
      'Convert it (iconv -f LATIN1 -t UTF-8, for example), or remove it.'
    )
  }
  let at = 0
  let rest: Uint8Array = new Uint8Array()
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    const bytes: Uint8Array = rest.length > 0 ? Buffer.concat([rest, chunk as Buffer]) : (chunk as Buffer)
    const whole = bytes.subarray(0, wholeCharacters(bytes))
    refuseFrom(at, firstInvalidByte(whole))
    take(whole)
    at += whole.length
    rest = bytes.subarray(whole.length)
  }
  refuseFrom(at, firstInvalidByte(rest))
}

/** Bytes of it that do not belong to a character which goes on behind its end. */
function wholeCharacters(bytes: Uint8Array): number {
  const last = cutBefore(bytes, bytes.length - 1)
  return bytes.length > 0 && last + characterBytes(bytes[last]!) > bytes.length ? last : bytes.length
}

// ── JSON lines ──

async function readJsonLines(organization: string, path: string, zipped: boolean, takeText: Take): Promise<void> {
  const file = createReadStream(path, { highWaterMark: 1 << 20 })
  const unzipped = zipped ? createGunzip() : null
  // A pipe does not hand errors on.
  file.on('error', error => unzipped?.destroy(error))
  let line = 1
  // Of a line that goes on: put together once, for one of many pieces would be copied with every piece.
  let begun: Buffer[] = []
  let begunBytes = 0
  const add = (bytes: Buffer) => {
    begun.push(bytes)
    begunBytes += bytes.length
    if (begunBytes > lineBytesMax)
      refuseLine(organization, path, line, `it is longer than ${lineBytesMax / 1e6} MB, which is more than one document`)
  }
  const end = () => {
    if (begunBytes > 0) takeDocument(takeText, documentOf(organization, path, line, Buffer.concat(begun)))
    line++
    begun = []
    begunBytes = 0
  }
  for await (const chunk of unzipped === null ? file : file.pipe(unzipped)) {
    const bytes = chunk as Buffer
    let from = 0
    for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, from)) {
      add(bytes.subarray(from, at))
      end()
      from = at + 1
    }
    add(bytes.subarray(from))
  }
  end()
}

/** A line is parsed as a whole; half of the characters that a string of Node can have. */
const lineBytesMax = 250_000_000

function refuseLine(organization: string, path: string, line: number, what: string): never {
  throw new WorldlmError(
    'DATA_JSONL',
    `${path} of organization ${organization}, line ${line}: ${what}`,
    'Each line is a JSON object with its text in the field "text".'
  )
}

function documentOf(organization: string, path: string, line: number, bytes: Buffer): Uint8Array {
  const refuse = (what: string): never => refuseLine(organization, path, line, what)
  let parsed: unknown
  try {
    const decoded = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    if (decoded.trim() === '') return new Uint8Array()
    parsed = JSON.parse(decoded)
  } catch (error) {
    refuse(error instanceof SyntaxError ? `it is not JSON (${error.message})` : 'it is not UTF-8')
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) refuse('it is not an object')
  const { text } = parsed as { text?: unknown }
  if (text === undefined)
    refuse(
      `it has no field "text" (it has ${
        Object.keys(parsed as object)
          .slice(0, 5)
          .join(', ') || 'none'
      })`
    )
  if (typeof text !== 'string') refuse(`its field "text" is ${kindOf(text)}, not a string`)
  return Buffer.from(text as string)
}

const kindOf = (value: unknown): string =>
  value === null ? 'null' : typeof value === 'object' ? 'an object' : `a ${typeof value}`

// ── Parquet ──

/** What stands for bytes that are no UTF-8, until their row is known. */
const notUtf8 = Symbol('not UTF-8')
const parsers = {
  stringFromBytes: (bytes: Uint8Array | undefined): unknown => {
    try {
      return bytes && new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch {
      return notUtf8
    }
  }
}

/** Codecs of the format that hyparquet leaves to its caller; Node has them. */
const compressors = {
  GZIP: (bytes: Uint8Array) => gunzipSync(bytes),
  BROTLI: (bytes: Uint8Array) => brotliDecompressSync(bytes),
  ZSTD: (bytes: Uint8Array) => zstdDecompressSync(bytes)
}

async function readParquet(organization: string, path: string, take: Take): Promise<void> {
  const { parquetMetadataAsync, parquetRead, parquetSchema } = await import('hyparquet')
  const refuse = (what: string, cause?: unknown): never => {
    throw new WorldlmError(
      'DATA_PARQUET',
      `${path} of organization ${organization}: ${what}`,
      'It is a Parquet file with its text in the column "text", as strings.',
      { cause }
    )
  }
  const handle = await open(path)
  try {
    const { size } = await handle.stat()
    const file = {
      byteLength: size,
      slice: async (start: number, end: number = size) => {
        const bytes = Buffer.alloc(end - start)
        await handle.read(bytes, 0, bytes.length, start)
        return bytes.buffer
      }
    }
    if (size === 0) refuse('it is no Parquet file (it is empty)')
    const metadata = await parquetMetadataAsync(file).catch(error => refuse(`it is no Parquet file (${error.message})`, error))
    const names = parquetSchema(metadata).children.map(({ element }) => element.name)
    if (!names.includes('text')) refuse(`it has no column "text" (it has ${names.slice(0, 8).join(', ')})`)
    let row = 0
    for (const { num_rows: count } of metadata.row_groups) {
      const rowEnd = row + Number(count)
      const rows = await new Promise<unknown[][]>((resolve, reject) => {
        const options = { file, metadata, columns: ['text'], rowStart: row, rowEnd, compressors, parsers, onComplete: resolve }
        parquetRead(options).catch(reject)
      }).catch(error => refuse(`rows ${row + 1} to ${rowEnd} cannot be read (${error.message})`, error))
      for (const [place, [value]] of rows.entries()) {
        if (value === null || value === undefined) continue
        if (value === notUtf8) refuse(`row ${row + place + 1} has bytes in its column "text" that are not UTF-8`)
        if (typeof value !== 'string') refuse(`row ${row + place + 1} has ${kindOf(value)} in its column "text", not a string`)
        takeDocument(take, Buffer.from(value as string))
      }
      row = rowEnd
    }
  } finally {
    await handle.close()
  }
}

// ── bytes ──

const lineBreak = Uint8Array.of(10)

/** Each document ends with a line break. */
function takeDocument(take: Take, document: Uint8Array): void {
  if (document.length === 0) return
  take(document)
  if (document.at(-1) !== 10) take(lineBreak)
}

/** Offset of the first byte that is not part of a character, or null. */
function firstInvalidByte(bytes: Uint8Array): number | null {
  const decodes = (end: number, stream: boolean): boolean => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, end), { stream })
      return true
    } catch {
      return false
    }
  }
  if (decodes(bytes.length, false)) return null
  let [low, high] = [0, bytes.length]
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (decodes(middle, true)) low = middle
    else high = middle - 1
  }
  // What goes wrong there may have begun before: a lead byte that its followers do not complete.
  const lead = cutBefore(bytes, Math.max(0, low - 1))
  return lead + characterBytes(bytes[lead]!) > low ? lead : low
}

/** Bytes of the character that begins with `lead`. */
export const characterBytes = (lead: number): number => (lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1)

/** The start of the character that holds byte `at`. */
export function cutBefore(text: Bytes, at: number): number {
  if (at >= text.length) return text.length
  const from = Math.max(0, at - 4)
  const bytes = text.subarray(from, at + 1)
  let cut = at
  while (cut > 0 && cut > at - 4 && (bytes[cut - from]! & 0xc0) === 0x80) cut--
  return cut
}
