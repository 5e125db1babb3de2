/** Local training: the schedule, equal bits for equal seeds, and a fixed validation set. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { WorldlmError } from '../../src/errors.ts'
import { initialParameters } from '../../src/model/initial.ts'
import { createLayout } from '../../src/model/layout.ts'
import { readModelFile, writeModelFile } from '../../src/train/model-file.ts'
import { learningRateAt, scheduleOf } from '../../src/train/schedule.ts'
import { type SessionOptions, TrainingSession } from '../../src/train/session.ts'
import { Trainer } from '../../src/train/trainer.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'

const layout = createLayout(
  { layers: 2, width: 16, hidden: 32, heads: 2, context: 32, vocabulary: 256, ropeBase: 10_000, normEpsilon: 1e-5 },
  { keyFraction: 1, embeddingIsKey: true }
)
const folder = writeTree({ 'train.txt': textOf(20_000, 'train'), 'valid.txt': textOf(3_000, 'valid') })
const options = (overrides: Partial<SessionOptions> = {}): SessionOptions => ({
  layout,
  text: { path: 'a/b', folder },
  tokenizer: null,
  engine: 'onnx',
  threads: 1,
  batch: 2,
  weightDecay: 0.1,
  gradientClip: 1,
  schedule: { learningRate: 3e-3, warmupSteps: 0, decaySteps: 0 },
  seed: 1,
  validationTokens: 512,
  ...overrides
})
const nothing = () => undefined

describe('the learning rate', () => {
  const plain = { learningRate: 2, warmupSteps: 0, decaySteps: 0 }
  it('stays where it is without warm-up and decay', () => {
    assert.deepEqual(
      [0, 5, 1e6].map(step => learningRateAt(step, plain)),
      [2, 2, 2]
    )
  })

  it('rises linearly over the warm-up, and is never 0', () => {
    const schedule = { ...plain, warmupSteps: 4 }
    assert.deepEqual(
      [0, 1, 2, 3, 4].map(step => learningRateAt(step, schedule)),
      [0.5, 1, 1.5, 2, 2]
    )
  })

  it('falls by a cosine to a tenth, and stays there', () => {
    const schedule = { ...plain, decaySteps: 100 }
    const at = (step: number) => learningRateAt(step, schedule)
    assert.deepEqual([at(0), at(100), at(1000)], [2, 0.2, 0.2])
    assert.ok(Math.abs(at(50) - 1.1) < 1e-12)
    for (let step = 1; step <= 100; step++) assert.ok(at(step) < at(step - 1))
  })

  it('decays over all rounds where the charter names no decay', () => {
    const algorithm = { learningRate: 1, warmupSteps: 3, decaySteps: 0, rounds: 4, steps: 10 }
    assert.equal(scheduleOf(algorithm).decaySteps, 40)
    assert.equal(scheduleOf({ ...algorithm, decaySteps: 7 }).decaySteps, 7)
    assert.equal(scheduleOf({ ...algorithm, rounds: 0 }).decaySteps, 0, 'no end, no decay')
  })
})

describe('a training session', () => {
  async function train(overrides: Partial<SessionOptions> = {}, steps = 4) {
    const session = await TrainingSession.open(options(overrides))
    await session.load(initialParameters(layout, 0))
    const losses: number[] = []
    await session.train(steps, 0, ({ loss }) => void losses.push(loss))
    const { parameters } = await session.engine.read()
    const evaluated = await session.evaluate('validation')
    await session.engine.dispose()
    return { losses, parameters: Float32Array.from(parameters), perplexity: evaluated.perplexity }
  }

  it('gives equal bits for equal seeds with one thread, and others for another seed or another organization', async () => {
    const one = await train()
    assert.deepEqual(await train(), one)
    assert.notDeepEqual((await train({ seed: 2 })).losses, one.losses)
    assert.notDeepEqual((await train({ text: { path: 'a/c', folder } })).losses, one.losses)
  })

  it('takes the same steps on both engines, to 1e-4', async () => {
    const [onnx, reference] = [await train({}, 3), await train({ engine: 'reference' }, 3)]
    for (const [place, loss] of onnx.losses.entries()) assert.ok(Math.abs(loss - reference.losses[place]!) < 1e-4)
    assert.ok(Math.abs(onnx.perplexity / reference.perplexity - 1) < 1e-3)
  })

  it('in two halves is what it is in one piece: moments, place in the text, schedule', async () => {
    const schedule = { learningRate: 3e-3, warmupSteps: 3, decaySteps: 10 }
    const whole = await train({ schedule }, 6)
    const first = await TrainingSession.open(options({ schedule }))
    await first.load(initialParameters(layout, 0))
    await first.train(3, 0, nothing)
    const { parameters, optimizer } = await first.engine.read()
    const second = await TrainingSession.open(options({ schedule }))
    await second.load(parameters, optimizer, first.state())
    await second.train(3, 3, nothing)
    assert.deepEqual(Float32Array.from((await second.engine.read()).parameters), whole.parameters)
    for (const session of [first, second]) await session.engine.dispose()
  })

  it('is judged on fixed windows: the same value whatever the batch, bits per byte from the same nll', async () => {
    const values = []
    for (const batch of [1, 2, 5]) {
      const session = await TrainingSession.open(options({ batch }))
      await session.load(initialParameters(layout, 0))
      values.push(await session.evaluate('validation'), await session.evaluate('kept-back'))
      await session.engine.dispose()
    }
    for (const [place, { perplexity, bitsPerByte, nllPerByte, nllPerToken, parts }] of values.entries()) {
      assert.equal(parts.length, values[place % 2]!.parts.length)
      assert.ok(parts.length > 1)
      assert.ok(Math.abs(parts.reduce((sum, part) => sum + part, 0) / parts.length / nllPerByte - 1) < 1e-9)
      assert.ok(Math.abs(perplexity / values[place % 2]!.perplexity - 1) < 1e-5)
      assert.ok(Math.abs(Math.exp(nllPerToken) / perplexity - 1) < 1e-12)
      assert.ok(Math.abs(bitsPerByte - nllPerByte / Math.LN2) < 1e-12)
      assert.equal(nllPerByte, nllPerToken, 'a token is a byte')
    }
    // An untrained model knows nothing: about one of 256.
    assert.ok(values[0]!.perplexity > 200 && values[0]!.perplexity < 300)
  })

  it('refuses text that it cannot train on, by name', async () => {
    const short = writeTree({ 'train.txt': 'short' })
    await assert.rejects(TrainingSession.open(options({ text: { path: 'x/y', folder: short } })), {
      code: 'DATA_TOO_SHORT',
      message: /x\/y/
    })
  })
})

describe('the training thread', () => {
  const job = (root: string, facts = {}) => ({
    start: join(root, 'start'),
    checkpoint: null,
    keepOptimizer: true,
    steps: 3,
    startStep: 0,
    output: join(root, 'output'),
    saveTo: join(root, 'checkpoint'),
    ...facts
  })

  it('trains from a file to a file, resumes from its checkpoint to the bit, and says how far it is', async () => {
    const root = temporaryFolder()
    writeModelFile(join(root, 'start'), layout, [initialParameters(layout, 0)])
    const told: number[] = []
    const trainer = await Trainer.start(options(), ({ step }) => void told.push(step))
    assert.deepEqual(trainer.data, { trainBytes: 20_000, validBytes: 3_000 })
    const trained = await trainer.train(job(root))
    assert.deepEqual([trained.tokens, told.at(-1)], [3 * 2 * 32, 3])
    await trainer.train(
      job(root, { start: join(root, 'output'), output: join(root, 'two'), saveTo: join(root, 'c2'), startStep: 3 })
    )
    await trainer.close()
    const again = await Trainer.start(options(), nothing)
    await again.train(
      job(root, {
        start: join(root, 'output'),
        checkpoint: join(root, 'checkpoint'),
        output: join(root, 'again'),
        saveTo: join(root, 'c3'),
        startStep: 3
      })
    )
    const { perplexity } = await again.evaluate(join(root, 'again'), 'validation')
    await again.close()
    assert.ok(perplexity < 256)
    assert.ok(readFileSync(join(root, 'again')).equals(readFileSync(join(root, 'two'))))
  })

  it('ends in the middle of its work, and its process does not', function () {
    this.timeout(30_000)
    const root = temporaryFolder()
    writeModelFile(join(root, 'start'), layout, [initialParameters(layout, 0)])
    writeFileSync(join(root, 'child.json'), JSON.stringify(options()))
    const child = fileURLToPath(new URL('./close-child.ts', import.meta.url))
    const home = temporaryFolder()
    const env = { ...process.env, HOME: home, XDG_CACHE_HOME: '', ORT_DISABLE_TELEMETRY: '' }
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, [child, root], { encoding: 'utf8', env })
    assert.deepEqual([status, signal, stderr], [0, null, ''])
    assert.equal(stdout, 'true TRAINER_ENDED TRAINER_ENDED\n'.repeat(4))
    // Nor does onnxruntime begin to tell of its use: it would keep a database for that at its user's home.
    assert.deepEqual(readdirSync(home), [])
  })

  it('refuses a damaged model and a damaged checkpoint by name, and goes on with good ones', async () => {
    const root = temporaryFolder()
    writeModelFile(join(root, 'start'), layout, [initialParameters(layout, 0)])
    const whole = readFileSync(join(root, 'start'))
    writeFileSync(join(root, 'cut'), whole.subarray(0, whole.length - 1))
    const trainer = await Trainer.start(options(), nothing)
    try {
      await assert.rejects(trainer.train(job(root, { start: join(root, 'cut') })), {
        code: 'MODEL_DAMAGED',
        message: /cut is not a whole model/
      })
      await assert.rejects(trainer.train(job(root, { start: join(root, 'none') })), { code: 'MODEL_MISSING', message: /none/ })
      await assert.rejects(
        trainer.train(job(root, { checkpoint: join(root, 'start') })),
        (error: WorldlmError) => error.code === 'MODEL_DAMAGED'
      )
      assert.equal((await trainer.train(job(root))).tokens, 192)
    } finally {
      await trainer.close()
    }
  })
})

describe('model files', () => {
  it('come back as they were: f32 to the bit, bf16 to its precision, with sections and metadata', () => {
    const path = join(temporaryFolder(), 'm.safetensors')
    const parameters = initialParameters(layout, 5)
    writeModelFile(path, layout, [parameters], { metadata: { step: '3' } })
    const target = new Float32Array(layout.floats)
    assert.deepEqual(readModelFile(path, layout, [target]), { step: '3' })
    assert.deepEqual(target, parameters)
    writeModelFile(path, layout, [parameters], { encoding: 'bf16' })
    readModelFile(path, layout, [target])
    for (const [place, value] of parameters.entries()) assert.ok(Math.abs(target[place]! - value) <= Math.abs(value) / 256)
    const sections = ['', 'first.']
    writeModelFile(path, layout, [parameters, parameters.map(value => 2 * value)], { sections })
    const second = new Float32Array(layout.floats)
    readModelFile(path, layout, [target, second], sections)
    assert.deepEqual(
      second,
      parameters.map(value => 2 * value)
    )
  })
})
