/**
 * The tree of text: federation/…/organization (docs/data.md). A leaf is a folder without subfolders; it holds `train.*` and `valid.*`, or
 * only `train.*`, or any text files. Without `valid.*` the last 8 % of the text are set aside for validation.
 *
 * What cannot be trained on is refused by name before anything starts.
 */
import { readdirSync, type Stats, statSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { WorldlmError } from '../errors.ts'
import { cutBefore, formatNames, isTextFile, readTextFile, stemOf } from './formats.ts'
import { type Bytes, memoryBytesDefault, Spool, viewOf } from './spool.ts'

export interface OrganizationText {
  /** From the root of the tree, with `/`. */
  path: string
  folder: string
  /** Only so many bytes of its training text are taken, from the beginning; left out: all. */
  trainBytesMax?: number
  /** A text with more bytes is kept in a temporary file; left out: `memoryBytesDefault`. */
  memoryBytesMax?: number
}

export interface TextNeeds {
  /** T: a validation window has T + 1 bytes. */
  context: number
  /** Kept-back slice, never trained on. */
  keptBackBytes: number
}

export interface LoadedText {
  train: Bytes
  valid: Bytes
}

const validShare = 0.08
/** Deeper trees are links that lead back. */
const depthMax = 16
/** As long as a path can be in a node's options and in records, `world/` before it. */
const pathCharactersMax = 250
const nameRule = /^[\p{L}\p{N}][\p{L}\p{N}._ -]{0,79}$/u

/** The organizations below `root`, sorted by path. @throws {WorldlmError} DATA_MISSING, DATA_EMPTY, DATA_MIXED, DATA_NAME, DATA_TOO_DEEP */
export function readTree(root: string): OrganizationText[] {
  const folder = resolve(root)
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new WorldlmError(
      'DATA_MISSING',
      `${root} is not a folder`,
      'Give the folder that holds the tree federation/…/organization.'
    )
  }
  const found: OrganizationText[] = []
  walk(folder, folder, found)
  if (found.length === 0)
    throw new WorldlmError(
      'DATA_EMPTY',
      `${root} holds no organization`,
      `An organization is a folder with text files (${formatNames}) in it.`
    )
  const alone = found.find(({ path }) => path === '')
  if (alone !== undefined)
    throw new WorldlmError(
      'DATA_EMPTY',
      `${root} is one organization, not a tree of them`,
      'Give the folder above it, with an organization a folder.'
    )
  return found.sort((left, right) => (left.path < right.path ? -1 : 1))
}

function walk(root: string, folder: string, found: OrganizationText[]): void {
  const path = relative(root, folder).split(/[\\/]/).join('/')
  if (path.split('/').length > depthMax)
    throw new WorldlmError(
      'DATA_TOO_DEEP',
      `${path} lies more than ${depthMax} levels deep`,
      'Look for a link that leads back into the tree.'
    )
  const names = readdirSync(folder)
    .filter(name => !name.startsWith('.'))
    .sort()
  const folders = names.filter(name => statOf(join(folder, name))?.isDirectory())
  const files = names.filter(name => isTextFile(name) && !folders.includes(name))
  const texts = folder === root ? files.filter(name => name.toLowerCase() !== 'readme.md') : files
  if (folders.length > 0 && texts.length > 0) {
    throw new WorldlmError(
      'DATA_MIXED',
      `${join(folder, texts[0]!)} lies beside folders`,
      'A folder is an organization (text files only) or a federation (folders only): move the file.'
    )
  }
  if (folders.length === 0) {
    if (path === '' && texts.length === 0) return
    if (path !== '') checkName(path)
    found.push({ path, folder })
    return
  }
  for (const name of folders) walk(root, join(folder, name), found)
}

/** Of what a link leads to; undefined where it leads nowhere, or to itself: as a text it is refused when it is read. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ELOOP') return undefined
    throw error
  }
}

function checkName(path: string): void {
  if (path.length > pathCharactersMax)
    throw new WorldlmError(
      'DATA_NAME',
      `the path ${path} has ${path.length} characters`,
      `A path of at most ${pathCharactersMax} is known by all: give its folders shorter names.`
    )
  const odd = path.split('/').find(name => !nameRule.test(name))
  if (odd === undefined) return
  throw new WorldlmError(
    'DATA_NAME',
    `${JSON.stringify(odd)} in ${JSON.stringify(path)} is no name for a folder of the tree`,
    'Use letters, digits, dots, dashes, underscores and spaces, at most 80.'
  )
}

/** Reads one organization's text. @throws {WorldlmError} DATA_EMPTY, DATA_TOO_SHORT, DATA_NO_SPACE, and those of `readTextFile` */
export async function loadText(organization: OrganizationText, needs: TextNeeds): Promise<LoadedText> {
  const { path, folder, trainBytesMax, memoryBytesMax = memoryBytesDefault } = organization
  const names = readdirSync(folder)
    .filter(name => isTextFile(name))
    .sort()
  if (names.length === 0)
    throw new WorldlmError(
      'DATA_EMPTY',
      `organization ${path} has no text file in ${folder}`,
      `Put text files there (${formatNames}), or remove the folder.`
    )
  const read = async (wanted: string[]): Promise<Bytes> => {
    const files = wanted.map(name => join(folder, name))
    const expectedBytes = files.reduce((sum, file) => sum + (statOf(file)?.size ?? 0), 0)
    const spool = new Spool(memoryBytesMax, expectedBytes)
    for (const file of files) await readTextFile(path, file, bytes => spool.add(bytes))
    return spool.whole()
  }
  const trainNames = names.filter(name => stemOf(name) === 'train')
  const validNames = names.filter(name => stemOf(name) === 'valid')
  const text = await read(trainNames.length > 0 ? trainNames : names.filter(name => !validNames.includes(name)))
  const loaded = validNames.length > 0 ? { train: text, valid: await read(validNames) } : split(text)
  if (trainBytesMax !== undefined) loaded.train = viewOf(loaded.train, 0, cutBefore(loaded.train, trainBytesMax))
  const least = trainLeast(needs)
  refuseShort(path, 'for training', loaded.train.length, least)
  refuseShort(path, 'for validation', loaded.valid.length, needs.context + 1)
  return loaded
}

/** The slice with the token after it, and two windows with theirs: one of them fits before the slice or after it. */
export const trainLeast = ({ context, keptBackBytes }: TextNeeds): number => keptBackBytes + 1 + (context + 1) * 2

function refuseShort(path: string, what: string, bytes: number, least: number): void {
  if (bytes >= least) return
  const message =
    bytes === 0
      ? `organization ${path} has no text ${what}`
      : `organization ${path} has ${bytes} bytes ${what}, it needs at least ${least}`
  throw new WorldlmError(
    bytes === 0 ? 'DATA_EMPTY' : 'DATA_TOO_SHORT',
    message,
    'Add text, or choose a model with a shorter context.'
  )
}

/** The last 8 % are for validation; the cut falls between characters. */
function split(text: Bytes): LoadedText {
  const cut = cutBefore(text, Math.floor(text.length * (1 - validShare)))
  return { train: viewOf(text, 0, cut), valid: viewOf(text, cut, text.length) }
}
