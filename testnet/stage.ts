/** What a scenario needs besides the nodes: a network that can be cut, disks that can be filled, who comes late. */
import { join } from 'node:path'
import { WorldlmError } from '../src/errors.ts'
import { Random } from '../src/math/random.ts'
import { Disks } from './disks.ts'
import type { Plan } from './plan.ts'
import { FaultyNetwork } from './proxy.ts'
import type { Scenario } from './scenarios/schema.ts'
import { checkNames, checkWhom, resolveWhom } from './scenarios/whom.ts'

export interface Stage {
  network: FaultyNetwork | null
  disks: Disks | null
  late: ReadonlySet<string>
}

/** What a scenario needs besides the nodes. @throws {WorldlmError} SCENARIO_INVALID, SCENARIO_IMPOSSIBLE, NO_LOOPBACK_RANGE */
export async function setStage(plan: Plan, out: string, scenario: Scenario | null, seed: number): Promise<Stage> {
  if (scenario === null) return { network: null, disks: null, late: new Set() }
  const late = lateOnes(plan, scenario, seed)
  checkNames(scenario, plan)
  const does = (...what: string[]) => scenario.steps.some(step => what.includes(step.do))
  const network = does('partition', 'slow')
    ? await FaultyNetwork.open(
        plan.nodes.map(({ path }) => path),
        seed
      )
    : null
  const disks = does('fill-disk') ? Disks.prepare(plan.nodes.map(({ folder }) => join(out, folder))) : null
  return { network, disks, late }
}

/** The first node is everybody's way in, and founders make the first entry: neither can come late. */
function lateOnes(plan: Plan, { late }: Scenario, seed: number): Set<string> {
  checkWhom(late, plan.nodes, plan.federations)
  const fixed = new Set([plan.nodes[0]!.path, ...plan.federations.map(({ founder }) => founder)])
  const nodes = plan.nodes.map(({ path, federation }) => ({ path, federation, eligible: !fixed.has(path) }))
  const seating = { nodes, aggregator: () => '', delegates: () => [], named: new Map() }
  const paths = late.length === 0 ? [] : resolveWhom(late, seating, new Random(`late/${seed}`))
  if (paths === null)
    throw new WorldlmError(
      'SCENARIO_INVALID',
      'who is to come late cannot: the founders of federations have to be there at the beginning',
      `Name another: ${nodes
        .filter(({ eligible }) => eligible)
        .map(({ path }) => path)
        .join(', ')}.`
    )
  return new Set(paths)
}
