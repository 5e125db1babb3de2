/** The tree of text (docs/data.md): any depth, and what cannot be trained on is refused by name before anything starts. */
import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import type { Bytes } from '../../src/data/spool.ts'
import { loadText, readTree } from '../../src/data/text-tree.ts'
import type { WorldlmError } from '../../src/errors.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'
import { whole } from './whole.ts'

const needs = { context: 32, keptBackBytes: 100 }
const refusal = async (run: () => unknown): Promise<WorldlmError> => {
  try {
    await run()
  } catch (error) {
    return error as WorldlmError
  }
  throw new Error('was not refused')
}
const text = (bytes: Bytes) => new TextDecoder().decode(whole(bytes))
const load = (files: Record<string, string | Uint8Array>) => loadText({ path: 'a/b', folder: writeTree(files) }, needs)

describe('the tree of text', () => {
  it('finds organizations at any depth, sorted by path, under any name that people use', () => {
    const root = writeTree({
      'a/b/c/org/train.txt': '1',
      'a/org/train.txt': '1',
      'org/notes.md': '1',
      'Städtisches Klinikum/Innere Medizin/a.txt': '1',
      '日本/東京/a.txt': '1',
      'README.md': 'about the tree',
      '.git/config.txt': 'hidden'
    })
    assert.deepEqual(
      readTree(root).map(({ path }) => path),
      ['Städtisches Klinikum/Innere Medizin', 'a/b/c/org', 'a/org', 'org', '日本/東京']
    )
  })

  const trees: { why: string; root: () => string; code: string; says: RegExp }[] = [
    { why: 'a folder that is not there', root: () => '/nowhere/at/all', code: 'DATA_MISSING', says: /nowhere\/at\/all/ },
    { why: 'a file', root: () => join(writeTree({ 'a.txt': 'x' }), 'a.txt'), code: 'DATA_MISSING', says: /a\.txt/ },
    { why: 'an empty folder', root: temporaryFolder, code: 'DATA_EMPTY', says: /holds no organization/ },
    { why: 'one organization', root: () => writeTree({ 'a.txt': 'x' }), code: 'DATA_EMPTY', says: /is one organization/ },
    {
      why: 'text beside folders',
      root: () => writeTree({ 'a/b/t.txt': 'x', 'a/t.txt': 'x' }),
      code: 'DATA_MIXED',
      says: /a\/t\.txt lies beside folders/
    },
    { why: 'a name that is none', root: () => writeTree({ 'a/-x/t.txt': 'x' }), code: 'DATA_NAME', says: /"-x" in "a\/-x"/ },
    {
      why: 'a path that is too long for records',
      root: () => writeTree({ [`${`${'n'.repeat(80)}/`.repeat(4)}t.txt`]: 'x' }),
      code: 'DATA_NAME',
      says: /has 323 characters/
    },
    { why: 'a line in a name', root: () => writeTree({ 'a/b\nc/t.txt': 'x' }), code: 'DATA_NAME', says: /"b\\nc"/ },
    {
      why: 'a link that leads back',
      root: () => {
        const root = writeTree({ 'a/b/t.txt': 'x' })
        symlinkSync(root, join(root, 'a', 'loop'))
        return root
      },
      code: 'DATA_TOO_DEEP',
      says: /16 levels/
    }
  ]
  it('is read where a link leads to itself: as a text of an organization it is refused by name', async () => {
    const root = writeTree({ 'a/b/t.txt': textOf(900) })
    symlinkSync('c', join(root, 'a', 'c'))
    assert.deepEqual(
      readTree(root).map(({ path }) => path),
      ['a/b']
    )
    symlinkSync('loop.txt', join(root, 'a', 'b', 'loop.txt'))
    const error = await refusal(() => loadText(readTree(root)[0]!, needs))
    assert.deepEqual(
      [error.code, /loop\.txt of organization a\/b/.test(error.message)],
      ['DATA_UNREADABLE', true],
      error.message
    )
  })

  for (const { why, root, code, says } of trees) {
    it(`is refused: ${why}`, async () => {
      const error = await refusal(() => readTree(root()))
      assert.deepEqual([error.code, says.test(error.message)], [code, true], error.message)
    })
  }

  it('has an empty organization in it, which is refused by name when its text is asked for', async () => {
    const root = writeTree({ 'a/full/t.txt': 'x' })
    mkdirSync(join(root, 'a', 'empty'))
    const [empty] = readTree(root)
    const error = await refusal(() => loadText(empty!, needs))
    assert.deepEqual([error.code, /organization a\/empty has no text file/.test(error.message)], ['DATA_EMPTY', true])
  })
})

describe('the text of an organization', () => {
  it('is train.* and valid.*, and nothing else, where they are there', async () => {
    const { train, valid } = await load({
      'train.txt': textOf(900, 'sea'),
      'valid.md': textOf(90, 'sky'),
      'other.txt': textOf(500)
    })
    assert.deepEqual([text(train), text(valid)], [textOf(900, 'sea'), textOf(90, 'sky')])
  })

  it('is all text files in the order of their names, the last 8 % for validation, where there is no valid.*', async () => {
    const [a, b] = [textOf(600, 'alpha'), textOf(400, 'beta')]
    const { train, valid } = await load({ 'b.md': b, 'a.txt': a, 'c.bin': 'no text' })
    assert.equal(text(train) + text(valid), a + b)
    assert.deepEqual([train.length, valid.length], [920, 80])
  })

  it('is all but valid.* for training where only that is named', async () => {
    const { train, valid } = await load({ 'a.txt': textOf(900), 'valid.txt': textOf(90, 'sky') })
    assert.deepEqual([text(train), text(valid)], [textOf(900), textOf(90, 'sky')])
  })

  it('is never cut inside a character, and loses none', async () => {
    const characters = fc.constantFrom('a', 'é', '€', '😀', '\n')
    await fc.assert(
      fc.asyncProperty(fc.array(characters, { minLength: 600, maxLength: 700 }), async parts => {
        const written = parts.join('')
        const { train, valid } = await load({ 'train.txt': written })
        assert.equal(text(train) + text(valid), written)
        assert.ok(!text(valid).startsWith('\ufffd'))
        assert.ok(Math.abs(valid.length - 0.08 * (train.length + valid.length)) <= 4)
      }),
      { numRuns: 30, seed: 1 }
    )
  })

  const refused: { why: string; files: Record<string, string | Uint8Array>; code: string; says: RegExp }[] = [
    { why: 'no text file', files: { 'a.pdf': 'x' }, code: 'DATA_EMPTY', says: /organization a\/b has no text file/ },
    { why: 'empty files', files: { 'train.txt': '', 'valid.txt': textOf(99) }, code: 'DATA_EMPTY', says: /a\/b has no text/ },
    { why: 'empty validation', files: { 'a.txt': textOf(900), 'valid.txt': '' }, code: 'DATA_EMPTY', says: /for validation/ },
    { why: 'too little', files: { 'train.txt': 'short' }, code: 'DATA_TOO_SHORT', says: /a\/b has 4 bytes for training.*167/ },
    {
      why: 'too little for one validation window',
      files: { 'train.txt': textOf(900), 'valid.txt': textOf(32) },
      code: 'DATA_TOO_SHORT',
      says: /32 bytes for validation, it needs at least 33/
    },
    {
      why: 'bytes that are not UTF-8, with the place',
      files: { 'train.txt': Buffer.concat([Buffer.from(textOf(500)), Buffer.from([0xe9, 0x20]), Buffer.from(textOf(500))]) },
      code: 'DATA_NOT_UTF8',
      says: /train\.txt of organization a\/b is not UTF-8: byte 500 /
    },
    {
      why: 'a character that is cut off at the end',
      files: { 'train.txt': Buffer.concat([Buffer.from(textOf(700)), Buffer.from([0xf0, 0x9f, 0x98])]) },
      code: 'DATA_NOT_UTF8',
      says: /byte 700 /
    },
    {
      why: 'UTF-16',
      files: { 'a.txt': Buffer.from(textOf(900), 'utf16le').fill(0xff, 0, 1) },
      code: 'DATA_NOT_UTF8',
      says: /byte 0 /
    },
    {
      why: 'bytes of a file beside',
      files: { 'a.txt': textOf(900), 'b.md': Uint8Array.of(0xff) },
      code: 'DATA_NOT_UTF8',
      says: /b\.md/
    }
  ]
  for (const { why, files, code, says } of refused) {
    it(`is refused: ${why}`, async () => {
      const error = await refusal(() => load(files))
      assert.deepEqual([error.code, says.test(error.message)], [code, true], error.message)
      assert.notEqual(error.hint, '')
    })
  }

  it('names the first wrong byte, wherever it stands and whatever character it breaks', async () => {
    const characters = fc.constantFrom('a', 'é', '€', '😀')
    const wrong = fc.constantFrom([0xff], [0x80], [0xe9, 0x20], [0xf0, 0x9f, 0x98, 0x20], [0xe2, 0x82], [0xc0, 0x80])
    await fc.assert(
      fc.asyncProperty(
        fc.array(characters, { maxLength: 40 }),
        wrong,
        fc.array(characters, { maxLength: 9 }),
        async (before, bytes, after) => {
          const start = Buffer.from(before.join(''))
          const broken = Buffer.concat([start, Buffer.from(bytes), Buffer.from(after.join(''))])
          const { message } = await refusal(() => load({ 'train.txt': broken }))
          assert.match(message, new RegExp(`byte ${start.length} `))
        }
      ),
      { numRuns: 100, seed: 2 }
    )
  })
})
