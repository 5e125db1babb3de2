/** Plans of faults from files: what is refused, and how it is said. */
import assert from 'node:assert/strict'
import { faultPlanNames, faultsOfFile, namedFaults } from '../../src/sim/fault-plans.ts'
import { simulate } from '../../src/sim/simulate.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { treeOf } from './runs.ts'
import { namedTopology } from '../../src/sim/topology.ts'

const crash = { kind: 'crash', atMs: 5_000, downMs: 1_000 }

describe('a plan of faults', () => {
  it('of a file is in the order of its moments, and called as the file is unless it says otherwise', () => {
    const faults = [
      { ...crash, who: { peer: 1 }, atMs: 9_000 },
      { ...crash, who: { aggregatorOf: 0 } }
    ]
    const plan = faultsOfFile('some/where/mine.yaml', { faults })
    assert.deepEqual([plan.name, plan.faults.map(({ atMs }) => atMs)], ['mine.yaml', [5_000, 9_000]])
    assert.equal(faultsOfFile('mine.yaml', { name: 'storm', faults }).name, 'storm')
  })

  it('of a file names a disk that is lost, or how old its copy is', () => {
    const disks = ['empty', { agoMs: 6_000 }]
    const { faults } = faultsOfFile('mine.yaml', { faults: disks.map(disk => ({ ...crash, who: { peer: 1 }, disk })) })
    assert.deepEqual(
      faults.map(fault => fault.kind === 'crash' && fault.disk),
      disks
    )
  })

  const rows: { why: string; document: object; says: RegExp }[] = [
    { why: 'whom', document: { faults: [{ ...crash, who: { pear: 1 } }] }, says: /faults\.0\.who: a peer, \{ peer: 4 \}/ },
    { why: 'a disk', document: { faults: [{ ...crash, who: { peer: 1 }, disk: 'old' }] }, says: /faults\.0\.disk/ },
    { why: 'an unknown kind', document: { faults: [{ kind: 'krash' }] }, says: /faults\.0\.kind.*'crash'/ },
    { why: 'an unknown key', document: { faults: [], clokDrift: 1 }, says: /clokDrift/ }
  ]
  for (const { why, document, says } of rows)
    it(`is refused for ${why}`, () => {
      assert.throws(() => faultsOfFile('mine.yaml', document), { code: 'FAULTS_INVALID', message: says })
    })

  const strangers: { document: object; says: RegExp }[] = [
    { document: { ...crash, who: { peer: 8 } }, says: /crash at 5000 ms: there is no peer 8, they are 0 to 7/ },
    { document: { kind: 'late', atMs: 5_000, who: { peer: 99 } }, says: /no peer 99/ },
    { document: { kind: 'partition', atMs: 1, forMs: 1, side: [1, 77] }, says: /no peer 77/ },
    { document: { ...crash, who: { aggregatorOf: 3 } }, says: /no federation 3, they are 0 \(the world\) to 2/ }
  ]
  for (const { document, says } of strangers)
    it(`is refused for whom there is not: ${says.source}`, async () => {
      const faults = faultsOfFile('mine.yaml', { faults: [document] })
      const run = simulate({ topology: treeOf('tree:2x4', 1), rounds: 1, seed: 1, faults })
      await assert.rejects(run, { code: 'FAULTS_INVALID', message: says })
    })

  it('is refused for a name that there is not, one that every object has among them', () => {
    for (const name of ['krashes', 'constructor'])
      assert.throws(
        () => namedFaults(name, { peers: 3, federations: 1, horizonMs: 30_000, seed: 4, electionTimeoutMs: 1500 }),
        {
          code: 'FAULTS_UNKNOWN'
        }
      )
  })

  it('of any name finds everybody that it is about', async () => {
    for (const name of faultPlanNames) {
      const horizonMs = 30_000
      const plan = namedFaults(name, { peers: 3, federations: 1, horizonMs, seed: 4, electionTimeoutMs: 1500 })
      await simulate({ topology: treeOf('tree:3', 4), rounds: 1, seed: 4, faults: plan })
    }
  })

  it('lasts as long as it says, whatever else of its kind begins or ends meanwhile', async () => {
    const [first, second] = [
      { atMs: 1_000, forMs: 4_000 },
      { atMs: 3_000, forMs: 6_000 }
    ]
    const plan = faultsOfFile('mine.yaml', {
      faults: [
        ...[first, second].map((time, nth) => ({ kind: 'weather', ...time, loss: (nth + 1) / 10 })),
        ...[first, second].map((time, nth) => ({ kind: 'slow', ...time, who: { peer: 1 }, factor: nth + 2 })),
        ...['silent', 'disk-full', 'lie', 'equivocate'].flatMap(kind =>
          [second, first].map(time => ({ kind, ...time, who: { peer: 2 } }))
        )
      ]
    })
    const seen: unknown[] = []
    const sabotage = ({ clock, network, peers }: Simulation) => {
      const { silent, disk, lying, equivocating } = peers[2]!
      assert.deepEqual([silent, disk.full, lying, equivocating], [false, false, false, false])
      for (const atMs of [2_000, 4_000, 6_000, 9_500])
        clock.call(atMs, () => {
          const { silent, disk, lying, equivocating } = peers[2]!
          seen.push([network.weather.loss, peers[1]!.slowness, silent, disk.full, lying, equivocating])
        })
    }
    await simulate({ topology: treeOf('tree:3', 4), rounds: 2, seed: 4, faults: plan, sabotage })
    assert.deepEqual(seen, [
      [0.1, 2, true, true, true, true],
      [0.2, 3, true, true, true, true],
      [0.2, 3, true, true, true, true],
      [0, 1, false, false, false, false]
    ])
  })

  it('has nobody lie on a graph, where nobody signs anything', async () => {
    const faults = faultsOfFile('mine.yaml', {
      faults: [
        { kind: 'equivocate', atMs: 5_000, forMs: 9_000, who: { aggregatorOf: 2 } },
        { kind: 'silent', atMs: 5_000, forMs: 9_000, who: { aggregatorOf: 2 } }
      ]
    })
    const report = await simulate({ topology: namedTopology('ring:5', null, 1), rounds: 2, seed: 1, faults })
    assert.deepEqual(report.faults.counts, { silent: 1 })
  })
})
