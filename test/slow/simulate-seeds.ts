/** Seed after seed, so many of them or for so many seconds; the first that breaks an invariant is printed with the command that replays it. */
import assert from 'node:assert/strict'
import { faultPlanNames } from '../../src/sim/fault-plans.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { short, story } from '../sim/runs.ts'

const trees = ['tree:2x4', 'tree:2x2x3', 'tree:5', 'tree:3x5', 'tree:4x8', 'tree:2x2x2x3', 'tree:2x2', 'tree:3x2x2', 'tree:2x1']
/** Where one of two goes for good, the other waits for company: fewer than `minMembers` have no rounds. */
const isSmall = (tree: string) => /x[12]$/.test(tree)
/** Where somebody goes for good, lies, or is evicted, a federation may have too few members left above, too. */
const losesMembers = new Set(['churn', 'liars', 'equivocators', 'chaos'])

/** Federations above others that have not certified a single round: those below went on alone, and were complete without them. */
const idleAbove = ({ topics, invariants }: Simulation) =>
  topics.filter(topic => topics.some(({ charter }) => charter.parent === topic.id) && invariants.rounds(topic).length === 0)

export function sample(
  title: string,
  { beginSeed, seedsMax, seconds }: { beginSeed: number; seedsMax: number; seconds: number }
): void {
  describe(title, () => {
    it(`from seed ${beginSeed} on, ${seedsMax} seeds, ${seconds} s at most`, async () => {
      const end = performance.now() + seconds * 1000
      let [seeds, events] = [0, 0]
      for (let seed = beginSeed; seeds < seedsMax && performance.now() < end; seed++, seeds++) {
        const plan = faultPlanNames[seed % faultPlanNames.length]!
        // Small trees are the more often: most of what breaks, breaks there, and is read there.
        const tree = trees[Math.floor((seed / faultPlanNames.length) % (trees.length * 2)) % trees.length]!
        const residuals = seed % 4 === 0 ? 2 : 0
        const worlds: Simulation[] = []
        const sabotage = (world: Simulation) => worlds.push(world)
        const report = await short({ seed, faults: plan, tree, rounds: 3 + (seed % 3), residuals, sabotage })
        events += report.events
        const told = story(report, residuals > 0 ? `${plan} --residuals ${residuals}` : plan)
        assert.equal(report.invariants.violations.length, 0, told)
        assert.ok(report.complete || isSmall(tree), told)
        const idle = worlds.flatMap(idleAbove).map(({ charter }) => charter.path)
        if (!isSmall(tree) && !losesMembers.has(plan)) assert.deepEqual(idle, [], told)
      }
      console.log(`      ${seeds} seeds, ${events} events`)
    }).timeout(seconds * 1000 + 600_000)
  })
}
