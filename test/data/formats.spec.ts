/** Text files of every format that docs/data.md names, and what is refused, by name and place. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { isTextFile, stemOf } from '../../src/data/formats.ts'
import { loadText, readTree } from '../../src/data/text-tree.ts'
import { readWhole, whole } from './whole.ts'

const parquet = (name: string) => join(import.meta.dirname, 'parquet', `${name}.parquet`)
const utf8 = (bytes: Uint8Array) => new TextDecoder('utf-8', { fatal: true }).decode(bytes)

describe('text files', () => {
  let folder = ''
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'worldlm-data-'))))
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  const write = (name: string, bytes: string | Uint8Array): string => {
    const path = join(folder, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, bytes)
    return path
  }
  const read = async (name: string, bytes: string | Uint8Array) => utf8(await readWhole('org', write(name, bytes)))
  const refused = (name: string, bytes: string | Uint8Array, code: string, message: RegExp) =>
    assert.rejects(read(name, bytes), (error: Error & { code: string; hint: string }) => {
      assert.equal(error.code, code)
      assert.match(error.message, message)
      assert.match(error.message, /org/)
      assert.notEqual(error.hint, '')
      return true
    })

  it('are known by their names', () => {
    const yes = ['a.txt', 'train.md', 'train.jsonl', 'x.jsonl.gz', 'part-0.parquet']
    const no = ['a.csv', 'a.gz', '.hidden.txt', 'a.json', 'txt']
    assert.deepEqual([...yes, ...no].filter(isTextFile), yes)
    assert.deepEqual(yes.map(stemOf), ['a', 'train', 'train', 'x', 'part-0'])
  })

  it('are refused by the byte, wherever a file is cut into pieces', async () => {
    const piece = 1 << 20
    for (const at of [piece - 2, piece - 1, piece, 2 * piece + 1]) {
      const bytes = Buffer.from('ä'.repeat(piece + 64))
      assert.equal(await read('good.txt', bytes.subarray(0, at & ~1)), 'ä'.repeat(at >> 1))
      bytes[at] = 0xff
      await refused('bad.txt', bytes, 'DATA_NOT_UTF8', new RegExp(`byte ${at % 2 === 0 ? at : at - 1} begins`))
      await refused(
        'cut.txt',
        Buffer.from('ä'.repeat(at)).subarray(0, -1),
        'DATA_NOT_UTF8',
        new RegExp(`byte ${2 * at - 2} begins`)
      )
    }
  })

  it('give plain text as it is', async () => assert.equal(await read('a.txt', 'ä\nb'), 'ä\nb'))

  it('give the documents of JSON lines, each ended by a line break', async () => {
    const lines = ['{"text":"one"}', '', '{"id":3,"text":"two\\nlines\\n"}', '{"text":""}', '{"text":"drei 🎉"}']
    assert.equal(await read('a.jsonl', lines.join('\n')), 'one\ntwo\nlines\ndrei 🎉\n')
    assert.equal(await read('b.jsonl.gz', gzipSync(`${lines.join('\r\n')}\n`)), 'one\ntwo\nlines\ndrei 🎉\n')
  })

  it('give any documents back, wherever the file is cut into pieces', () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }), { maxLength: 30 }), async texts => {
        // Longer than the pieces that a file is read in.
        const padded = texts.length > 25 ? ['x'.repeat(1_500_000), ...texts] : texts
        const want = padded.map(text => (text.endsWith('\n') ? text : `${text}\n`)).join('')
        const got = await readWhole('org', write('any.jsonl', padded.map(text => JSON.stringify({ text })).join('\n')))
        assert.equal(new TextDecoder().decode(got), new TextDecoder().decode(new TextEncoder().encode(want)))
      }),
      { numRuns: 60, seed: 3 }
    ))

  for (const codec of ['none', 'snappy', 'gzip', 'zstd', 'brotli'])
    it(`give the column \`text\` of a Parquet file, compressed with ${codec}`, async () =>
      assert.equal(utf8(await readWhole('org', parquet(codec))), 'Guten Tag, Welt.\nЗдравствуй, мир.\n三つ目の文書 🎉\n'))

  it('are refused by name, with the line or the byte', async () => {
    await refused('a.txt', Uint8Array.of(97, 98, 0xff, 99), 'DATA_NOT_UTF8', /a\.txt.*byte 2/)
    await refused('a.jsonl', '{"text":"x"}\n{"text":', 'DATA_JSONL', /a\.jsonl.*line 2: it is not JSON/)
    await refused('b.jsonl', '{"body":"x"}', 'DATA_JSONL', /line 1: it has no field "text" \(it has body\)/)
    await refused('c.jsonl', '{"text":"x"}\n\n{"text":7}', 'DATA_JSONL', /line 3: its field "text" is a number/)
    await refused('d.jsonl', '[]', 'DATA_JSONL', /line 1: it is not an object/)
    await refused('e.jsonl', Buffer.from('{"text":"\xff"}', 'latin1'), 'DATA_JSONL', /line 1: it is not UTF-8/)
    await refused('f.jsonl.gz', 'not zipped', 'DATA_UNREADABLE', /f\.jsonl\.gz/)
    await refused('g.jsonl.gz', gzipSync('{"text":"x"}'.repeat(99)).subarray(0, 30), 'DATA_UNREADABLE', /g\.jsonl\.gz/)
    await refused('h.parquet', 'not a Parquet file', 'DATA_PARQUET', /h\.parquet.*no Parquet file/)
    await assert.rejects(readWhole('org', parquet('no-text')), /no column "text" \(it has body\)/)
    await assert.rejects(readWhole('org', parquet('numbers')), /row 1 has a (number|bigint)/)
    await assert.rejects(readWhole('org', join(folder, 'away.txt')), { code: 'DATA_UNREADABLE' })
  })

  it('are refused where they are no files: reading would never end', async () => {
    const at = (name: string) => readWhole('org', join(folder, name))
    symlinkSync('/dev/zero', join(folder, 'zeros.txt'))
    await assert.rejects(at('zeros.txt'), { code: 'DATA_UNREADABLE', message: /zeros\.txt .* it is no file/ })
    execFileSync('mkfifo', [join(folder, 'pipe.jsonl')])
    await assert.rejects(at('pipe.jsonl'), { code: 'DATA_UNREADABLE', message: /it is no file/ })
    mkdirSync(join(folder, 'folder.md'))
    await assert.rejects(at('folder.md'), { code: 'DATA_UNREADABLE', message: /it is no file/ })
  })

  it('are refused where a line of JSON is no document, but a corpus, as soon as it is too long', async () => {
    const path = write('long.jsonl', '{"text":"')
    // A hole: it takes no room.
    truncateSync(path, 600_000_000)
    await assert.rejects(readWhole('org', path), { code: 'DATA_JSONL', message: /line 1: it is longer than 250 MB/ })
  })

  it('of Parquet are refused where `text` is bytes that are no text, or lies inside another column', async () => {
    await assert.rejects(readWhole('org', parquet('latin1')), { code: 'DATA_PARQUET', message: /row 2 has bytes .* not UTF-8/ })
    await assert.rejects(readWhole('org', parquet('nested')), /no column "text" \(it has doc, id\)/)
    await refused('i.parquet', '', 'DATA_PARQUET', /i\.parquet.*it is empty/)
  })

  it('of one organization are read in the order of their names, whatever their formats', async () => {
    write('f/org/1.txt', `first ${'a'.repeat(99)}\n`)
    write('f/org/2.jsonl.gz', gzipSync(JSON.stringify({ text: `second ${'b'.repeat(99)}` })))
    write('f/org/3.md', `third ${'c'.repeat(99)}`)
    const [organization] = readTree(folder)
    const { train, valid } = await loadText(organization!, { context: 4, keptBackBytes: 0 })
    const text = utf8(whole(train)) + utf8(whole(valid))
    assert.match(text, /^first a+\nsecond b+\nthird c+$/)
    assert.equal(train.length, Math.floor(text.length * 0.92))
  })

  it('are cut at a limit, between characters', async () => {
    write('f/org/train.txt', 'ä'.repeat(500))
    write('f/org/valid.jsonl', JSON.stringify({ text: 'x'.repeat(50) }))
    const [text] = readTree(folder)
    const { train, valid } = await loadText({ ...text!, trainBytesMax: 101 }, { context: 4, keptBackBytes: 0 })
    assert.equal(utf8(whole(train)), 'ä'.repeat(50))
    assert.equal(valid.length, 51)
  })
})
