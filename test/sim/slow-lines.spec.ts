/** Federations whose lines are slower than the rounds of the federation above: they make their rounds all the same. */
import assert from 'node:assert/strict'
import { simulate } from '../../src/sim/simulate.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { topologyOfFile } from '../../src/sim/topology.ts'

describe('a federation on slow lines', () => {
  for (const levels of ['synchronous', 'pipelined'])
    it(`makes its rounds below a parent that certifies faster than a model comes (${levels})`, async () => {
      // A model takes 12 s over such a line; the parent's rounds take 5 s.
      const topology = topologyOfFile(
        'far',
        {
          federations: { world: { organizations: 3, access: 'line' }, 'world/far': { organizations: 3, access: '4g' } },
          links: { '4g': { latencyMs: 60, jitterMs: 5, mbitUp: 10, mbitDown: 2, loss: 0 } },
          charter: {
            minMembers: 2,
            timings: { deadlineMs: 5_000, parentTimeoutMs: 20_000, startTimeoutMs: 20_000 },
            algorithm: { levels }
          },
          modelBytes: 3_000_000,
          trainMs: 2_000
        },
        1
      )
      const worlds: Simulation[] = []
      const sabotage = (world: Simulation) => worlds.push(world)
      const report = await simulate({ topology, rounds: 60, seed: 1, faults: 'none', keyFraction: 0.5, sabotage })
      assert.deepEqual([report.invariants.violations, report.complete], [[], true])
      const [{ topics, invariants }] = worlds as [Simulation]
      const [parent, far] = topics.map(topic => invariants.rounds(topic))
      assert.equal(parent!.length, 60)
      // Of a parent that has ended it waits for nothing, and says so.
      const meanwhile = far!.filter(({ alone }) => alone !== 'the parent has made all its rounds')
      assert.ok(meanwhile.length >= 3, `${meanwhile.length} rounds while the parent made 60`)
    }).timeout(60_000)
})
