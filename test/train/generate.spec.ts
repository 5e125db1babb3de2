import assert from 'node:assert/strict'
import fc from 'fast-check'
import { trainBpe } from '../../src/data/bpe.ts'
import { byteTokenizer, openTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts'
import { createEngine } from '../../src/engine/create.ts'
import { Generator } from '../../src/engine/onnx/generator.ts'
import { Random } from '../../src/math/random.ts'
import { generate, scoreText } from '../../src/train/generate.ts'
import { sampleToken } from '../../src/train/sampling.ts'
import { engineOptions, randomBatch, testParameters } from '../engine/models.ts'

describe('choosing a token', () => {
  const logits = Float32Array.of(0, Math.log(4), Math.log(2), Math.log(1), Math.log(2))
  const drawn = (options: { temperature: number; topP: number }, count = 4000) => {
    const random = new Random('sampling')
    const counts = new Array<number>(logits.length).fill(0)
    for (let one = 0; one < count; one++) counts[sampleToken(logits, options, random)]!++
    return counts.map(times => times / count)
  }

  it('takes the likeliest at temperature 0, the first of equals', () => {
    assert.equal(sampleToken(logits, { temperature: 0, topP: 1 }, new Random(0)), 1)
    assert.equal(sampleToken(Float32Array.of(1, 3, 3), { temperature: 0, topP: 1 }, new Random(0)), 1)
  })

  it('draws by probability, which the temperature sharpens', () => {
    for (const [temperature, want] of [
      [1, [1, 4, 2, 1, 2].map(weight => weight / 10)],
      [0.5, [1, 16, 4, 1, 4].map(weight => weight / 26)]
    ] as const) {
      for (const [token, share] of drawn({ temperature, topP: 1 }).entries())
        assert.ok(Math.abs(share - want[token]!) < 0.03, `temperature ${temperature}, token ${token}: ${share}`)
    }
  })

  it('draws among the likeliest that together have top-p, ties by id, and of them by their shares', () => {
    const shares = drawn({ temperature: 1, topP: 0.55 })
    assert.deepEqual(
      shares.map(share => share > 0),
      [false, true, true, false, false]
    )
    assert.ok(Math.abs(shares[1]! - 4 / 6) < 0.03)
    assert.equal(drawn({ temperature: 1, topP: 0 })[1], 1)
  })

  it('never gives what cannot come', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(-Infinity, -1, 0, 2), { minLength: 1, maxLength: 9 }), fc.nat(), (values, seed) => {
        if (!values.some(Number.isFinite)) return
        const token = sampleToken(
          Float32Array.from(values),
          { temperature: 1, topP: seed % 2 === 0 ? 1 : 0.9 },
          new Random(seed)
        )
        assert.ok(Number.isFinite(values[token]))
      })
    )
  })
})

describe('generating text', () => {
  const greedy = { temperature: 0, topP: 1, seed: 0 }
  const model = async (vocabulary: number, context = 24) => {
    const options = engineOptions({ vocabulary, context, width: 16, heads: 2 }, { batch: 1 })
    const parameters = Float32Array.from(testParameters(options, 5))
    return { options, generator: await Generator.create(options.layout.config, parameters, 1), parameters }
  }
  const collect = async (generator: Generator, tokenizer: Tokenizer, prompt: string, options: object) => {
    const tokens: number[] = []
    let text = ''
    for await (const part of generate(generator, tokenizer, prompt, { tokens: 12, ...greedy, ...options })) {
      if (part.token !== null) tokens.push(part.token)
      text += part.text
    }
    return { tokens, text }
  }

  it('gives at temperature 0 what the whole forward pass finds likeliest, each time anew', async () => {
    const { generator } = await model(256)
    const { tokens } = await collect(generator, byteTokenizer, 'abc', {})
    const text = [...Buffer.from('abc')]
    for (const token of tokens) {
      generator.truncate(0)
      const logits = await generator.feed(text)
      assert.equal(token, sampleToken(logits, greedy, new Random(0)))
      text.push(token)
    }
    assert.equal(tokens.length, 12)
    await generator.dispose()
  })

  it('is the same for the same seed, and another for another', async () => {
    const { generator } = await model(256)
    const draw = (seed: number) => collect(generator, byteTokenizer, 'abc', { temperature: 2, seed })
    const first = await draw(1)
    assert.deepEqual(await draw(1), first)
    assert.notDeepEqual((await draw(2)).tokens, first.tokens)
    await generator.dispose()
  })

  it('goes on past the context, takes prompts longer than it, and none', async () => {
    const { generator } = await model(256, 8)
    for (const prompt of ['abc', 'x'.repeat(50), ''])
      assert.equal((await collect(generator, byteTokenizer, prompt, { tokens: 30 })).tokens.length, 30)
    await generator.dispose()
  })

  it('never gives a token that the tokenizer does not know', async () => {
    const { generator } = await model(600)
    const tokenizer = openTokenizer(JSON.stringify(trainBpe(['abab abab'], 300).tokenizer), 'bpe')
    const { tokens } = await collect(generator, tokenizer, 'abab', { temperature: 3, tokens: 40 })
    assert.ok(tokens.every(token => token < tokenizer.vocabulary))
    await generator.dispose()
  })

  it('goes on with the prompt, the space between them included, and refuses one without a token', async () => {
    const { generator } = await model(256)
    const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true }
    const parts = { added_tokens: [], normalizer: null, post_processor: null, pre_tokenizer: metaspace, decoder: metaspace }
    const words = ['▁a', '▁b', '▁c'].map((token, id) => [token, -id])
    const spaced = openTokenizer(JSON.stringify({ ...parts, model: { type: 'Unigram', unk_id: 0, vocab: words } }), 'spaced')
    const { text } = await collect(generator, spaced, 'a b', { tokens: 3 })
    assert.match(text, /^( [abc]){3}$/)
    const vocab = { '[UNK]': 0, a: 1 }
    const pieces = { ...parts, pre_tokenizer: { type: 'BertPreTokenizer' }, decoder: { type: 'WordPiece', prefix: '##' } }
    const wordPiece = { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', vocab }
    const dropping = openTokenizer(JSON.stringify({ ...pieces, model: wordPiece }), 'dropping')
    for (const prompt of ['', ' ']) await assert.rejects(collect(generator, dropping, prompt, {}), { code: 'PROMPT_EMPTY' })
    await generator.dispose()
  })

  it('stops when it is told to', async () => {
    const { generator } = await model(256)
    const abort = new AbortController()
    let made = 0
    await assert.rejects(
      (async () => {
        for await (const _ of generate(generator, byteTokenizer, 'a', { tokens: 50, ...greedy, signal: abort.signal }))
          if (++made === 3) abort.abort()
      })(),
      { name: 'AbortError' }
    )
    assert.equal(made, 3)
    await generator.dispose()
  })

  it('says so when the weights are no numbers', async () => {
    const { generator, parameters } = await model(256)
    parameters.fill(Number.NaN)
    await assert.rejects(collect(generator, byteTokenizer, 'a', {}), { code: 'GENERATION_FAILED' })
    await generator.dispose()
  })
})

describe('scoring text', () => {
  it('is what the engine’s evaluation says, per token and per byte', async () => {
    const options = engineOptions({ vocabulary: 256 }, { batch: 1 })
    const parameters = Float32Array.from(testParameters(options, 6))
    const batch = randomBatch(options, 6)
    const engine = await createEngine('reference', options)
    await engine.load(parameters)
    const text = Uint8Array.of(...batch.inputs, batch.targets.at(-1)!)
    const shifted = { inputs: batch.inputs, targets: Int32Array.from(text.subarray(1)) }
    const want = (await engine.evaluate(shifted)).reduce((sum, value) => sum + value, 0)
    const generator = await Generator.create(options.layout.config, parameters, 1)
    const twoBytes = { ...byteTokenizer, bytesOf: () => 2 }
    const score = await scoreText(generator, twoBytes, text, [0])
    const count = batch.inputs.length
    assert.ok(Math.abs(score.perplexity - Math.exp(want / count)) < 1e-3)
    assert.ok(Math.abs(score.bitsPerByte - want / (2 * count) / Math.LN2) < 1e-5)
    assert.deepEqual([score.tokens, score.bytes], [count, 2 * count])
    await generator.dispose()
  })
})
