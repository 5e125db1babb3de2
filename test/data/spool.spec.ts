/** Text larger than memory: the same bytes, tokens, windows and figures as of one that is kept in memory. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import fc from 'fast-check'
import { Batches, windowsAt } from '../../src/data/batches.ts'
import { trainBpe } from '../../src/data/bpe.ts'
import { inspectTexts } from '../../src/data/inspect.ts'
import { overlap, WindowSet } from '../../src/data/overlap.ts'
import { blocksOf, memoryBytesDefault, Spool, viewOf } from '../../src/data/spool.ts'
import { loadText } from '../../src/data/text-tree.ts'
import { byteTokenizer, openTokenizer, piecesOf } from '../../src/data/tokenizer.ts'
import { Random } from '../../src/math/random.ts'
import { writeTree } from '../temporary.ts'
import { whole } from './whole.ts'

const spooled = (parts: Uint8Array[], memoryBytesMax: number) => {
  const spool = new Spool(memoryBytesMax)
  for (const part of parts) spool.add(part)
  return spool.whole()
}
const words = 'river stone ünïcode 世界 market\n\nquietly harbour '.split(' ')
function prose(bytes: number, seed: number): Uint8Array {
  const random = new Random(`prose/${seed}`)
  let text = ''
  while (text.length < bytes) text += `${words[random.below(words.length)]!} `
  return new TextEncoder().encode(text)
}
const unnamed = () => readdirSync(tmpdir()).filter(name => name.startsWith('worldlm-text-'))

describe('a run of bytes', () => {
  it('is what was added, in memory or beyond it, and so is each part of it', () => {
    const parts = fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 40 })
    fc.assert(
      fc.property(parts, fc.nat(20_000), fc.nat(50_000), fc.nat(50_000), (added, memoryBytesMax, from, length) => {
        const want = new Uint8Array(Buffer.concat(added))
        const bytes = spooled(added, memoryBytesMax)
        assert.equal(bytes instanceof Uint8Array, want.length <= memoryBytesMax)
        assert.deepEqual(whole(bytes), want)
        assert.deepEqual(new Uint8Array(Buffer.concat([...blocksOf(bytes)])), want)
        assert.deepEqual(new Uint8Array(bytes.subarray(from, from + length)), want.subarray(from, from + length))
        const view = viewOf(bytes, Math.min(from, want.length), from + length)
        assert.deepEqual(new Uint8Array(whole(viewOf(view, 1, 700))), want.subarray(from, from + length).subarray(1, 700))
      }),
      { numRuns: 150, seed: 11 }
    )
  })

  it('takes pieces larger than what it writes at once', () => {
    const parts = [prose(10, 1), prose(3_000_000, 2), prose(900_000, 3), prose(900_000, 4)]
    assert.deepEqual(whole(spooled(parts, 1000)), new Uint8Array(Buffer.concat(parts)))
  })

  it('leaves no file behind, not even one that is open', () => {
    const bytes = spooled([prose(5000, 1)], 100)
    assert.equal(whole(bytes).length, bytes.length)
    assert.deepEqual(unnamed(), [])
  })

  it('says where there is no room', () => {
    const before = process.env.TMPDIR
    process.env.TMPDIR = '/nowhere/at/all'
    try {
      assert.throws(() => spooled([prose(5000, 1)], 100), { code: 'DATA_NO_SPACE', message: /nowhere/ })
    } finally {
      if (before === undefined) delete process.env.TMPDIR
      else process.env.TMPDIR = before
    }
  })
})

describe('a text beyond memory', () => {
  const files = { 'a.txt': prose(400_000, 5), 'b.jsonl': JSON.stringify({ text: new TextDecoder().decode(prose(90_000, 6)) }) }
  const load = (memoryBytesMax: number) =>
    loadText({ path: 'a/b', folder: writeTree(files), memoryBytesMax }, { context: 64, keptBackBytes: 100 })

  it('is cut and inspected as one in memory is', async () => {
    const [far, near] = [await load(1000), await load(memoryBytesDefault)]
    assert.ok(near.train instanceof Uint8Array && !(far.train instanceof Uint8Array))
    assert.deepEqual([whole(far.train), whole(far.valid)], [whole(near.train), whole(near.valid)])
    assert.deepEqual(inspectTexts(new Map([['a', far]])), inspectTexts(new Map([['a', near]])))
  })

  it('gives the same tokens and the same windows', async () => {
    const [far, near] = [await load(1000), await load(memoryBytesDefault)]
    const sample = new TextDecoder().decode(whole(near.valid))
    for (const tokenizer of [byteTokenizer, openTokenizer(JSON.stringify(trainBpe([sample], 400).tokenizer), 'bpe')]) {
      const [left, right] = [tokenizer.encode(far.train, 1000), tokenizer.encode(near.train)]
      assert.equal(left.length, right.length)
      assert.deepEqual([...left.subarray(0, left.length)], [...right.subarray(0, right.length)])
      const batches = [left, right].map(
        tokens => new Batches(tokens, { context: 64, windows: 8, seed: 3, keptBack: [500, 9000] })
      )
      for (let step = 0; step < 20; step++) assert.deepEqual(batches[0]!.next(), batches[1]!.next())
      const last = left.length - 65
      assert.deepEqual(windowsAt(left, [0, last], 64), windowsAt(right, [0, last], 64))
    }
  })

  it('is read in pieces that end behind a line or a character', () => {
    const text = prose(300_000, 8)
    const pieces = [...piecesOf(spooled([text], 10), 4096)]
    assert.deepEqual(new Uint8Array(Buffer.concat(pieces)), text)
    assert.ok(pieces.length > 70)
    for (const piece of pieces) new TextDecoder('utf-8', { fatal: true }).decode(piece)
  })
})

describe('overlap with a text of which not every window is looked at', () => {
  it('is the share that was copied, give or take chance', () => {
    const random = new Random('copies')
    const train = Uint8Array.from({ length: 400_000 }, () => 97 + random.below(26))
    const fresh = Uint8Array.from({ length: 150_000 }, () => 97 + random.below(26))
    const valid = new Uint8Array(Buffer.concat([train.subarray(1234, 1234 + 64 * 800), fresh.subarray(0, 64 * 1600)]))
    const share = overlap(valid, new WindowSet([train], 40_000))
    assert.ok(Math.abs(share - 1 / 3) < 0.1, String(share))
    assert.notEqual(overlap(valid, new WindowSet([train])), share)
  })
})
