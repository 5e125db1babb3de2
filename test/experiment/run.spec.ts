/** Whole experiments: equal for equal seeds, whatever the number of threads; cached; and not troubled by a kill. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { closingLines } from '../../src/cli/experiment.ts'
import { combinations, parseSweep } from '../../src/experiment/options.ts'
import { type ExperimentOptions, runExperiment } from '../../src/experiment/run.ts'
import { makeExperimentReport } from '../../src/experiment/report.ts'
import { experimentCsv } from '../../src/report/experiment-csv.ts'
import { experimentHtml } from '../../src/report/experiment-html.ts'
import { type ExperimentReport, experimentReportSchema } from '../../src/report/experiment-schema.ts'
import { temporaryFolder } from '../temporary.ts'
import { four, smallOptions, smallTree } from './small.ts'

async function run(
  options: ReturnType<typeof smallOptions> & Partial<ExperimentOptions>,
  signal = new AbortController().signal
) {
  const lines: string[] = []
  const all = { cache: temporaryFolder(), workers: 2, saveSeconds: 1000, ...options }
  const events = {
    line: (text: string) => void lines.push(text),
    progress: () => undefined
  }
  const result = await runExperiment(all, events, signal)
  const facts = { seeds: all.seeds, texts: all.texts, version: 'test', warnings: [] }
  return { report: await makeExperimentReport(result, facts), lines }
}

/** Without what a clock measured. */
function timeless(report: ExperimentReport): ExperimentReport {
  return JSON.parse(JSON.stringify(report, (key, value: unknown) => (key === 'seconds' ? 0 : value)))
}

describe('an experiment', function () {
  this.timeout(180_000)
  let root = ''
  let options: ReturnType<typeof smallOptions>
  before(() => {
    root = smallTree(four)
    options = smallOptions(root, { methods: ['local', 'worldlm', 'diloco'], seeds: [0, 1] })
  })

  it('gives the same report for the same seeds, on one thread and on three', async () => {
    const [one, three] = [await run({ ...options, workers: 1 }), await run({ ...options, workers: 3 })]
    assert.deepEqual(timeless(three.report), timeless(one.report))
    const [first, second] = one.report.methods[0]!.runs
    assert.notDeepEqual(first!.curve, second!.curve, 'another seed gives other figures')
  })

  it('does not compute a cell again, unless something that it depends on is another', async () => {
    const cache = temporaryFolder()
    const first = await run({ ...options, cache })
    assert.match(first.lines[0]!, /6 cells, 0 of them known already; 6 to compute/)
    const again = await run({ ...options, cache })
    assert.match(again.lines[0]!, /6 cells, 6 of them known already; 0 to compute/)
    assert.deepEqual(timeless(again.report), timeless(first.report))
    // Training alone does not ask for the temperature of an aggregation.
    const hotter = await run({ ...options, cache, combinations: [{ upTemperature: 9 }] })
    assert.match(hotter.lines[0]!, /6 cells, 2 of them known already/)
    const [key] = readdirSync(cache).filter(name => name.endsWith('.json'))
    writeFileSync(join(cache, key!), '{ "torn')
    const torn = await run({ ...options, cache })
    assert.match(torn.lines[0]!, /6 cells, [56] of them known already/)
    assert.deepEqual(timeless(torn.report), timeless(first.report))
  })

  it('trains what ditto and lora share with fedavg once, and comes to the same', async () => {
    const settings = { stragglers: 0.5, newcomer: 'a/2', newcomerRound: 1, newcomerText: '0' }
    for (const changed of [
      { ...options, methods: ['ditto', 'fedavg', 'lora'] },
      { ...options, methods: ['lora', 'fedavg'], settings, seeds: [0] }
    ]) {
      const cache = temporaryFolder()
      const together = await run({ ...changed, cache })
      const followed = together.lines.filter(line => line.includes('is trained already'))
      assert.equal(followed.length, (changed.methods.length - 1) * changed.seeds.length)
      assert.deepEqual(
        readdirSync(cache).filter(name => !name.endsWith('.json')),
        []
      )
      const alone = []
      for (const method of changed.methods) alone.push((await run({ ...changed, methods: [method] })).report.methods[0]!)
      assert.deepEqual(timeless({ ...together.report, methods: alone }).methods, timeless(together.report).methods)
    }
  })

  it('trains the first round once for all methods, and each comes to what it comes to by itself', async () => {
    const changed = { ...options, methods: ['local', 'worldlm', 'fedper', 'dpsgd'], workers: 1 }
    const together = await run(changed)
    const alone = []
    for (const method of changed.methods) alone.push((await run({ ...changed, methods: [method] })).report.methods[0]!)
    assert.deepEqual(timeless({ ...together.report, methods: alone }).methods, timeless(together.report).methods)
  })

  it('takes over that the shared part diverged', async () => {
    const algorithm = { ...options.algorithm, learningRate: 1e30, gradientClip: 0 }
    const { report } = await run({ ...options, seeds: [0], methods: ['fedavg', 'ditto'], algorithm })
    const [fedavg, ditto] = report.methods
    assert.equal(fedavg!.runs[0]!.diverged!.round, 1)
    assert.deepEqual(ditto!.runs[0]!.diverged, fedavg!.runs[0]!.diverged)
  })

  it('says which method diverged, and goes on with the others', async () => {
    const algorithm = { ...options.algorithm, learningRate: 1e30, gradientClip: 0 }
    const { report } = await run({ ...options, seeds: [0], methods: ['local'], algorithm })
    const [local] = report.methods
    assert.equal(local!.runs[0]!.diverged!.round, 1)
    assert.match(experimentHtml(report), /diverged in round 1/)
    assert.deepEqual(experimentReportSchema.parse(report).methods[0]!.curve, [])
  })

  it('writes a report that its schema, its table and its page agree on', async () => {
    const combinations = [{ downTemperature: 0.1 }, { downTemperature: 1 }]
    const { report } = await run({ ...options, combinations, methods: ['local', 'fedavg', 'worldlm'] })
    assert.deepEqual(experimentReportSchema.parse(report), report)
    const lines = experimentCsv(report).trim().split('\n')
    // Methods × values × seeds × organizations × rounds × models; nobody aggregates for `local`.
    assert.equal(lines.length - 1, 2 * 2 * 4 * 3 * (2 + 3 + 3))
    const [worldlm] = report.methods.filter(({ method }) => method === 'worldlm')
    const end = worldlm!.curve.at(-1)!
    const nll = Object.values(end.organizations).map(({ personal }) => Math.log(personal.perplexity!))
    const mean = Math.exp(nll.reduce((sum, one) => sum + one, 0) / nll.length)
    assert.ok(Math.abs(end.mean.personal.perplexity! / mean - 1) < 1e-9)
    const { perplexityLeast, perplexityMost, perplexity } = end.mean.personal
    assert.ok(perplexityLeast! < perplexity! && perplexity! < perplexityMost!)
    const [least, most] = [perplexityLeast!.toFixed(3), perplexityMost!.toFixed(3)]
    assert.ok(
      closingLines(report)
        .join('\n')
        .includes(`${perplexity!.toFixed(3)} (${least}–${most})`),
      'the spread in brackets'
    )
    const html = experimentHtml(report)
    for (const words of ['worldlm downTemperature=1', 'downTemperature: personal', 'what organizations took', 'a/1'])
      assert.ok(html.includes(words), words)
    assert.doesNotMatch(html, /NaN|undefined|Infinity/)
  })

  it('stops when it is told to, and keeps what was done', async () => {
    const abort = new AbortController()
    abort.abort()
    const { report } = await run(options, abort.signal)
    assert.equal(report.interrupted, true)
    assert.deepEqual(report.methods, [])
  })

  it('refuses a method, an option and a newcomer that it does not know', async () => {
    for (const method of ['fedprox', 'constructor'])
      await assert.rejects(run({ ...options, methods: [method] }), { code: 'METHOD_UNKNOWN' })
    await assert.rejects(run({ ...options, combinations: [{ newcomer: 'nobody' }] }), { code: 'NEWCOMER_UNKNOWN' })
    await assert.rejects(run({ ...options, combinations: [{ swap: 2 }] }), { code: 'USAGE' })
    await assert.rejects(run({ ...options, combinations: [{ down: 'sideways' }] }), { code: 'CHARTER_INVALID' })
  })

  it('sweeps each value once, and each option by one list', () => {
    const swept = (...sweeps: string[]) => combinations(sweeps.map(parseSweep))
    assert.deepEqual(swept('keyFraction=0.3, 0.30,1', 'poor=0'), [
      { keyFraction: 0.3, poor: 0 },
      { keyFraction: 1, poor: 0 }
    ])
    assert.throws(() => swept('keyFraction=0.3', 'poor=0', 'keyFraction=1'), {
      code: 'USAGE',
      message: /keyFraction stands there twice/,
      hint: 'Write its values into one: --sweep keyFraction=0.3,1.'
    })
  })

  it('refuses what would change nothing and yet stand in its report: noise without a clip, a newcomer’s text without one, …', async () => {
    for (const [swept, message] of [
      [{ dpNoise: 1 }, /dpNoise without dpClip/],
      [{ newcomerText: '50kB' }, /newcomerText without a newcomer/],
      [{ liars: 5 }, /liars is 5: there are 4 organizations/]
    ] as const)
      await assert.rejects(run({ ...options, combinations: [swept] }), { code: 'USAGE', message })
  })

  it('killed in the middle, goes on from its last saved round, and ends as if nothing had been', async () => {
    const yaml = join(temporaryFolder(), 'model.yaml')
    writeFileSync(
      yaml,
      'model: {layers: 1, width: 8, hidden: 12, heads: 2, context: 8, vocabulary: 256}\nalgorithm: {batch: 2}\n'
    )
    const command = (cache: string, out: string) =>
      spawn(
        process.execPath,
        [
          ...['src/cli/main.ts', 'experiment', '--data', root, '--methods', 'worldlm', '--rounds', '12', '--steps', '10'],
          ...['--model', yaml, '--threads', '1', '--save-seconds', '0', '--cache', cache, '--out', out]
        ],
        { stdio: ['ignore', 'pipe', 'pipe'] }
      )
    const [cache, whole] = [temporaryFolder(), temporaryFolder()]
    const killed = command(cache, temporaryFolder())
    while (!readdirSync(cache).some(name => name.endsWith('.state'))) {
      assert.equal(killed.exitCode, null, 'it is still running')
      await sleep(20)
    }
    killed.kill('SIGKILL')
    await ended(killed)
    const [out, reference] = [temporaryFolder(), temporaryFolder()]
    const resumed = command(cache, out)
    const said = output(resumed)
    assert.equal(await ended(resumed), 0, await said)
    assert.match(await said, /goes on after round \d/)
    assert.equal(await ended(command(whole, reference)), 0)
    const read = (folder: string) => timeless(JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')))
    assert.deepEqual(read(out), read(reference))
    assert.ok(existsSync(join(out, 'report.html')) && existsSync(join(out, 'curves.csv')))
    assert.deepEqual(
      readdirSync(cache).filter(name => !name.endsWith('.json')),
      [],
      'no state is left of a finished cell'
    )
  })
})

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode)
    else child.once('exit', resolve)
  })

async function output(child: ChildProcess): Promise<string> {
  let text = ''
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', data => (text += String(data)))
  await ended(child)
  await sleep(50)
  return text
}
