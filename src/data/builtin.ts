/**
 * Text that is already there: what `npm ci` brought along, as a tree of six organizations in two federations.
 *
 *   prose/guides READMEs · prose/changelogs · prose/licences · code/declarations .d.ts · code/javascript · code/manifests package.json
 *
 * A fixed rule: sorted paths, by kind, at most 1 MB each, no paragraph twice: the same licence lies in hundreds of packages, and validation
 * text that was trained on flatters.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { WorldlmError } from '../errors.ts'
import { characterBytes } from './formats.ts'

const bytesMax = 1_000_000
/** One file may fill no more than this of its kind: bundles of a megabyte are no variety. */
const fileBytesMax = 60_000
const fileBytesMin = 200
/** A shorter paragraph may come again: a heading, a closing brace. */
const paragraphBytes = 64

const kinds: { path: string; matches: (name: string) => boolean }[] = [
  { path: 'prose/guides', matches: name => /^readme(\.md)?$/i.test(name) },
  { path: 'prose/changelogs', matches: name => /^(changelog|changes|history)(\.md)?$/i.test(name) },
  {
    path: 'prose/licences',
    matches: name => /^(licen[cs]e|copying|notice|third-?party)/i.test(name) && !/\.([cm]?[jt]s|json)$/i.test(name)
  },
  { path: 'code/declarations', matches: name => name.endsWith('.d.ts') },
  { path: 'code/javascript', matches: name => /\.[cm]?js$/.test(name) && !/\.min\./.test(name) },
  { path: 'code/manifests', matches: name => name === 'package.json' }
]

/** Writes the tree: `train.txt` in each organization's folder. @throws {WorldlmError} BUILTIN_MISSING */
export function writeBuiltin(folder: string): void {
  for (const [path, text] of builtinTexts()) {
    const organization = join(folder, path)
    mkdirSync(organization, { recursive: true })
    writeFileSync(join(organization, 'train.txt'), text)
  }
}

/** The text of each organization, by path. @throws {WorldlmError} BUILTIN_MISSING */
export function builtinTexts(): Map<string, Buffer> {
  const root = findModules()
  const texts = new Map(kinds.map(({ path }) => [path, { parts: [] as Buffer[], bytes: 0, seen: new Set<string>() }]))
  for (const file of files(root, () => [...texts.values()].every(({ bytes }) => bytes >= bytesMax))) {
    const kind = kinds.find(({ matches }) => matches(file.slice(file.lastIndexOf('/') + 1)))
    const text = kind === undefined ? undefined : texts.get(kind.path)
    if (text === undefined || text.bytes >= bytesMax) continue
    const part = readPart(file, text.seen)
    if (part === null) continue
    text.parts.push(part.subarray(0, bytesMax - text.bytes))
    text.bytes += part.length
  }
  return new Map([...texts].map(([path, { parts }]) => [path, wholeCharacters(Buffer.concat(parts))]))
}

/** @param seen - paragraphs so far. @returns what is new; null where that is nothing, or no text. */
function readPart(file: string, seen: Set<string>): Buffer | null {
  const { size } = statSync(file)
  if (size < fileBytesMin || size > fileBytesMax) return null
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch {
    return null
  }
  const kept = text.split(/\r?\n(?:[ \t]*\r?\n)+/).filter(paragraph => {
    if (paragraph.length < paragraphBytes) return true
    // The same words in lines of another length are the same paragraph.
    const words = paragraph
      .replace(/[\s*#/]+/g, ' ')
      .trim()
      .toLowerCase()
    return !seen.has(words) && seen.add(words) !== undefined
  })
  return kept.some(({ length }) => length >= paragraphBytes) ? Buffer.from(`${kept.join('\n\n').trimEnd()}\n\n`) : null
}

/** The cut at 1 MB may fall into a character. */
function wholeCharacters(text: Buffer): Buffer {
  let end = text.length
  while (end > 0 && end > text.length - 4 && (text[end - 1]! & 0xc0) === 0x80) end--
  const lead = text[end - 1] ?? 0
  return end - 1 + characterBytes(lead) <= text.length ? text : text.subarray(0, end - 1)
}

/** Files below `root` in the order of their paths, links not followed. */
function* files(root: string, done: () => boolean): Generator<string> {
  const entries = readdirSync(root, { withFileTypes: true }).sort((left, right) => (left.name < right.name ? -1 : 1))
  for (const entry of entries) {
    if (done()) return
    const path = `${root}/${entry.name}`
    if (entry.isDirectory() && entry.name !== '.cache' && entry.name !== '.bin') yield* files(path, done)
    else if (entry.isFile()) yield path
  }
}

/** The `node_modules` that worldlm's own packages lie in. */
function findModules(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const modules = join(folder, 'node_modules')
    if (existsSync(join(modules, 'libp2p'))) return modules
    if (folder === dirname(folder)) break
  }
  throw new WorldlmError(
    'BUILTIN_MISSING',
    'no node_modules with worldlm’s packages was found',
    'Run `npm ci`, or give text of your own: --data DIR.'
  )
}
