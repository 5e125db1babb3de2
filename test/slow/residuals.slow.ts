/**
 * Residuals between real processes: two federations of unlike organizations, whose kin is in the other one; four nodes. What travels is
 * checked on the records that they leave, and the checks on records that were tampered with.
 */
import assert from 'node:assert/strict'
import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkInvariants } from '../../testnet/checks/invariants.ts'
import { loadRecords } from '../../testnet/checks/records.ts'
import { writeReport } from '../../testnet/report.ts'
import { runTestnet, type TestnetOptions } from '../../testnet/run.ts'
import { reportHtml } from '../../src/report/html.ts'
import type { TestnetReport } from '../../src/report/schema.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'

const kinOf: Record<string, string> = {
  'left/sums': 'right/products',
  'right/products': 'left/sums',
  'left/rivers': 'right/streets',
  'right/streets': 'left/rivers'
}

function numbers(bytes: number, sign: string): string {
  let text = ''
  for (let n = 1; text.length < bytes; n++) text += `${n}${sign}${(n * 37) % 101}=${n + ((n * 37) % 101)};\n`
  return text.slice(0, bytes)
}

async function run(
  egress: object[],
  rounds: number
): Promise<{ report: TestnetReport; out: string; result: Awaited<ReturnType<typeof runTestnet>> }> {
  const data = writeTree({
    'left/sums/train.txt': numbers(60_000, '+'),
    'left/rivers/train.txt': textOf(60_000, 'river'),
    'right/products/train.txt': numbers(60_000, '*'),
    'right/streets/train.txt': textOf(60_000, 'street')
  })
  const model = { layers: 2, width: 32, hidden: 64, heads: 2, context: 32, vocabulary: 256 }
  const out = join(temporaryFolder(), 'out')
  const options: TestnetOptions = {
    data,
    rounds,
    // Rounds of a second or more: bridges look, ask and carry between two rounds.
    steps: 600,
    charter: { model, egress },
    start: null,
    out,
    seed: 3,
    alone: false,
    scenario: null
  }
  const silent = { line: () => undefined, tick: () => undefined, aloneProgress: () => undefined }
  const result = await runTestnet(options, silent, new AbortController().signal)
  assert.equal(result.stalled, null)
  return { report: await writeReport(result, options), out, result }
}

describe('residuals between real processes', function () {
  this.timeout(600_000)

  it('reach organizations from their kin in the other federation, once a round, and weigh most there', async () => {
    const rounds = 8
    const { report, result } = await run([], rounds)
    const { residuals, invariants } = report
    assert.ok(residuals.length >= 4, `only ${residuals.length} residuals were used`)
    // The nearest is brought first, until its weight falls under 1 % and the next in line gets its place.
    for (const [target, kin] of Object.entries(kinOf)) {
      const brought = residuals.filter(({ to }) => to === target)
      const nearest = brought.reduce((best, one) => (one.similarity > best.similarity ? one : best), brought[0]!)
      assert.equal(nearest?.from, kin, `${target}: ${JSON.stringify(brought)}`)
    }
    assert.ok(
      residuals.some(({ weight }) => weight > 0.01),
      JSON.stringify(residuals)
    )
    assert.ok(invariants.checked.includes('I6'))
    assert.deepEqual(invariants.violations, [])
    // What is used in taking round r over is declared in the update of round r + 1, and certified with it.
    const certified = report.rounds.flatMap(({ round, residuals: list }) => list.map(one => ({ round: round - 1, ...one })))
    // Whose update did not come in time is excluded, and what it declared with it.
    const isCounted = (organization: string, round: number) =>
      report.rounds.some(one => one.round === round && one.included.some(({ name }) => organization.endsWith(`/${name}`)))
    const told = residuals.filter(({ round, to }) => round < rounds && isCounted(to, round + 1))
    assert.deepEqual(
      certified.map(({ round, weight }) => `${round} ${weight}`).sort(),
      told.map(({ round, weight }) => `${round} ${weight}`).sort()
    )
    assert.match(reportHtml(report), /right\/products/)
    await findsTampering(result)
  })

  it('do not leave where a charter forbids it', async () => {
    const { report } = await run([{ tensor: 'residual', to: 'world/right/**', allow: false, reason: 'contract 17' }], 4)
    assert.ok(report.residuals.length > 0)
    for (const { to } of report.residuals) assert.match(to, /^left\//)
    assert.deepEqual(report.invariants.violations, [])
  })
})

/** The same records, with a residual used twice, and with one that nobody noted. */
async function findsTampering({ nodes, federations }: Awaited<ReturnType<typeof runTestnet>>): Promise<void> {
  const founders = new Map([...federations.values()].map(one => [one.id, one.charter.founders]))
  const load = () => loadRecords(nodes.map(({ folder, plan }) => ({ name: plan.path, root: folder.root })))
  const { records, ...rest } = await load()
  const unnoted = checkInvariants({ ...rest, records: records.filter(({ record }) => record.record !== 'residual') }, founders)
  assert.ok(unnoted.some(({ invariant }) => invariant === 'I6'))
  const path = nodes.map(({ folder }) => folder.records).find(one => readFileSync(one, 'utf8').includes('"residual"'))!
  const line = readFileSync(path, 'utf8')
    .split('\n')
    .find(one => one.includes('"residual"'))!
  appendFileSync(path, `${line}\n`)
  const violations = checkInvariants(await load(), founders)
  assert.deepEqual(new Set(violations.map(({ invariant }) => invariant)), new Set(['I6']))
}
