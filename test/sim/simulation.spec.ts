/** Runs of whole trees: that nothing is lost without faults, that a seed is a run, that no plan of faults breaks an invariant. */
import assert from 'node:assert/strict'
import { faultPlanNames } from '../../src/sim/fault-plans.ts'
import { economy } from '../../src/sim/presence.ts'
import { short, story } from './runs.ts'

describe('a simulated tree', () => {
  it('certifies every round of every federation, and learns', async () => {
    const report = await short({ tree: 'tree:2x2x4', rounds: 3 })
    assert.deepEqual(report.invariants.violations, [])
    assert.equal(report.complete, true)
    const { curve } = report.convergence
    assert.equal(curve.length, 3)
    assert.ok(curve[2]!.personal < curve[0]!.personal / 2, `${curve[0]!.personal} → ${curve[2]!.personal}`)
    assert.equal(curve[1]!.organizations, 16)
  })

  it('is the same run for the same seed, and another for another', async () => {
    const [first, again, other] = [
      await short({ seed: 5, faults: 'chaos' }),
      await short({ seed: 5, faults: 'chaos' }),
      await short({ seed: 6, faults: 'chaos' })
    ]
    assert.equal(first.digest, again.digest)
    assert.deepEqual({ ...first, seconds: 0 }, { ...again, seconds: 0 })
    assert.notEqual(first.digest, other.digest)
  })

  it('does the same whether idle presences are noted or delivered', async () => {
    const noted = await short({ seed: 3, tree: 'tree:2x6' })
    economy.presences = false
    try {
      const delivered = await short({ seed: 3, tree: 'tree:2x6' })
      assert.equal(delivered.virtualSeconds, noted.virtualSeconds)
      assert.deepEqual(delivered.convergence, noted.convergence)
      assert.deepEqual(delivered.bytes, noted.bytes)
    } finally {
      economy.presences = true
    }
  })
})

describe('no fault breaks an invariant', () => {
  const seeds = Array.from({ length: 12 }, (_, place) => 1000 + place)
  for (const plan of faultPlanNames) {
    it(`${plan}, ${seeds.length} seeds`, async () => {
      for (const seed of seeds) {
        const report = await short({ seed, faults: plan, tree: seed % 3 === 0 ? 'tree:2x2x3' : 'tree:2x4', rounds: 3 })
        assert.equal(report.invariants.violations.length, 0, story(report, plan))
      }
    })
  }
})
