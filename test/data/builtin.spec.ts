/** The text that npm brought along: six organizations, by a fixed rule. */
import assert from 'node:assert/strict'
import { builtinTexts, writeBuiltin } from '../../src/data/builtin.ts'
import { loadText, readTree } from '../../src/data/text-tree.ts'
import { temporaryFolder } from '../temporary.ts'

describe('the built-in text', () => {
  const texts = builtinTexts()

  it('is that of six organizations in two federations, at most 1 MB each, enough to train on', () => {
    assert.deepEqual([...texts.keys()].sort(), [
      'code/declarations',
      'code/javascript',
      'code/manifests',
      'prose/changelogs',
      'prose/guides',
      'prose/licences'
    ])
    for (const [path, bytes] of texts) assert.ok(bytes.length > 50_000 && bytes.length <= 1_000_000, `${path}: ${bytes.length}`)
  })

  it('is UTF-8, of its kind, and the same each time', () => {
    const again = builtinTexts()
    for (const [path, bytes] of texts) {
      assert.ok(bytes.equals(again.get(path)!), path)
      assert.doesNotThrow(() => new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    }
    const start = (path: string) => texts.get(path)!.toString().slice(0, 50_000)
    assert.match(start('code/manifests'), /"dependencies"/)
    assert.match(start('code/declarations'), /export declare/)
    assert.match(start('prose/licences'), /Permission is hereby granted|Apache License/)
  })

  it('has no paragraph twice within an organization, however its lines are broken', () => {
    for (const [path, bytes] of texts) {
      const paragraphs = bytes
        .toString()
        .split(/\n\n+/)
        .filter(({ length }) => length >= 64)
      const words = paragraphs.map(paragraph =>
        paragraph
          .replace(/[\s*#/]+/g, ' ')
          .trim()
          .toLowerCase()
      )
      assert.equal(new Set(words).size, words.length, path)
    }
  })

  it('is written as a tree that is read like any other', async () => {
    const root = temporaryFolder()
    writeBuiltin(root)
    const organizations = readTree(root)
    assert.equal(organizations.length, 6)
    for (const organization of organizations) {
      const { train, valid } = await loadText(organization, { context: 128, keptBackBytes: 4096 })
      assert.equal(train.length + valid.length, texts.get(organization.path)!.length)
    }
  })
})
