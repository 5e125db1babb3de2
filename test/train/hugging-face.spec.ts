import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportModel, importModel } from '../../src/cli/model.ts'
import { trainBpe } from '../../src/data/bpe.ts'
import { byteTokenizerJson } from '../../src/data/byte-level.ts'
import { Generator } from '../../src/engine/onnx/generator.ts'
import { Random } from '../../src/math/random.ts'
import { initialParameters } from '../../src/model/initial.ts'
import type { ModelConfig } from '../../src/model/layout.ts'
import { plainLayout } from '../../src/train/hugging-face-folder.ts'
import { readModel, type StandaloneModel, writeModel } from '../../src/train/model-source.ts'
import { TensorFile, writeTensorFile } from '../../src/engine/tensor-file.ts'
import { families, micro } from '../engine/models.ts'
import { pythonMissing, runPython } from '../python.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'worldlm-hugging-face-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function randomModel(config: Partial<ModelConfig> = {}, seed = 0): StandaloneModel {
  const whole: ModelConfig = { ...micro, vocabulary: 256, context: 16, ...config }
  const layout = plainLayout(whole)
  const random = new Random(seed)
  return {
    config: whole,
    parameters: initialParameters(layout, seed).map(value => value + 0.1 * random.normal()),
    tokenizer: null
  }
}

describe('a model goes out and comes back', () => {
  for (const { why, config } of [{ why: 'defaults', config: {} as Partial<ModelConfig> }, ...families]) {
    it(`to the bit, as a folder and as a file: ${why}`, () => {
      const model = randomModel(config)
      for (const name of ['folder', 'file.safetensors']) {
        writeModel(join(folder, name), model, 'f32')
        const back = readModel(join(folder, name))
        assert.deepEqual(back.config, model.config)
        assert.deepEqual(back.parameters, model.parameters)
      }
    })
  }

  it('in shards with an index, which replace what was exported there before', () => {
    const path = join(folder, 'shards')
    const model = randomModel({ tiedHead: false })
    const weights = () => readdirSync(path).filter(name => name.startsWith('model'))
    writeModel(path, model, 'f32', 9_000)
    assert.deepEqual(weights(), [
      ...[1, 2, 3].map(place => `model-0000${place}-of-00003.safetensors`),
      'model.safetensors.index.json'
    ])
    assert.deepEqual(readModel(path).parameters, model.parameters)
    const { metadata, weight_map } = JSON.parse(readFileSync(join(path, 'model.safetensors.index.json'), 'utf8'))
    assert.equal(metadata.total_size, model.parameters.length * 4)
    assert.equal(weight_map['lm_head.weight'], 'model-00003-of-00003.safetensors')
    const other = randomModel({ tiedHead: false }, 1)
    writeModel(path, other, 'bf16')
    assert.deepEqual(weights(), ['model.safetensors'])
    // A tensor larger than a shard has one of its own.
    writeModel(path, other, 'f32', 4)
    assert.equal(weights().length, plainLayout(other.config).tensors.length + 1)
    assert.deepEqual(readModel(path).parameters, other.parameters)
  })

  it('rounded to bfloat16, and no further', () => {
    const model = randomModel()
    writeModel(join(folder, 'once'), model, 'bf16')
    const once = readModel(join(folder, 'once'))
    for (const [place, value] of once.parameters.entries())
      assert.ok(Math.abs(value - model.parameters[place]!) <= Math.abs(model.parameters[place]!) * 2 ** -8)
    writeModel(join(folder, 'twice'), once, 'bf16')
    assert.deepEqual(readModel(join(folder, 'twice')).parameters, once.parameters)
  })

  it('with its tokenizer, and with a shorter window where one is asked for', () => {
    const model = { ...randomModel(), tokenizer: '{"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}' }
    for (const name of ['folder', 'file.safetensors']) {
      writeModel(join(folder, name), model, 'f32')
      const back = readModel(join(folder, name), 8)
      assert.equal(back.tokenizer?.trim(), model.tokenizer)
      assert.equal(back.config.context, 8)
      assert.throws(() => readModel(join(folder, name), 17), { code: 'MODEL_CONFIG', message: /at most, 17 were asked for/ })
    }
    writeModel(join(folder, 'file.safetensors'), { ...model, tokenizer: null }, 'f32')
    assert.equal(readModel(join(folder, 'file.safetensors')).tokenizer, null)
  })
})

describe('a checkpoint that cannot be used is refused by name', () => {
  const config = (change: object) => (path: string) => {
    const file = join(path, 'config.json')
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }))
  }
  const weights = (change: (tensors: Map<string, { shape: number[]; data: Float32Array }>) => void) => (path: string) => {
    const file = new TensorFile(join(path, 'model.safetensors'))
    const tensors = new Map(
      Object.entries(file.header.tensors).map(([name, { shape }]) => {
        const data = new Float32Array(shape.reduce((product, size) => product * size, 1))
        file.read(name, shape, data)
        return [name, { shape, data }]
      })
    )
    file.close()
    change(tensors)
    const list = [...tensors].map(([name, { shape, data }]) => ({ name, shape, floats: () => data }))
    writeTensorFile(join(path, 'model.safetensors'), list, 'f32')
  }
  const norm = 'model.norm.weight'
  const cases: { why: string; spoil: (path: string) => void; code: string; says: RegExp }[] = [
    { why: 'another architecture', spoil: config({ model_type: 'gpt2' }), code: 'MODEL_ARCHITECTURE', says: /"gpt2"/ },
    { why: 'biases', spoil: config({ attention_bias: true }), code: 'MODEL_ARCHITECTURE', says: /biases/ },
    { why: 'another activation', spoil: config({ hidden_act: 'gelu' }), code: 'MODEL_ARCHITECTURE', says: /gelu/ },
    { why: 'a sliding window', spoil: config({ sliding_window: 4 }), code: 'MODEL_ARCHITECTURE', says: /sliding window of 4/ },
    {
      why: 'a sliding window that is not stated',
      spoil: config({ model_type: 'mistral', max_position_embeddings: 8192 }),
      code: 'MODEL_ARCHITECTURE',
      says: /sliding window of 4096 tokens, and a context of 8192/
    },
    {
      why: 'an epsilon that is no number',
      spoil: config({ rms_norm_eps: '1e-5' }),
      code: 'MODEL_CONFIG',
      says: /rms_norm_eps/
    },
    {
      why: 'a RoPE that is a word',
      spoil: config({ rope_parameters: 'llama3' }),
      code: 'MODEL_CONFIG',
      says: /RoPE is "llama3"/
    },
    { why: 'a head that is turned in part', spoil: config({ partial_rotary_factor: 0.5 }), code: 'MODEL_ROPE', says: /0\.5/ },
    {
      why: 'a folder in the place of weights',
      spoil: path => {
        rmSync(join(path, 'model.safetensors'))
        mkdirSync(join(path, 'model.safetensors'))
      },
      code: 'MODEL_MISSING',
      says: /it is a folder/
    },
    {
      why: 'an unknown RoPE',
      spoil: config({ rope_parameters: { rope_type: 'yarn', factor: 4 } }),
      code: 'MODEL_ROPE',
      says: /"yarn"/
    },
    { why: 'another head width', spoil: config({ head_dim: 16 }), code: 'MODEL_CONFIG', says: /head_dim is 16/ },
    { why: 'no width', spoil: config({ hidden_size: '8' }), code: 'MODEL_CONFIG', says: /hidden_size/ },
    {
      why: 'wrong shapes',
      spoil: config({ vocab_size: 300 }),
      code: 'MODEL_SHAPE',
      says: /embed_tokens.*\[256,8\].*\[300,8\]/
    },
    { why: 'no config.json', spoil: path => rmSync(join(path, 'config.json')), code: 'MODEL_UNKNOWN', says: /config\.json/ },
    {
      why: 'a config.json that is none',
      spoil: path => writeFileSync(join(path, 'config.json'), '{'),
      code: 'MODEL_CONFIG',
      says: /not JSON/
    },
    {
      why: 'no weights',
      spoil: path => rmSync(join(path, 'model.safetensors')),
      code: 'MODEL_MISSING',
      says: /model\.safetensors/
    },
    {
      why: 'a missing shard',
      spoil: path => {
        renameSync(join(path, 'model.safetensors'), join(path, 'model-00001-of-00002.safetensors'))
        const map = { [norm]: 'model-00001-of-00002.safetensors', 'lm_head.weight': 'model-00002-of-00002.safetensors' }
        writeFileSync(join(path, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }))
      },
      code: 'MODEL_MISSING',
      says: /model-00002-of-00002/
    },
    {
      why: 'an index that reaches out of the folder',
      spoil: path =>
        writeFileSync(
          join(path, 'model.safetensors.index.json'),
          JSON.stringify({ weight_map: { [norm]: '../../etc/passwd' } })
        ),
      code: 'MODEL_CONFIG',
      says: /as a shard/
    },
    { why: 'a missing tensor', spoil: weights(tensors => tensors.delete(norm)), code: 'MODEL_DAMAGED', says: /model\.norm/ },
    {
      why: 'a tensor that no plain Llama has',
      spoil: weights(tensors => tensors.set('model.layers.0.self_attn.q_norm.weight', tensors.get(norm)!)),
      code: 'MODEL_ARCHITECTURE',
      says: /q_norm/
    },
    {
      why: 'NaN weights',
      spoil: weights(tensors => tensors.get(norm)!.data.fill(Number.NaN, 3, 4)),
      code: 'MODEL_NOT_FINITE',
      says: /model\.norm\.weight holds NaN at place 3/
    },
    {
      why: 'a file cut short',
      spoil: path =>
        writeFileSync(join(path, 'model.safetensors'), readFileSync(join(path, 'model.safetensors')).subarray(0, -8)),
      code: 'MODEL_DAMAGED',
      says: /bytes/
    }
  ]
  for (const { why, spoil, code, says } of cases) {
    it(`${why}: ${code}`, () => {
      const path = join(folder, 'model')
      writeModel(path, randomModel(), 'f32')
      spoil(path)
      assert.throws(() => readModel(path), { code, message: says })
    })
  }

  it('but not for what is stated to be absent, nor for a copy of its tied head', () => {
    const model = randomModel()
    const path = join(folder, 'model')
    writeModel(path, model, 'f32')
    config({ quantization_config: null, sliding_window: null, partial_rotary_factor: 1 })(path)
    weights(tensors => tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight')!))(path)
    assert.deepEqual(readModel(path), { ...model, tokenizer: `${byteTokenizerJson()}\n` })
  })

  it('nor where windows are no longer than the sliding one', () => {
    const model = randomModel()
    const path = join(folder, 'model')
    writeModel(path, model, 'f32')
    config({ model_type: 'mistral', max_position_embeddings: 32_768, sliding_window: 4096 })(path)
    assert.equal(readModel(path, 4096).config.context, 4096)
    config({ sliding_window: undefined })(path)
    assert.equal(readModel(path, 64).config.context, 64)
    config({ sliding_window: null })(path)
    assert.equal(readModel(path).config.context, 32_768)
  })

  it('and a head that differs from the embedding is read, whatever config.json says of it', () => {
    const model = randomModel({ tiedHead: false })
    const path = join(folder, 'model')
    writeModel(path, model, 'f32')
    config({ tie_word_embeddings: true })(path)
    const back = readModel(path)
    assert.deepEqual([back.config, back.parameters], [model.config, model.parameters])
  })

  it('with a tokenizer that it cannot go with: nothing is written', async () => {
    const silent = { json: false, line: () => undefined, document: () => undefined, failure: () => undefined }
    const path = join(folder, 'model')
    for (const [tokenizer, code] of [
      ['{', 'TOKENIZER_INVALID'],
      [JSON.stringify(trainBpe(['abababab'], 257).tokenizer), 'TOKENIZER_TOO_LARGE']
    ] as const) {
      writeModel(path, { ...randomModel(), tokenizer }, 'f32')
      for (const make of [importModel, exportModel])
        await assert.rejects(make(path, { out: join(folder, 'out') }, silent), { code })
    }
    assert.deepEqual(readdirSync(folder), ['model'])
  })

  it('a safetensors file without a configuration: MODEL_UNKNOWN', () => {
    writeTensorFile(join(folder, 'x.safetensors'), [], 'f32')
    assert.throws(() => readModel(join(folder, 'x.safetensors')), { code: 'MODEL_UNKNOWN' })
  })

  it('leaves what lies at the target as it was', () => {
    mkdirSync(join(folder, 'out'))
    assert.throws(() => readModel(join(folder, 'nowhere')), { code: 'MODEL_UNKNOWN' })
    assert.deepEqual(readdirSync(join(folder, 'out')), [])
  })
})

describe('transformers', () => {
  const small = {
    vocab_size: 256,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: 128,
    tie_word_embeddings: true,
    rms_norm_eps: 1e-5
  }
  const llama3 = {
    rope_type: 'llama3',
    rope_theta: 500_000,
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 64
  }
  const made = [
    { why: 'tied, f32', config: small, dtype: 'float32', shard: '1GB' },
    { why: 'untied, bf16, shards', config: { ...small, tie_word_embeddings: false }, dtype: 'bfloat16', shard: '20KB' },
    { why: 'grouped queries, f16', config: { ...small, num_key_value_heads: 2 }, dtype: 'float16', shard: '1GB' },
    {
      why: 'all of Llama 3, in shards',
      config: { ...small, num_key_value_heads: 1, tie_word_embeddings: false, rope_parameters: llama3, rms_norm_eps: 1e-6 },
      dtype: 'float32',
      shard: '20KB'
    },
    {
      why: 'linear scaling',
      config: { ...small, rope_parameters: { rope_type: 'linear', rope_theta: 10_000, factor: 4 } },
      dtype: 'float32',
      shard: '1GB'
    }
  ]
  const tokens = [1, 7, 30, 2, 9, 200, 13, 13, 250, 0, 99, 5]
  const text = 'Grüße, 世界!\n\tfor (let i = 0; i < 10; i++) {}\n'

  async function logitsOf({ config, parameters }: StandaloneModel): Promise<Float32Array> {
    const generator = await Generator.create(config, parameters, 1)
    const logits = await generator.feed(tokens, 'each')
    await generator.dispose()
    return logits
  }

  function assertEqual(mine: Float32Array, theirs: number[][], what: string): void {
    const want = theirs.flat()
    assert.equal(mine.length, want.length)
    const spread = Math.max(...want) - Math.min(...want)
    assert.ok(spread > 0.5, `logits that are all alike prove nothing: ${spread}`)
    const worst = want.reduce((most, value, place) => Math.max(most, Math.abs(value - mine[place]!)), 0)
    assert.ok(worst < 1e-4, `${what}: logits differ by ${worst}`)
  }

  it('and we give equal logits, whoever made the model', async function () {
    if (pythonMissing !== null) {
      console.log(`      skipped: ${pythonMissing}`)
      this.skip()
    }
    this.timeout(120_000)
    const script = new URL('./hugging_face.py', import.meta.url)
    const call = <Result>(action: string, input: unknown): Result => {
      writeFileSync(join(folder, 'input.json'), JSON.stringify(input))
      return runPython<Result>(script, [action, join(folder, 'input.json')])
    }
    const cases = made.map((one, seed) => ({ ...one, seed, folder: join(folder, `made-${seed}`) }))
    const theirs = call<Record<string, number[][]>>('make', cases)
    const out: { folder: string; why: string; mine: Float32Array }[] = []
    for (const { why, folder: path, shard } of cases) {
      assert.equal(readdirSync(path).includes('model.safetensors.index.json'), shard === '20KB')
      const model = readModel(path)
      const mine = await logitsOf(model)
      assertEqual(mine, theirs[path]!, `in, ${why}`)
      const exported = `${path}-out`
      writeModel(exported, model, 'f32', shard === '20KB' ? 20_000 : undefined)
      assert.equal(readdirSync(exported).includes('model.safetensors.index.json'), shard === '20KB')
      out.push({ folder: exported, why, mine })
    }
    const back = call<Record<string, { logits: number[][]; ids: number[]; text: string }>>(
      'read',
      out.map(one => one.folder)
    )
    for (const { folder: path, why, mine } of out) {
      const read = back[path]!
      assertEqual(mine, read.logits, `out, ${why}`)
      assert.deepEqual(read.ids, [...Buffer.from(text)], 'the byte tokenizer has bytes as ids')
      assert.equal(read.text, text)
    }
  })
})
