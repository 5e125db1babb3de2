/** A built-in scenario on six real processes that train a model of some thousand parameters, so that rounds take a second. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Random } from '../../src/math/random.ts'
import { verifyPaths } from '../../src/node/audit.ts'
import { testnetReportSchema, type TestnetReport } from '../../src/report/schema.ts'
import { writeReport } from '../../testnet/report.ts'
import { runTestnet } from '../../testnet/run.ts'
import { findScenario } from '../../testnet/scenarios/stories.ts'

const organizations = [
  'code/declarations',
  'code/javascript',
  'code/manifests',
  'prose/changelogs',
  'prose/guides',
  'prose/licences'
]
const charter = { model: { layers: 1, width: 16, hidden: 32, heads: 2, context: 32, vocabulary: 256 }, algorithm: { batch: 4 } }
const steps = 40

/** Plays it to its end, and holds it to what every scenario has to hold. The folder stays if something is wrong. */
export async function play(name: string, seed: number): Promise<TestnetReport> {
  const folder = mkdtempSync(join(tmpdir(), `worldlm-${name}-`))
  const data = join(folder, 'text')
  const random = new Random(`text/${seed}`)
  for (const path of organizations) {
    mkdirSync(join(data, path), { recursive: true })
    const words = Array.from(
      { length: 8_000 },
      () => ['the ', 'model ', 'of ', 'all ', 'peers ', 'is ', 'one.\n'][random.below(7)]
    )
    writeFileSync(join(data, path, 'train.txt'), words.join(''))
  }
  const { scenario } = findScenario(name)
  const { rounds = 8 } = scenario.testnet
  const out = join(folder, 'out')
  const options = { data, rounds, steps, charter, start: null, out, seed, alone: false, scenario }
  const lines: string[] = []
  const events = { line: (text: string) => void lines.push(text), tick: () => undefined, aloneProgress: () => undefined }
  const result = await runTestnet(options, events, new AbortController().signal)
  const report = await writeReport(result, options)
  const about = () => `${name}, seed ${seed}, ${out}:\n${lines.join('\n')}`
  assert.deepEqual(report.invariants.violations, [], about())
  assert.equal(report.stalled, null, about())
  assert.deepEqual(report.scenario?.failures, [], about())
  const planned = report.faults.filter(fault => fault.planned)
  assert.ok(planned.length > 0, `nothing happened: ${about()}`)
  assert.deepEqual(
    report.faults.filter(fault => !fault.planned),
    [],
    about()
  )
  for (const fault of planned)
    if (fault.mendedAtSeconds !== null)
      assert.notEqual(fault.backAfterMs, null, `${fault.kind} of ${fault.path} is not back: ${about()}`)
  for (const { process: child } of result.nodes)
    if (child?.pid !== undefined)
      assert.equal(existsSync(`/proc/${child.pid}`), false, `process ${child.pid} is left: ${about()}`)
  testnetReportSchema.parse(JSON.parse(readFileSync(join(out, 'report.json'), 'utf8')))
  assert.ok((await verifyPaths([out])).ok, about())
  rmSync(folder, { recursive: true, force: true })
  return report
}
