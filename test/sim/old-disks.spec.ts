/** A voter that comes back with an earlier copy of its disk (docs/protocol.md, "Old memories"). Named plan: `old-disks`; mutants.spec.ts. */
import assert from 'node:assert/strict'
import type { Fault, FaultPlan } from '../../src/sim/faults.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { short, story } from './runs.ts'

type Crash = Partial<Extract<Fault, { kind: 'crash' }>> & { atMs: number; downMs: number; who: { peer: number } }
const plan = (...crashes: Crash[]): FaultPlan => ({
  name: 'old disks',
  clockDrift: 0,
  faults: crashes.map(crash => ({ kind: 'crash', afterEffects: 0, ...crash }))
})
const run = (faults: FaultPlan, sabotage?: (world: Simulation) => void) =>
  short({ tree: 'tree:3', rounds: 6, faults, ...(sabotage === undefined ? {} : { sabotage }) })

describe('a voter with an earlier copy of its disk', () => {
  it('finds out that it is one, is told what it forgot, and votes again', async () => {
    const report = await run(plan({ atMs: 30_000, downMs: 500, who: { peer: 1 }, disk: { agoMs: 15_000 } }))
    assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'old disks'))
    assert.deepEqual([report.faults.warnings.MEMORY_OLD, report.faults.warnings.ENROLL_WAITS], [1, undefined])
  })

  it('is none where its disk is the newest: a restart says nothing, and costs no entry', async () => {
    const report = await run(plan(...[0, 1, 2].map(peer => ({ atMs: 25_000 + 3_000 * peer, downMs: 500, who: { peer } }))))
    assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'old disks'))
    assert.equal(report.faults.warnings.MEMORY_OLD, undefined)
  })

  it('is told by any member that it has company since, where it had the only vote and whoever leads cannot be heard', async () => {
    const old = { atMs: 30_000, downMs: 500, who: { peer: 0 }, disk: { agoMs: 29_000 } }
    const { faults } = plan(old)
    faults.push({ kind: 'partition', atMs: 30_100, forMs: 12_000, side: [1, 2, 3], way: 'both' })
    for (let seed = 1; seed <= 10; seed++) {
      const report = await short({ tree: 'tree:5', rounds: 6, seed, faults: { name: 'old disks', clockDrift: 0, faults } })
      assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'old disks'))
    }
  })

  it('waits for another that is away, for what only that one may know, and goes on when it is back', async () => {
    const away = { atMs: 29_000, downMs: 40_000, who: { peer: 2 } }
    const old = { atMs: 30_000, downMs: 500, who: { peer: 1 }, disk: { agoMs: 15_000 } }
    const heights: number[] = []
    const report = await run(plan(away, old), ({ clock, invariants }) => {
      for (const atMs of [36_000, 68_000]) clock.call(atMs, () => heights.push(invariants.certifiedEntries))
    })
    assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'old disks'))
    assert.equal(heights[0], heights[1], 'two of three are up, and one of them does not vote')
  })
})
