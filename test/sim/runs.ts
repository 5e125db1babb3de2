/** Short simulated runs for tests: a small tree, a seed, a plan of faults. */
import type { SimulationReport } from '../../src/report/simulation.ts'
import { simulate, type SimulateOptions } from '../../src/sim/simulate.ts'
import { namedTopology, type TreeTopology } from '../../src/sim/topology.ts'

export interface Short extends Partial<Omit<SimulateOptions, 'topology'>> {
  tree?: string
}

export function treeOf(name: string, seed: number): TreeTopology {
  const topology = namedTopology(name, null, seed)
  if (topology.kind !== 'tree') throw new Error(`${name} is no tree`)
  return topology
}

export function short({ tree = 'tree:2x4', seed = 1, rounds = 4, faults = 'none', ...rest }: Short): Promise<SimulationReport> {
  return simulate({ topology: treeOf(tree, seed), seed, rounds, faults, ...rest })
}

/** What a failing seed says: the first violation, the command that replays it, the end of its trace. */
export function story(report: SimulationReport, plan: string): string {
  const { invariants, topology, seed, rounds, trace } = report
  const [first] = invariants.violations
  const what = first === undefined ? `only ${report.certified} rounds were certified` : `${first.invariant}: ${first.detail}`
  const replay = `worldlm simulate --topology ${topology} --rounds ${rounds} --faults ${plan} --seed ${seed}`
  return [what, `replay: ${replay}`, ...trace.slice(-12)].join('\n')
}
