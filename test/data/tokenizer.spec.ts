import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { trainBpe } from '../../src/data/bpe.ts'
import { byteTokenizerJson } from '../../src/data/byte-level.ts'
import { byteTokenizer, openTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts'
import { pythonMissing, runPython } from '../python.ts'

const sample = readFileSync(new URL('../../src/data/text-tree.ts', import.meta.url), 'utf8')
const mixed = `${sample}\nGrüße, 世界! 👩‍🚀 don't  stop\t\r\n\n x = 12345;\n`
const utf8 = new TextEncoder()

const bpe = (vocabulary = 400): Tokenizer => openTokenizer(JSON.stringify(trainBpe([sample], vocabulary).tokenizer), 'bpe')
const encoded = (tokenizer: Tokenizer, text: string): number[] => {
  const tokens = tokenizer.encode(utf8.encode(text))
  return [...tokens.subarray(0, tokens.length)]
}
const decoded = (tokenizer: Tokenizer, tokens: Iterable<number>): string => {
  const decoder = tokenizer.decoder()
  return [...tokens].map(token => decoder.push(token)).join('') + decoder.end()
}

for (const [name, make] of [
  ['bytes', () => byteTokenizer],
  ['a BPE', bpe]
] as const) {
  describe(`a tokenizer: ${name}`, () => {
    const tokenizer = make()

    it('loses nothing: tokens give the text back, and its bytes are counted', () => {
      fc.assert(
        fc.property(
          fc.oneof(fc.string({ unit: 'grapheme' }), fc.string(), fc.constant(mixed), fc.constant('\ufeffa')),
          text => {
            const tokens = encoded(tokenizer, text)
            assert.ok(tokens.every(token => token < tokenizer.vocabulary))
            assert.equal(decoded(tokenizer, tokens), text)
            assert.equal(
              tokens.reduce((sum, token) => sum + tokenizer.bytesOf(token), 0),
              utf8.encode(text).length
            )
          }
        )
      )
    })

    it('gives a character when its last byte is there, not before', () => {
      const decoder = tokenizer.decoder()
      const given = encoded(tokenizer, 'a世').map(token => decoder.push(token))
      assert.equal(given.join(''), 'a世')
      assert.ok(given.every(part => !part.includes('\ufffd')))
    })
  })
}

describe('BPE from text', () => {
  it('merges what is seen most, ties by the smaller ids, as the plain way does', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: fc.constantFrom(...'abc ') }), { maxLength: 8 }), texts => {
        const { tokenizer, vocabulary } = trainBpe(texts, 270)
        const { merges } = (tokenizer as { model: { merges: [string, string][] } }).model
        assert.deepEqual(merges, plainBpe(texts, 270))
        assert.equal(vocabulary, 256 + merges.length)
      })
    )
  })

  it('is shorter than bytes, and no token is longer than a word', () => {
    const tokenizer = bpe(700)
    const bytes = utf8.encode(sample)
    assert.ok(tokenizer.encode(bytes).length < bytes.length / 2)
    assert.equal(tokenizer.vocabulary, 700)
  })

  it('ends early where no pair is seen twice', () => {
    assert.equal(trainBpe(['abc'], 1000).vocabulary, 256)
  })

  it('encodes a long text in pieces: every piece gives its text back', () => {
    const tokenizer = bpe()
    const long = mixed.repeat(20)
    assert.ok(long.length > 100_000)
    assert.equal(decoded(tokenizer, encoded(tokenizer, long)), long)
    const unbroken = '世'.repeat(50_000)
    assert.equal(decoded(tokenizer, encoded(tokenizer, unbroken)), unbroken)
  })

  /** Counts everything again after each merge. */
  function plainBpe(texts: string[], vocabulary: number): [string, string][] {
    let words = texts.flatMap(text => [...text.matchAll(/ ?[a-c]+|\s+(?!\S)|\s+/g)].map(([word]) => [...Buffer.from(word)]))
    const names = new Map<number, string>()
    const nameOf = (id: number) => names.get(id) ?? (id === 32 ? 'Ġ' : String.fromCharCode(id))
    const merges: [string, string][] = []
    for (let next = 256; next < vocabulary; next++) {
      const counts = new Map<string, number>()
      for (const word of words)
        for (let at = 0; at + 1 < word.length; at++) {
          const key = `${word[at]},${word[at + 1]}`
          counts.set(key, (counts.get(key) ?? 0) + 1)
        }
      const pairs = [...counts].map(([key, count]) => ({ count, pair: key.split(',').map(Number) as [number, number] }))
      pairs.sort((a, b) => b.count - a.count || a.pair[0] - b.pair[0] || a.pair[1] - b.pair[1])
      const best = pairs[0]
      if (best === undefined || best.count < 2) break
      const [left, right] = best.pair
      merges.push([nameOf(left), nameOf(right)])
      names.set(next, nameOf(left) + nameOf(right))
      words = words.map(word => {
        const after: number[] = []
        for (let at = 0; at < word.length; at++) {
          const here = word[at] === left && word[at + 1] === right
          after.push(here ? next : word[at]!)
          if (here) at++
        }
        return after
      })
    }
    return merges
  }
})

describe('tokenizer.json', () => {
  it('of the byte tokenizer is bytes again, with the ids in place', () => {
    assert.equal(openTokenizer(byteTokenizerJson(), 'x'), byteTokenizer)
    assert.equal(openTokenizer(`${byteTokenizerJson()}\n`, 'x'), byteTokenizer)
    assert.equal(openTokenizer(null, 'x'), byteTokenizer)
  })

  for (const [why, text] of [
    ['is not JSON', '{'],
    ['has no model', '{"added_tokens":[]}'],
    ['has no vocabulary', '{"model":{"type":"BPE","vocab":{},"merges":[]},"added_tokens":[]}']
  ] as const) {
    it(`that ${why} is refused, naming the file`, () => {
      assert.throws(() => openTokenizer(text, 'some/tokenizer.json'), {
        code: 'TOKENIZER_INVALID',
        message: /some\/tokenizer\.json/
      })
    })
  }

  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
  const unigram = (vocabulary: string[], more: object = {}) => {
    const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true }
    const decoder = { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, metaspace] }
    const vocab = ['<unk>', ...vocabulary].map((token, id) => [token, -id / 1000])
    const model = { type: 'Unigram', unk_id: 0, vocab, ...more }
    const rest = { added_tokens: [], normalizer: null, post_processor: null }
    return openTokenizer(JSON.stringify({ ...rest, pre_tokenizer: metaspace, decoder, model }), 'unigram')
  }

  it('may have more tokens than a call has room for arguments, as Llama 3 has', () => {
    assert.equal(unigram(Array.from({ length: 150_000 }, (_, place) => `t${place}`)).vocabulary, 150_001)
  })

  it('of a Unigram with the bytes says what it does not know as bytes; without them, or without the option, as unknown', () => {
    const known = ['▁', 'a', 'b']
    const all = unigram([...known, ...bytes], { byte_fallback: true })
    const idOf = (byte: number) => 1 + known.length + byte
    assert.deepEqual(encoded(all, 'a世界b'), [1, 2, ...[...utf8.encode('世界')].map(idOf), 3])
    assert.equal(decoded(all, encoded(all, 'a世界b')), 'a世界b')
    for (const other of [unigram([...known, ...bytes]), unigram([...known, ...bytes.slice(1)], { byte_fallback: true })])
      assert.deepEqual(encoded(other, 'a世界b'), [1, 2, 0, 3])
  })

  it('goes on with a text: the space before its first word is there, and each token is given as in the whole', () => {
    const tokenizer = unigram(['▁', '▁one', '▁two', ...bytes], { byte_fallback: true })
    const tokens = encoded(tokenizer, 'one two 世  one two')
    assert.equal(decoded(tokenizer, tokens), 'one two 世  one two')
    for (let cut = 1; cut < 3; cut++) {
      const decoder = tokenizer.decoder(tokens.slice(0, cut))
      const given = tokens.slice(cut).map(token => decoder.push(token))
      assert.equal(given.join('') + decoder.end(), ['', ' two 世  one two', ' 世  one two'][cut])
    }
  })

  it('has the ids that the tokenizers library gives', function () {
    if (pythonMissing !== null) {
      console.log(`      skipped: ${pythonMissing}`)
      this.skip()
    }
    const folder = mkdtempSync(join(tmpdir(), 'worldlm-tokenizer-'))
    try {
      const script = new URL('./tokenizer_json.py', import.meta.url)
      const input = (value: unknown) => {
        writeFileSync(join(folder, 'value.input.json'), JSON.stringify(value))
        return join(folder, 'value.input.json')
      }
      const ours = join(folder, 'bpe.json')
      writeFileSync(ours, JSON.stringify(trainBpe([sample], 600).tokenizer))
      const llama = join(folder, 'llama.json')
      runPython(script, ['make', llama, input([sample, 'Grüße an alle'])])
      for (const file of [ours, llama]) {
        const want = runPython<{ ids: number[]; text: string }>(script, ['encode', input({ file, text: mixed })])
        const tokenizer = openTokenizer(readFileSync(file, 'utf8'), file)
        const tokens = encoded(tokenizer, mixed)
        assert.deepEqual(tokens, want.ids, file)
        assert.equal(decoded(tokenizer, tokens), want.text, file)
        const bytes = tokens.reduce((sum, token) => sum + tokenizer.bytesOf(token), 0)
        assert.equal(bytes, Buffer.byteLength(mixed), file)
      }
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
