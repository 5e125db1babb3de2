/** What is measured of learning, computed again from what organizations trained and took over; and how it is shown. */
import assert from 'node:assert/strict'
import { simulationCsv, simulationHtml } from '../../src/report/simulation.ts'
import type { Learner } from '../../src/sim/learner.ts'
import { Quadratic } from '../../src/sim/quadratic.ts'
import { simulate } from '../../src/sim/simulate.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { namedTopology } from '../../src/sim/topology.ts'
import { short } from './runs.ts'

/** Whose loss is its place, whatever it learns. */
class Numbered extends Quadratic implements Learner {
  override loss(organization: number): number {
    return organization
  }
}

describe('a simulation’s measures', () => {
  it('are means and distances of what organizations took over, under all faults, 6 seeds', async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const taken = new Map<number, { loss: number; model: Float32Array }[]>()
      const sabotage = ({ measures }: Simulation) => {
        const { applied: note } = measures
        measures.applied = (organization, round, loss, model) => {
          taken.set(round, [...(taken.get(round) ?? []), { loss, model: model.slice() }])
          note.call(measures, organization, round, loss, model)
        }
      }
      const { convergence } = await short({ tree: 'tree:2x3', seed, faults: 'chaos', sabotage })
      for (const { round, aggregated, consensus, organizations } of convergence.curve) {
        const all = taken.get(round) ?? []
        const mean = (of: (one: (typeof all)[number]) => number) => all.reduce((sum, one) => sum + of(one), 0) / all.length
        const squares = [...all[0]!.model.keys()].map(place => {
          const middle = mean(({ model }) => model[place]!)
          return mean(({ model }) => (model[place]! - middle) ** 2)
        })
        const distance = Math.sqrt(squares.reduce((sum, one) => sum + one, 0) / squares.length)
        assert.equal(organizations, all.length, `seed ${seed}`)
        assert.ok(Math.abs(aggregated - mean(({ loss }) => loss)) < 1e-9, `seed ${seed}, round ${round}`)
        assert.ok(Math.abs(consensus - distance) < 1e-6, `seed ${seed}, round ${round}: ${consensus} ${distance}`)
      }
    }
  })

  it('count who trains a round again once, 20 seeds', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const topology = namedTopology('ring:4', null, seed)
      const paths = topology.organizations.map(() => 'world')
      const learner = new Numbered({ paths, heterogeneity: 0.5, keyFraction: 1, floats: 32, seed })
      const { convergence } = await simulate({ topology, rounds: 4, seed, faults: 'crashes', learner })
      for (const { personal } of convergence.curve) assert.ok(Math.abs(personal - 1.5) < 1e-9, `seed ${seed}: ${personal}`)
    }
  })

  it('say that there is no distance of models that nobody took over', async () => {
    const faults = { name: 'alone', clockDrift: 0, faults: [{ kind: 'leave' as const, atMs: 3_000, who: { peer: 1 } }] }
    const report = await short({ tree: 'tree:2', rounds: 2, faults })
    const { curve, consensus } = report.convergence
    assert.deepEqual([curve.length, curve[0]!.organizations, curve[0]!.consensus, consensus], [1, 0, Number.NaN, null])
    assert.doesNotMatch(simulationCsv(report), /NaN|consensus/)
  })

  it('are called what they are: nats of text, or how much a loss is above the least', async () => {
    const report = await short({ tree: 'tree:2', rounds: 1 })
    assert.match(simulationHtml(report), /Excess loss over rounds/)
    const ofText = simulationHtml({ ...report, learner: 'engine' })
    assert.match(ofText, /Nats a byte over rounds/)
    assert.doesNotMatch(ofText, /Excess loss/)
  })
})
