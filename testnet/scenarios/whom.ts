/** Who is meant by a step, at the moment that it is due. Pure: the seating comes in, chance from a seed. */
import { WorldlmError } from '../../src/errors.ts'
import type { Random } from '../../src/math/random.ts'
import type { Scenario, ScenarioStep, Who } from './schema.ts'

export interface Seating {
  /** Organizations in order of their paths, and whether each could be meant now. */
  nodes: { path: string; federation: string; eligible: boolean }[]
  aggregator(federation: string): string | null
  delegates(federation: string): string[]
  /** Whom an earlier step met. */
  named: ReadonlyMap<string, readonly string[]>
}

/** Paths of those who are meant, each once; null: it cannot be told yet, or nobody fits. */
export function resolveWhom(whom: Who | Who[], seating: Seating, random: Random): string[] | null {
  const found = new Set<string>()
  for (const who of Array.isArray(whom) ? whom : [whom]) {
    const paths = resolve(who, seating, random)
    if (paths === null) return null
    for (const path of paths) found.add(path)
  }
  return [...found]
}

function resolve(who: Who, seating: Seating, random: Random): string[] | null {
  const eligible = seating.nodes.filter(node => node.eligible).map(({ path }) => path)
  const only = (paths: string[]) => paths.filter(path => eligible.includes(path))
  const pick = (paths: string[], count = 1) => {
    const left = [...paths]
    const picked: string[] = []
    while (picked.length < count && left.length > 0) picked.push(...left.splice(random.below(left.length), 1))
    return picked.length < count ? null : picked
  }
  if (typeof who === 'string') return eligible.includes(who) ? [who] : null
  if ('each' in who) return null
  const some = (paths: string[]) => (paths.length === 0 ? null : paths)
  if ('same' in who) return some([...(seating.named.get(who.same) ?? [])])
  if ('random' in who) return pick(eligible, who.random)
  if ('all' in who) return some(only(within(seating, who.all)))
  if ('aggregator' in who) {
    const path = seating.aggregator(who.aggregator)
    return path === null || !eligible.includes(path) ? null : [path]
  }
  const federation = 'delegate' in who ? who.delegate : who.member
  const leader = seating.aggregator(federation)
  if (leader === null) return null
  const others = ('delegate' in who ? seating.delegates(federation) : within(seating, federation)).filter(
    path => path !== leader
  )
  return pick(only(others))
}

const within = ({ nodes }: Pick<Testnet, 'nodes'>, federation: string): string[] =>
  nodes.filter(node => isWithin(node, federation)).map(({ path }) => path)

const isWithin = (node: { federation: string }, federation: string): boolean =>
  node.federation === federation || node.federation.startsWith(`${federation}/`)

interface Testnet {
  nodes: { path: string; federation: string }[]
  federations: { path: string }[]
}

/** What can never be done on this testnet is refused before anything starts. @throws {WorldlmError} SCENARIO_INVALID */
export function checkNames({ steps, mayEndEarly }: Scenario, { nodes, federations }: Testnet): void {
  const check = (whom: Who | Who[]) => checkWhom(whom, nodes, federations)
  for (const [place, step] of steps.entries()) {
    if ('groups' in step) {
      for (const group of step.groups) check(group)
      checkGroups(step.groups, nodes, `steps[${place}].groups`)
    }
    if ('whom' in step) check(step.whom)
    if ('to' in step && step.to !== undefined) check(step.to)
    if (step.at !== undefined && 'round' in step.at) check({ all: step.at.federation })
    if (step.whenSpare !== undefined) check({ all: step.whenSpare })
  }
  for (const path of mayEndEarly) check({ all: path })
}

/** As far as it can be told beforehand: whoever leads may turn out to be on two sides. */
function checkGroups(groups: (Who | Who[])[], nodes: Testnet['nodes'], where: string): void {
  const known = (who: Who) => (typeof who === 'string' ? [who] : 'all' in who ? within({ nodes }, who.all) : [])
  const sides = groups.map(group => [group].flat().flatMap(known))
  const twice = nodes.find(({ path }) => sides.filter(side => side.includes(path)).length > 1)
  if (twice !== undefined)
    throw new WorldlmError('SCENARIO_INVALID', `${where}: ${twice.path} is in two groups`, 'Nobody is on both sides of a cut.')
  if (groups.length === 1 && sides[0]!.length > 0 && nodes.every(({ path }) => sides[0]!.includes(path)))
    throw new WorldlmError('SCENARIO_INVALID', `${where}: all are in one group, so nothing is cut`, 'Name a part of them.')
}

/** Names that no organization or federation of this testnet has, and more organizations than it has. @throws {WorldlmError} SCENARIO_INVALID */
export function checkWhom(whom: Who | Who[], nodes: { path: string }[], federations: { path: string }[]): void {
  for (const who of Array.isArray(whom) ? whom : [whom]) {
    if (typeof who === 'object' && 'random' in who && who.random > nodes.length)
      throw new WorldlmError(
        'SCENARIO_INVALID',
        `the scenario draws ${who.random} organizations, and this testnet has ${nodes.length}`,
        'Draw fewer.'
      )
    const path = typeof who === 'string' ? who : Object.values(who).find(value => typeof value === 'string' && !('same' in who))
    const known = typeof who === 'string' ? nodes : federations
    if (path === undefined || known.some(one => one.path === path)) continue
    throw new WorldlmError(
      'SCENARIO_INVALID',
      `the scenario speaks of ${path}, which this testnet does not have`,
      `There is: ${known.map(one => one.path).join(', ')}.`
    )
  }
}

/** A step for `each` becomes one for every organization of that federation, in order of their paths. */
export function expandEach(steps: ScenarioStep[], nodes: { path: string; federation: string }[]): ScenarioStep[] {
  return steps.flatMap(step => {
    if (!('whom' in step) || typeof step.whom !== 'object' || !('each' in step.whom)) return [step]
    const { each } = step.whom
    const { repeat, at, afterSeconds, ...rest } = step
    return nodes
      .filter(node => isWithin(node, each))
      .map(({ path }, place) => ({
        ...rest,
        whom: path,
        ...(place > 0 ? { afterSeconds: repeat?.everySeconds ?? 0 } : at === undefined ? { afterSeconds } : { at })
      }))
  })
}
