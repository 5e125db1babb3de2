/** Who leaves before it knows that it was let in: the others would wait for its vote for ever. */
import assert from 'node:assert/strict'
import type { Fault, FaultPlan } from '../../src/sim/faults.ts'
import { short, story } from './runs.ts'

/** While a third is away, the second to join is given a vote at once: of two, so that nothing is certified without it. */
const leavesAt = (cutAtMs: number): FaultPlan => ({
  name: 'leaves at once',
  clockDrift: 0,
  faults: [
    { kind: 'stop', atMs: 2_500, who: { peer: 2 }, downMs: 40_000 },
    { kind: 'late', atMs: 10_000, who: { peer: 1 } },
    { kind: 'partition', atMs: cutAtMs, forMs: 15_000, side: [1], way: 'both' },
    { kind: 'leave', atMs: cutAtMs + 10, who: { peer: 1 } }
  ]
})

describe('an organization that leaves as soon as it has asked to join', () => {
  it('is let go, and the others go on without it, wherever it is cut off meanwhile', async () => {
    for (let cutAtMs = 10_000; cutAtMs < 11_000; cutAtMs += 20) {
      const report = await short({ seed: 1, tree: 'tree:3', rounds: 2, faults: leavesAt(cutAtMs) })
      assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, `cut at ${cutAtMs} ms`))
    }
  })
})

describe('an aggregator that leaves for good', () => {
  it('is not asked for ever by one that it has given a vote, which has heard of nobody else', async () => {
    const report = await short({ seed: 7_100_785, tree: 'tree:3x3', faults: 'chaos' })
    assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'chaos'))
  })
})

describe('a leaver that may be the only one to hold the certificate of its own going', () => {
  /** The third leads when it leaves, and is one of two voters when it goes: cut off at that moment, for longer than it lingers. */
  const cutOffAt = (cutAtMs: number, ...more: Fault[]): FaultPlan => ({
    name: 'cut off as it goes',
    clockDrift: 0,
    faults: [
      { kind: 'stop', atMs: 6_000, who: { aggregatorOf: 0 }, downMs: 2_500 },
      { kind: 'stop', atMs: 9_000, who: { peer: 1 }, downMs: 2_000 },
      { kind: 'leave', atMs: 12_000, who: { peer: 2 } },
      { kind: 'partition', atMs: cutAtMs, forMs: 25_000, side: [2], way: 'both' },
      ...more
    ]
  })
  const crash = (peer: number, atMs: number): Fault => {
    return { kind: 'crash', atMs, who: { peer }, downMs: 3_000, afterEffects: 0 }
  }

  it('stays until the voter that is left has it too, through power cuts of either', async () => {
    for (const seed of [1, 3, 7])
      for (let cutAtMs = 12_441; cutAtMs < 12_470; cutAtMs += 2)
        for (const more of [[], [crash(2, 16_000), crash(0, 18_000)]]) {
          const report = await short({ seed, tree: 'tree:3', rounds: 8, faults: cutOffAt(cutAtMs, ...more) })
          assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, `cut at ${cutAtMs} ms`))
        }
  })
})
