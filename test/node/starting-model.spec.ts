import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pino from 'pino'
import { readConfig } from '../../src/config.ts'
import { trainBpe } from '../../src/data/bpe.ts'
import { initialParameters } from '../../src/model/initial.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { initNodeFolder, writeCharter } from '../../src/node/genesis.ts'
import { openModel } from '../../src/cli/model.ts'
import { readNodeModel } from '../../src/node/node-model.ts'
import { startNode, type RunningNode } from '../../src/node/node.ts'
import { Blobs } from '../../src/node/blobs.ts'
import { addStart, prepareStart } from '../../src/node/starting-model.ts'
import { plainLayout } from '../../src/train/hugging-face-folder.ts'
import { readModelFile, writeModelFile } from '../../src/train/model-file.ts'
import { limits } from '../../src/wire/limits.ts'
import { readModel, type StandaloneModel, writeModel } from '../../src/train/model-source.ts'
import { micro } from '../engine/models.ts'
import { temporaryFolder } from '../temporary.ts'

const sample = readFileSync(new URL('../../src/data/text-tree.ts', import.meta.url), 'utf8')

/** A checkpoint with all that Llama varies, and a tokenizer of its own. */
function checkpoint(): StandaloneModel {
  const { tokenizer, vocabulary } = trainBpe([sample], 300)
  const config = { ...micro, width: 16, heads: 4, kvHeads: 2, tiedHead: false, vocabulary, context: 16 }
  return { config, parameters: initialParameters(plainLayout(config), 77), tokenizer: JSON.stringify(tokenizer) }
}

describe('a federation that begins with a checkpoint', () => {
  const root = temporaryFolder()

  async function makeNode(name: string, bootstrap: string[]): Promise<NodeFolder> {
    const data = join(root, `${name}-text`)
    mkdirSync(data, { recursive: true })
    writeFileSync(join(data, 'train.txt'), sample.repeat(4))
    writeFileSync(join(data, 'valid.txt'), sample)
    const folder = new NodeFolder(join(root, name))
    await initNodeFolder(folder, {
      name,
      data,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap,
      api: { host: '127.0.0.1', port: 0 },
      engine: { name: 'onnx', threads: 1 },
      validationTokens: 64
    })
    return folder
  }

  it('gives every node the same bits to begin with, and the tokenizer; what they trained goes out again', async function () {
    this.timeout(90_000)
    writeModel(join(root, 'checkpoint'), checkpoint(), 'f32')
    const model = readModel(join(root, 'checkpoint'))
    const founder = await makeNode('founder', [])
    const fields = await addStart(founder, { model })
    const timings = { electionTimeoutMs: 1000, heartbeatMs: 200, presenceMs: 500, startTimeoutMs: 60_000, deadlineMs: 60_000 }
    const { id, charter } = writeCharter(
      founder,
      { name: 'world', ...fields, timings, startMembers: 2, algorithm: { rounds: 1, steps: 2, batch: 2 } },
      null
    )
    assert.ok(charter.initial !== undefined && charter.tokenizer !== undefined)
    assert.deepEqual(charter.model, model.config)
    const start = (folder: NodeFolder) =>
      startNode({ folder, config: readConfig(folder.config, {}, { federations: [{ id }] }), log: pino({ level: 'silent' }) })
    const nodes: RunningNode[] = [await start(founder)]
    try {
      const newcomer = await makeNode('newcomer', nodes[0]!.addresses)
      nodes.push(await start(newcomer))
      const done = () => nodes.every(node => node.status().phase === 'finished')
      for (let tries = 0; tries < 300 && !done(); tries++) await sleep(200)
      assert.ok(done(), `phases ${nodes.map(node => node.status().phase)}`)
      for (const folder of [founder, newcomer]) {
        assert.deepEqual(readFileSync(folder.model('initial')), readFileSync(join(founder.blobs, charter.initial)))
        assert.equal(readFileSync(join(folder.blobs, charter.tokenizer), 'utf8'), model.tokenizer)
        assert.ok(existsSync(folder.model('personal')))
      }
      // What the daemon was told by a flag, its file says to who reads its model.
      writeFileSync(newcomer.config, `${readFileSync(newcomer.config, 'utf8')}federations: [{ id: ${id} }]\n`)
      const trained = await readNodeModel(newcomer.root)
      const { context } = trained.config
      assert.equal((await openModel(newcomer.root, { context: context - 1 })).config.context, context - 1)
      await assert.rejects(openModel(newcomer.root, { context: context + 1 }), { code: 'MODEL_CONFIG' })
      assert.deepEqual([trained.config, trained.tokenizer], [model.config, model.tokenizer])
      assert.notDeepEqual(trained.parameters, model.parameters)
      // Perplexity is per token, bits are per byte: a token of this tokenizer is longer than a byte.
      const { perplexity, bitsPerByte } = nodes[1]!.status().evaluations.personal!
      assert.ok(bitsPerByte < Math.log2(perplexity) * 0.95, `${bitsPerByte} bits a byte at perplexity ${perplexity}`)
    } finally {
      await Promise.all(nodes.map(node => node.stop()))
    }
  })

  it('is refused by its field where the record of a charter cannot hold what it says', async () => {
    const folder = await makeNode('refused', [])
    for (const [fields, message] of [
      [{ timings: { electionTimeoutMs: 1 } }, /timings\.heartbeatMs/],
      [{ egress: [{ tensor: 'keys', allow: false, reason: 'x'.repeat(1000) }] }, /egress\.0\.reason/]
    ] as const)
      assert.throws(() => writeCharter(folder, { name: 'world', ...fields }, null), { code: 'CHARTER_INVALID', message })
  })

  it('is refused by the founder when the tokenizer has more tokens than the model knows', async () => {
    const folder = await makeNode('other', [])
    const model = checkpoint()
    const tokenizer = JSON.stringify(trainBpe([sample], 400).tokenizer)
    await assert.rejects(addStart(folder, { model: { ...model, tokenizer } }), { code: 'TOKENIZER_TOO_LARGE' })
  })

  it('takes the vocabulary of a tokenizer for a preset, and reads the model of a node that has it', async () => {
    const folder = await makeNode('preset', [])
    const tokenizer = JSON.stringify(trainBpe([sample], 333).tokenizer)
    const fields = await addStart(folder, { tokenizer, preset: 'tiny' })
    assert.equal(fields.model?.vocabulary, 333)
    assert.equal(fields.initial, undefined)
    const { id, charter } = writeCharter(folder, { name: 'world', ...fields }, null)
    const child = writeCharter(folder, { name: 'child' }, { id, charter })
    assert.equal(child.charter.tokenizer, fields.tokenizer)
    await assert.rejects(readNodeModel(folder.root), { code: 'CHARTER_MISSING' })
  })

  it('is not begun with where its founder named what is no model of the charter, or too long a tokenizer; nothing of it is left', async () => {
    const folder = await makeNode('begins', [])
    const { blobs } = await Blobs.open(folder.blobs)
    const { config, parameters } = checkpoint()
    const layout = plainLayout(config)
    const put = async (floats: Float32Array, of = layout) => {
      writeModelFile(folder.model('made'), of, [floats])
      return (await blobs.put(folder.model('made'))).link
    }
    const { charter, id } = writeCharter(folder, { name: 'world', model: config }, null)
    const begin = (facts: object, store: object = blobs) =>
      prepareStart({ folder, blobs: store } as never, { id, charter: { ...charter, ...facts }, layout }, () => false)
    const spoiled = [0, layout.floats - 1].map(place => parameters.with(place, Number.NaN))
    for (const floats of spoiled) await assert.rejects(begin({ initial: await put(floats) }), { code: 'MODEL_NOT_FINITE' })
    const wider = plainLayout({ ...config, hidden: config.hidden + 8 })
    const other = await put(initialParameters(wider, 1), wider)
    await assert.rejects(begin({ initial: other }), { code: 'MODEL_DAMAGED' })
    assert.equal(existsSync(folder.model('initial')), false)
    assert.equal(await begin({ initial: await put(parameters) }), null)
    const read = new Float32Array(layout.floats)
    readModelFile(folder.model('initial'), layout, [read])
    assert.deepEqual(read, parameters)
    for (const [bytes, code] of [
      [limits.tokenizerBytesMax, null],
      [limits.tokenizerBytesMax + 1, 'TOKENIZER_INVALID']
    ] as const) {
      const store = { has: () => true, path: () => 'there', bytes: () => bytes }
      if (code === null) assert.equal(await begin({ tokenizer: 'bafyT' }, store), 'there')
      else await assert.rejects(begin({ tokenizer: 'bafyT' }, store), { code })
    }
  })
})
