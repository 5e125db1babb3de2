/** `worldlm testnet` with real processes: to the report, through kills and Ctrl-C, and what `audit verify` says afterwards. */
import assert from 'node:assert/strict'
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RunFile } from '../../src/node/folder.ts'
import type { NodeStatus } from '../../src/node/status.ts'
import { testnetReportSchema } from '../../src/report/schema.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'
import { Command, isAlive, microModel, nodePids, run, stopAll } from './command.ts'

const readReport = (out: string) => testnetReportSchema.parse(JSON.parse(readFileSync(join(out, 'report.json'), 'utf8')))
const treeOf = (...paths: string[]) =>
  writeTree(Object.fromEntries(paths.map(path => [`${path}/train.txt`, textOf(9000, path.slice(-6))])))
const flags = (data: string, out: string, rounds: number, steps: number) => [
  ...['testnet', '--data', data, '--out', out, '--model', microModel()],
  ...['--rounds', String(rounds), '--steps', String(steps), '--no-alone']
]

/** Who leads `world`, as the node of the first name says it. */
async function aggregatorOf(out: string, names: string[]): Promise<string> {
  const runs = names.map(name => JSON.parse(readFileSync(join(out, name, 'run.json'), 'utf8')) as RunFile)
  const { federations } = (await (await fetch(`${runs[0]!.api}/v1/status`)).json()) as NodeStatus
  return names[runs.findIndex(({ peer }) => peer === federations[0]!.aggregator)]!
}

describe('a testnet of real processes', function () {
  this.timeout(180_000)
  afterEach(stopAll)

  it('trains on a tree it has never seen, of any depth and any names, to a report that holds; a changed copy does not', async () => {
    const data = treeOf('a/b/c/Klinik Süd', 'a/日本', 'Haus am See')
    const out = join(temporaryFolder(), 'out')
    const ended = await run([...flags(data, out, 2, 3), '--json'])
    assert.equal(ended.code, 0, ended.stderr)
    const report = testnetReportSchema.parse(JSON.parse(ended.stdout))
    assert.deepEqual(report, readReport(out))
    assert.deepEqual(report.organizations.map(({ path }) => path).sort(), ['Haus am See', 'a/b/c/Klinik Süd', 'a/日本'])
    assert.deepEqual(
      report.federations.map(({ path, rounds }) => [path, rounds]),
      ['world', 'world/a', 'world/a/b', 'world/a/b/c'].map(path => [path, 2])
    )
    assert.deepEqual([report.invariants.violations, report.faults, report.interrupted], [[], [], false])
    for (const { path } of report.organizations) {
      const mine = report.evaluations.filter(one => one.path === path && one.model === 'personal')
      assert.deepEqual(mine.map(({ round }) => round).sort(), [1, 2], path)
      assert.ok(mine.every(({ perplexity }) => perplexity > 1 && perplexity < 300))
    }
    for (const { path, round, total, ...parts } of report.times) {
      const sum = Object.values(parts).reduce((before, seconds) => before + seconds, 0)
      assert.ok(parts.train > 0 && parts.judge > 0 && Math.abs(sum - total) < 0.01 * total, `${path}, round ${round}`)
    }
    assert.match(readFileSync(join(out, 'report.html'), 'utf8'), /Klinik Süd/)
    assert.match(readFileSync(join(out, 'curves.csv'), 'utf8'), /^a\/日本,1,personal,/m)

    const verified = await run(['audit', 'verify', out, '--json'])
    assert.deepEqual([verified.code, JSON.parse(verified.stdout).ok], [0, true])
    const copy = join(temporaryFolder(), 'copy')
    cpSync(out, copy, { recursive: true })
    const car = join(copy, report.organizations[0]!.folder, 'certified.car')
    const bytes = readFileSync(car)
    bytes[bytes.length - 40]! ^= 1
    writeFileSync(car, bytes)
    const tampered = await run(['audit', 'verify', copy])
    assert.equal(tampered.code, 1)
    assert.match(tampered.stdout + tampered.stderr, /certified\.car is damaged at byte|WRONG_CERTIFICATE/)
  })

  it('ends cleanly on Ctrl-C: exit code 130, no process left, a report of what was done', async () => {
    const out = join(temporaryFolder(), 'out')
    const testnet = new Command(flags(treeOf('one', 'two'), out, 10_000, 3))
    await testnet.says(/world: round 2 certified/)
    const pids = [...nodePids(out).values()]
    assert.equal(pids.length, 2)
    testnet.kill('SIGINT')
    const { code, stdout } = await testnet.ended
    assert.equal(code, 130)
    assert.match(stdout, /Interrupted: the report holds what was done until then/)
    assert.deepEqual(pids.filter(isAlive), [])
    const report = readReport(out)
    assert.deepEqual([report.interrupted, report.invariants.violations], [true, []])
    assert.ok(report.rounds.length >= 2)
    assert.equal((await run(['audit', 'verify', out])).code, 0)
  })

  it('leaves no process behind when it is killed itself', async () => {
    const out = join(temporaryFolder(), 'out')
    const testnet = new Command(flags(treeOf('one', 'two'), out, 10_000, 3))
    await testnet.says(/world: round 1 certified/)
    const pids = [...nodePids(out).values()]
    testnet.kill('SIGKILL')
    await testnet.ended
    for (const began = Date.now(); pids.some(isAlive) && Date.now() - began < 20_000; )
      await new Promise(resolve => setTimeout(resolve, 50))
    assert.deepEqual(pids.filter(isAlive), [])
  })

  it('goes on without a member and without its aggregator that are killed (kill -9), says so, and reports both', async () => {
    const names = ['ada', 'ben', 'cleo', 'dora', 'emil']
    const out = join(temporaryFolder(), 'out')
    const testnet = new Command(flags(treeOf(...names), out, 10, 3))
    await testnet.says(/world: round 2 certified/)
    const pids = nodePids(out)
    const first = await aggregatorOf(out, names)
    const member = names.find(name => name !== first)!
    process.kill(pids.get(member)!, 'SIGKILL')
    await testnet.says(new RegExp(`${member} is gone \\(SIGKILL\\)`))
    await testnet.says(new RegExp(`certified.*without ${member}`))
    const aggregator = await aggregatorOf(
      out,
      names.filter(name => name !== member)
    )
    process.kill(pids.get(aggregator)!, 'SIGKILL')
    await testnet.says(new RegExp(`${aggregator} is gone \\(SIGKILL\\); it was aggregator of world`))
    const { code, stdout, stderr } = await testnet.ended
    assert.equal(code, 0, stdout + stderr)
    const report = readReport(out)
    assert.deepEqual(
      report.faults.map(({ kind, path }) => [kind, path]),
      [
        ['lost-member', member],
        ['lost-aggregator', aggregator]
      ]
    )
    for (const { recoveredAfterMs } of report.faults) assert.ok(recoveredAfterMs !== null)
    assert.deepEqual(report.invariants.violations, [])
    assert.equal(report.federations[0]!.rounds, 10)
    const last = report.rounds.at(-1)!
    assert.deepEqual([last.included.length, last.excluded.length <= 2], [3, true])
    assert.ok(existsSync(join(out, 'report.html')))
    assert.equal((await run(['audit', 'verify', out])).code, 0)
  })
})
