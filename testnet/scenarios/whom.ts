/** Who is meant by a step, at the moment that it is due. Pure: the seating comes in, chance from a seed. */
import { WorldlmError } from '../../src/errors.ts'
import type { Random } from '../../src/math/random.ts'
import type { ScenarioStep, Who } from './schema.ts'

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
  if ('same' in who) return [...(seating.named.get(who.same) ?? [])]
  if ('random' in who) return pick(eligible, who.random)
  if ('all' in who) return only(within(seating, who.all))
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

const within = ({ nodes }: Seating, federation: string): string[] =>
  nodes.filter(node => isWithin(node, federation)).map(({ path }) => path)

const isWithin = (node: { federation: string }, federation: string): boolean =>
  node.federation === federation || node.federation.startsWith(`${federation}/`)

/** Names that no organization or federation of this testnet has are refused before anything starts. @throws {WorldlmError} SCENARIO_INVALID */
export function checkWhom(whom: Who | Who[], nodes: { path: string }[], federations: { path: string }[]): void {
  for (const who of Array.isArray(whom) ? whom : [whom]) {
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
