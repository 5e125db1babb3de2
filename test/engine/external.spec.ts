import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createEngine } from '../../src/engine/create.ts'
import type { Engine, EngineOptions } from '../../src/engine/engine.ts'
import { pythonMissing } from '../python.ts'
import { temporaryFolder } from '../temporary.ts'
import { adaptable } from '../../src/model/layout.ts'
import { adapterOptions, distance, engineOptions, families, randomBatch, testParameters } from './models.ts'

const script = fileURLToPath(new URL('./trainer.mjs', import.meta.url))
const rates = [0.5, 0.25, 0.125]

interface Opened {
  engine: Engine
  options: EngineOptions
  warnings: string[]
  folder: string
}

async function open(command: string[], silenceMs: number, config = {}, overrides = {}, adapted = false): Promise<Opened> {
  const folder = temporaryFolder()
  const warnings: string[] = []
  const settings = {
    external: { command, folder, silenceMs },
    onWarning: (code: string) => warnings.push(code),
    ...overrides
  }
  const options = adapted
    ? adapterOptions(config, { rank: 4, matrices: [...adaptable] }, settings)
    : engineOptions(config, settings)
  const engine = await createEngine('external', options)
  await engine.load(testParameters(options, 1))
  return { engine, options, warnings, folder }
}

const openNode = (mode: string, silenceMs = 5_000) =>
  open([process.execPath, script, mode, join(temporaryFolder(), 'mark')], silenceMs)
const threeSteps = ({ engine, options }: Opened, signal?: AbortSignal) =>
  engine.steps!(
    [0, 1, 2].map(seed => randomBatch(options, seed)),
    rates,
    () => undefined,
    signal
  )

const baseOf = (options: EngineOptions, seed: number) => testParameters({ ...options, layout: options.layout.base! }, seed)

/** What a trainer of tests makes of the parameters: each rate is added. */
function assertTrained(parameters: Float32Array, options: EngineOptions): void {
  const want = testParameters(options, 1)
  for (const rate of rates) for (let place = 0; place < want.length; place++) want[place]! += rate
  assert.deepEqual(parameters, want)
}

describe('an external trainer', () => {
  it('trains a round in one call, tells of its steps, and gives parameters and moments back', async () => {
    const opened = await openNode('good')
    const told: number[] = []
    const batches = [0, 1, 2].map(seed => randomBatch(opened.options, seed))
    const losses = await opened.engine.steps!(batches, rates, (step, loss) => told.push(step, loss))
    assert.deepEqual(losses, [2, 1.9, 1.8])
    assert.deepEqual(told, [1, 2, 2, 1.9, 3, 1.8])
    const { parameters, optimizer } = await opened.engine.read()
    assertTrained(parameters, opened.options)
    assert.equal(optimizer.step, 3)
    await opened.engine.dispose()
    assert.deepEqual(readdirSync(opened.folder), [], 'nothing is left behind')
  })

  it('keeps its state while other models are evaluated, all batches of one in one call', async () => {
    const mark = join(temporaryFolder(), 'mark')
    const { engine, options } = await open([process.execPath, script, 'good', mark], 5_000)
    await engine.steps!([randomBatch(options, 0)], [0.5], () => undefined)
    const own = await engine.read()
    const other = testParameters(options, 2)
    const swapped = other.slice()
    await engine.swap(swapped)
    assert.deepEqual([swapped, (await engine.view()).parameters], [own.parameters, other])
    const batches = [1, 2, 3].map(seed => randomBatch(options, seed))
    const nll = await engine.evaluations!(batches)
    assert.deepEqual(
      nll.map(values => [...values]),
      batches.map(({ targets }) => Array<number>(targets.length).fill(other[0]!))
    )
    assert.equal((await engine.evaluate(batches[0]!))[0], other[0])
    await engine.swap(swapped)
    assert.deepEqual(swapped, other)
    assert.equal((await engine.evaluate(batches[0]!))[0], own.parameters[0])
    await engine.steps!([randomBatch(options, 4)], [0.25], () => undefined)
    assert.equal((await engine.read()).parameters[0], own.parameters[0]! + 0.25)
    // Moments that it does not have are given to it.
    await engine.load(own.parameters, { ...own.optimizer, step: 7 })
    await engine.steps!([randomBatch(options, 5)], [0.25], () => undefined)
    assert.deepEqual(readFileSync(`${mark}.calls`, 'utf8').trim().split('\n'), [
      ...['hello', 'load', 'train', 'evaluate others', 'evaluate others', 'evaluate', 'train', 'load', 'train']
    ])
    await engine.dispose()
  })

  const mended: { mode: string; code: string; silenceMs?: number }[] = [
    { mode: 'once:dies', code: 'TRAINER_DIED' },
    { mode: 'once:dies-at-once', code: 'TRAINER_DIED' },
    { mode: 'once:hangs', code: 'TRAINER_SILENT', silenceMs: 4_000 },
    { mode: 'once:rubbish', code: 'TRAINER_RUBBISH' },
    { mode: 'once:cut-short', code: 'TRAINER_RESULT' },
    { mode: 'once:not-finite', code: 'TRAINER_RESULT' },
    { mode: 'once:few-losses', code: 'TRAINER_RESULT' },
    { mode: 'once:losses-as-text', code: 'TRAINER_RESULT' },
    { mode: 'once:folder', code: 'TRAINER_RESULT' }
  ]
  for (const { mode, code, silenceMs } of mended) {
    it(`that is ${mode} costs a second try, and the result is the same: ${code}`, async () => {
      const opened = await openNode(mode, silenceMs)
      await threeSteps(opened)
      assert.deepEqual(opened.warnings, [code])
      assertTrained((await opened.engine.read()).parameters, opened.options)
      await opened.engine.dispose()
    })
  }

  const given_up: { mode: string; code: string; says: RegExp; silenceMs?: number; tries: number }[] = [
    { mode: 'dies', code: 'TRAINER_DIED', says: /ended \(code 3\)[\s\S]*a trainer for tests/, tries: 3 },
    { mode: 'hangs', code: 'TRAINER_SILENT', says: /said nothing for 4 s/, silenceMs: 4_000, tries: 3 },
    { mode: 'rubbish', code: 'TRAINER_RUBBISH', says: /Epoch 1\/1/, tries: 3 },
    { mode: 'not-finite', code: 'TRAINER_RESULT', says: /tensor embedding holds NaN at place 5/, tries: 3 },
    { mode: 'refuses', code: 'TRAINER_REFUSED', says: /OUT_OF_MEMORY: too large/, tries: 1 },
    { mode: 'diverges', code: 'ENGINE_DIVERGED', says: /step 1: the loss is NaN/, tries: 1 }
  ]
  for (const { mode, code, says, silenceMs, tries } of given_up) {
    it(`that always ${mode} is given up after ${tries} tries, and the last good state is kept: ${code}`, async () => {
      const opened = await openNode(mode, silenceMs)
      await assert.rejects(threeSteps(opened), { code, message: says, ...(tries > 1 && { hint: /^Tried 3 times\. Mend/ }) })
      assert.equal(opened.warnings.length, tries - 1)
      const { parameters, optimizer } = await opened.engine.read()
      assert.deepEqual(parameters, testParameters(opened.options, 1))
      assert.equal(optimizer.step, 0)
      await opened.engine.dispose()
    })
  }

  it('of another protocol is refused at once: TRAINER_VERSION', async () => {
    await assert.rejects(openNode('old'), { code: 'TRAINER_VERSION', message: /speaks protocol 0/ })
  })

  it('that knows no adapters is refused at once where they are trained: TRAINER_ADAPTERS', async () => {
    await assert.rejects(open([process.execPath, script, 'plain'], 5_000, {}, {}, true), {
      code: 'TRAINER_ADAPTERS',
      message: /"test" learns whole models/
    })
    await (await open([process.execPath, script, 'plain'], 5_000)).engine.dispose()
  })

  it('has the model below adapters once, again after its death, and another when there is one', async () => {
    const mark = join(temporaryFolder(), 'mark')
    const opened = await open([process.execPath, script, 'once:dies', mark], 5_000, {}, {}, true)
    const base = (seed: number) => baseOf(opened.options, seed)
    await opened.engine.loadBase(base(2))
    await threeSteps(opened)
    assert.deepEqual(opened.warnings, ['TRAINER_DIED'])
    assertTrained((await opened.engine.read()).parameters, opened.options)
    await opened.engine.loadBase(base(2))
    await threeSteps(opened)
    await opened.engine.loadBase(base(3))
    await threeSteps(opened)
    assert.deepEqual(readFileSync(`${mark}.calls`, 'utf8').trim().split('\n'), [
      ...['hello', 'base', 'load', 'train', 'hello', 'base', 'load', 'train', 'train', 'base', 'train']
    ])
    await opened.engine.dispose()
    assert.deepEqual(readdirSync(opened.folder), [], 'nothing is left behind')
  })

  it('that is not there, or not named, is refused at once: TRAINER_MISSING', async () => {
    await assert.rejects(open(['worldlm-no-such-program'], 1_000), { code: 'TRAINER_MISSING', message: /no-such-program/ })
    await assert.rejects(open([], 1_000), { code: 'TRAINER_MISSING' })
    await assert.rejects(createEngine('external', engineOptions()), { code: 'TRAINER_MISSING' })
  })

  for (const mode of ['mute-until-cancelled', 'hangs']) {
    it(`stops when it is told to, and is of use again: ${mode}`, async () => {
      const opened = await openNode(mode, 60_000)
      const abort = new AbortController()
      setTimeout(() => abort.abort(), 100)
      await assert.rejects(threeSteps(opened, abort.signal), { name: 'AbortError' })
      assert.deepEqual((await opened.engine.read()).parameters, testParameters(opened.options, 1))
      await opened.engine.dispose()
    })
  }
})

describe('the PyTorch trainer', () => {
  const trainer = fileURLToPath(new URL('../../trainers/pytorch/trainer.py', import.meta.url))
  const python = process.env.WORLDLM_TEST_PYTHON ?? ''
  const torchrun = join(dirname(python), 'torchrun')
  const two = [torchrun, '--nproc-per-node', '2', '--rdzv-backend', 'c10d', '--rdzv-endpoint', 'localhost:0']
  const ways: { why: string; command: string[] }[] = [
    { why: 'one process', command: [python, trainer] },
    // Where there is a GPU there may be one alone, and two processes cannot share it.
    { why: 'two processes, DDP', command: [...two, trainer, '--device', 'cpu'] },
    { why: 'two processes, FSDP', command: [...two, trainer, '--device', 'cpu', '--parallel', 'fsdp'] }
  ]
  const config = { ...families.at(-1)!.config, context: 8 }

  for (const { why, command, adapted } of ways.flatMap(way => [false, true].map(adapted => ({ ...way, adapted })))) {
    it(`has the reference's gradients, losses and steps in fp32: ${why}${adapted ? ', adapters' : ''}`, async function () {
      if (pythonMissing !== null) {
        console.log(`      skipped: ${pythonMissing}`)
        this.skip()
      }
      this.timeout(180_000)
      // Three windows over two processes: not each has as many.
      const { engine, options } = await open(command, 120_000, config, { batch: 3, gradientClip: 0.5 }, adapted)
      const reference = await createEngine('reference', options)
      if (adapted) for (const one of [engine, reference]) await one.loadBase(baseOf(options, 3))
      await reference.load(testParameters(options, 1))
      const batches = [0, 1, 2].map(seed => randomBatch(options, seed))
      const [mine, want] = [await engine.gradient(batches[0]!), await reference.gradient(batches[0]!)]
      assert.ok(Math.abs(mine.loss - want.loss) < 1e-5 * want.loss, `loss ${mine.loss}, ${want.loss}`)
      for (const { name, offset, floats } of options.layout.tensors) {
        const error = distance(mine.gradient.subarray(offset, offset + floats), want.gradient.subarray(offset, offset + floats))
        assert.ok(error < 1e-5, `${name}: ${error}`)
      }
      const nll = await engine.evaluate(batches[1]!)
      assert.ok(distance(nll, await reference.evaluate(batches[1]!)) < 1e-5)
      // Another model is evaluated in between: the state stays.
      const other = testParameters(options, 2)
      await engine.swap(other)
      await reference.swap(testParameters(options, 2))
      const twice = await engine.evaluations!([batches[1]!, batches[2]!])
      for (const place of [0, 1])
        assert.ok(distance(twice[place]!, await reference.evaluate(batches[place + 1]!)) < 1e-5, `other model, batch ${place}`)
      const own = testParameters(options, 1)
      await engine.swap(other)
      await reference.swap(own)
      const losses = await engine.steps!(batches, [0.01, 0.02, 0.01], () => undefined)
      for (const [step, batch] of batches.entries()) {
        const loss = await reference.step(batch, [0.01, 0.02, 0.01][step]!)
        assert.ok(Math.abs(loss - losses[step]!) < 1e-4, `step ${step + 1}: ${losses[step]}, ${loss}`)
      }
      const [after, wanted] = [await engine.read(), await reference.read()]
      assert.ok(distance(after.parameters, wanted.parameters) < 2e-5)
      assert.ok(distance(after.optimizer.second, wanted.optimizer.second) < 2e-5)
      // What was read goes on as if it had never been away.
      await engine.load(after.parameters, after.optimizer)
      const [next, nextWanted] = [await engine.step(batches[0]!, 0.01), await reference.step(batches[0]!, 0.01)]
      assert.ok(Math.abs(next - nextWanted) < 1e-4, `step 4: ${next}, ${nextWanted}`)
      assert.ok(distance((await engine.read()).parameters, (await reference.read()).parameters) < 2e-5)
      await engine.dispose()
      assert.ok(existsSync(trainer))
    })
  }

  it('learns in bf16', async function () {
    if (pythonMissing !== null) {
      console.log(`      skipped: ${pythonMissing}`)
      this.skip()
    }
    this.timeout(180_000)
    const { engine, options } = await open([python, trainer, '--dtype', 'bf16'], 120_000, config)
    const batch = randomBatch(options, 5)
    const losses = await engine.steps!(Array(40).fill(batch), Array(40).fill(0.02), () => undefined)
    assert.ok(losses.at(-1)! < losses[0]! / 2, `${losses[0]} → ${losses.at(-1)}`)
    await engine.dispose()
  })
})
