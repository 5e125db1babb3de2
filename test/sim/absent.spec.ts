/** Peers that are away for long and come back while the entry that names them absent is open: no voter may wait for them to go again. */
import assert from 'node:assert/strict'
import { Random } from '../../src/math/random.ts'
import type { Fault, FaultPlan } from '../../src/sim/faults.ts'
import { simulate } from '../../src/sim/simulate.ts'
import { topologyOfFile } from '../../src/sim/topology.ts'
import { story } from './runs.ts'

const organizations = 7

/** Power cuts, cuts of the network and bad weather, each as long as it takes to be found away, or shorter. */
function gale(random: Random): FaultPlan {
  const many = (count: number, draw: (nth: number) => Fault) => Array.from({ length: count }, (_, nth) => draw(nth))
  const who = () => (random.float() < 0.5 ? { aggregatorOf: 0 } : { peer: random.below(organizations) })
  const atMs = () => 2_000 + random.float() * 40_000
  const faults = [
    ...many(50, () => {
      const [downMs, afterEffects] = [20 + random.float() * 9_000, 1 + random.below(10)]
      return { kind: 'crash', atMs: atMs(), who: who(), downMs, afterEffects }
    }),
    ...many(6, nth => {
      const weather = { loss: random.float() * 0.4, duplication: 0.2, reordering: 0.4, reorderMs: 3_000 }
      return { kind: 'weather', atMs: 2_000 + nth * 6_000, forMs: 5_000, ...weather }
    }),
    ...many(10, () => {
      const side = [...Array(organizations).keys()].filter(() => random.float() < 0.4)
      const way = random.float() < 0.5 ? 'one-way' : 'both'
      return { kind: 'partition', atMs: atMs(), forMs: 500 + random.float() * 8_000, side, way }
    })
  ]
  return { name: 'gale', clockDrift: 0.01, faults: faults.sort((left, right) => left.atMs - right.atMs) }
}

describe('a peer that comes back while it is being named absent', () => {
  it('keeps no federation from going on, 40 seeds', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = new Random(`gale/${seed}`)
      // Away after 6 s, so that many are.
      const timings = { presenceMs: 200, electionTimeoutMs: 1_000 }
      const charter = { voters: [3, 5, 7][random.below(3)], timings }
      const document = { federations: { world: { organizations } }, charter, trainMs: 1_500 }
      const topology = topologyOfFile('gale', document, seed)
      const report = await simulate({ topology, rounds: 3, seed, faults: gale(random) })
      assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'gale'))
    }
  })
})
