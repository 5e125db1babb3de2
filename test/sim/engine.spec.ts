/** Real training in the simulator: that it learns, that a seed is a run whatever the number of threads, and what crashes change. */
import assert from 'node:assert/strict'
import { readTree } from '../../src/data/text-tree.ts'
import { EngineLearner } from '../../src/experiment/engine-learner.ts'
import type { SimulationReport } from '../../src/report/simulation.ts'
import type { FaultPlan } from '../../src/sim/faults.ts'
import { simulate } from '../../src/sim/simulate.ts'
import { namedTopology, type Topology, topologyOfFile } from '../../src/sim/topology.ts'
import { four, smallModel, smallTree } from '../experiment/small.ts'

const tree = topologyOfFile('two', { federations: { 'world/a': { organizations: 2 }, 'world/b': { organizations: 2 } } }, 1)
const none: FaultPlan = { name: 'none', clockDrift: 0, faults: [] }

async function run(
  topology: Topology,
  workers: number,
  faults = none,
  rounds = 3,
  texts: Record<string, string> = four
): Promise<SimulationReport> {
  const learner = await EngineLearner.open({
    texts: readTree(smallTree(texts)),
    model: smallModel,
    algorithm: { rounds, steps: 6, batch: 2, warmupSteps: 0, learningRate: 0.01 },
    engine: 'reference',
    workers,
    seed: 1
  })
  try {
    return await simulate({ topology, rounds, seed: 1, faults, learner })
  } finally {
    await learner.close()
  }
}

const facts = ({ seconds: _, ...rest }: SimulationReport) => rest

describe('the learner `engine`', () => {
  it('trains each organization on its text, over certified rounds, and says what each reached', async () => {
    const report = await run(tree, 1)
    assert.deepEqual([report.complete, report.certified, report.invariants.violations], [true, 9, []])
    const paths = report.organizations.map(({ path }) => path)
    assert.deepEqual(paths, ['a/1', 'a/2', 'b/3', 'b/4'])
    const { curve } = report.convergence
    assert.ok(curve[2]!.personal < curve[0]!.personal - 0.1, `${curve[0]!.personal} → ${curve[2]!.personal}`)
    for (const { personal, aggregated } of report.organizations) {
      assert.ok(Math.abs(Math.exp(personal!.nllPerByte) - personal!.perplexity) < 1e-9)
      assert.ok(aggregated!.nllPerByte < 5.4)
    }
    // A model a round from each, and more for those above and below.
    const floats = 4 * (256 * 8 + 4 * 64 + 3 * 8 * 12 + 3 * 8)
    assert.ok(report.bytes.total > 3 * 4 * floats, `${report.bytes.total}, a model has ${floats}`)
    assert.ok(curve[0]!.bytes < curve[2]!.bytes && curve[2]!.bytes < report.bytes.total + 12)
    assert.deepEqual(
      curve.map(({ organizations }) => organizations),
      [4, 4, 4]
    )
  })

  it('trains who joins late by the federation’s schedule: more gently than in a first round', async () => {
    const learner = await EngineLearner.open({
      texts: readTree(smallTree(four)),
      model: smallModel,
      algorithm: { rounds: 10, steps: 6, batch: 2, warmupSteps: 0, learningRate: 0.01 },
      engine: 'reference',
      workers: 1,
      seed: 1
    })
    const moved = async (round: number) => {
      const { after } = await learner.train(0, learner.initial, 0, round)
      return Math.hypot(...after.map((value, place) => value - learner.initial[place]!))
    }
    try {
      const [first, ninth] = [await moved(1), await moved(9)]
      assert.ok(ninth > 0 && ninth < first / 3, `${ninth} beside ${first}`)
      assert.equal(await moved(1), first, 'a round is the same, whenever it is trained')
    } finally {
      await learner.close()
    }
  })

  it('is the same run on one thread and on three', async () => {
    const [one, three] = [await run(tree, 1), await run(tree, 3)]
    assert.deepEqual(facts(one), facts(three))
  })

  it('is the same run under crashes, in which rounds are trained again', async () => {
    const crashes: FaultPlan = {
      name: 'crashes',
      clockDrift: 0,
      faults: [3_000, 9_000, 15_000].map((atMs, place) => ({
        kind: 'crash',
        atMs,
        who: { peer: place + 1 },
        downMs: 1_000,
        afterEffects: 0
      }))
    }
    const [one, other] = [await run(tree, 2, crashes), await run(tree, 1, crashes)]
    assert.deepEqual(facts(one), facts(other))
    assert.deepEqual([one.complete, one.invariants.violations], [true, []])
    assert.equal(one.faults.counts.crash, 3)
  })

  /** The mean of models of unlike languages is worse than each: here all have one language. */
  const alike = { 'a/1': 'b', 'a/2': 'b', 'b/3': 'b', 'b/4': 'b' }
  for (const name of ['ring:4', 'clique:4', 'star:4']) {
    it(`learns on a ${name}`, async () => {
      const { convergence, complete } = await run(namedTopology(name, null, 1), 2, none, 2, alike)
      const losses = convergence.curve.map(({ personal }) => personal)
      assert.ok(complete && losses[1]! < losses[0]!, `${complete} ${losses}`)
    })
  }
})
