/** A federation most of whose voters have lost their disks at once: nobody can be enrolled any more, and all say so. */
import assert from 'node:assert/strict'
import type { Fault, FaultPlan } from '../../src/sim/faults.ts'
import { short, story } from './runs.ts'

const lost = (...peers: number[]): FaultPlan => ({
  name: 'lost disks',
  clockDrift: 0,
  faults: peers.map((peer): Fault => {
    return { kind: 'crash', atMs: 12_000, who: { peer }, downMs: 2_000, afterEffects: 0, disk: 'empty' }
  })
})
const run = (...peers: number[]) => short({ tree: 'tree:3', rounds: 6, faults: lost(...peers) })

describe('voters that lost their disks', () => {
  it('are enrolled again by a majority, and say nothing', async () => {
    const report = await run(1)
    assert.deepEqual([report.complete, report.faults.warnings.ENROLL_WAITS], [true, undefined])
  })

  it('and the one that did not say that they wait for good, where they are the majority', async () => {
    const { complete, invariants, faults } = await run(1, 2)
    assert.deepEqual([complete, faults.warnings.ENROLL_WAITS], [false, 3])
    assert.ok(invariants.violations.every(({ invariant }) => invariant === 'I8'))
  })

  it('are enrolled again before they have their votes again, where they were away for so long that these were taken from them', async () => {
    for (const seed of [5, 14, 17]) {
      const [fault] = lost(1).faults
      const faults = { ...lost(), faults: [{ ...fault, downMs: 120_000 } as Fault] }
      const report = await short({ tree: 'tree:3', rounds: 20, seed, faults })
      assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'lost disks'))
    }
  })

  it('make another update for a round, also after they were lost a second time: either of them is counted (I4)', async () => {
    const faults = { name: 'none', clockDrift: 0, faults: [] }
    const report = await short({
      tree: 'tree:3',
      rounds: 5,
      faults,
      sabotage: ({ invariants, peers: [, peer] }) => {
        const announced = invariants.announced.bind(invariants)
        invariants.announced = (topic, record) => {
          announced(topic, record)
          const { update } = record
          if (update.member !== peer!.name || update.round !== 2) return
          // As if each life before had announced these, and a receipt had been given for the first.
          const made = [3, 1, 2, 1].map((round, nth) => ({ link: `life ${nth}`, update: { ...update, round, blob: `${nth}` } }))
          for (const one of made) announced(topic, one)
          invariants.receipt(peer!, topic, made[0]!)
        }
      }
    })
    assert.deepEqual([report.invariants.violations, report.complete], [[], true])
  })
})
