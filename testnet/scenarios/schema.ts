/**
 * A scenario: a story of faults on a testnet, as people write it (docs/scenarios.md). A list of steps: when, what, to whom.
 * Is: the only place that knows which words there are. Who is meant at a moment stands in whom.ts, when in script.ts.
 */
import { z } from 'zod'
import { WorldlmError } from '../../src/errors.ts'
import { nearest } from '../../src/nearest.ts'
import { isMapping, parseYaml } from '../../src/yaml.ts'

const federation = z.string().regex(/^world(\/.+)?$/, 'a federation’s path begins with world, e.g. world/code')
const seconds = z.number().min(0).max(86_400)
const range = z.union(
  [seconds, z.tuple([seconds, seconds]).refine(([from, to]) => from <= to, 'it ends before it begins: [from, to]')],
  'it is a number of seconds, or two of them that it is drawn between: [from, to]'
)

const whoWords = ['aggregator', 'delegate', 'member', 'all', 'random', 'same', 'each']
const notWho = `it is an organization’s path, or one of ${whoWords.map(word => `{ ${word}: … }`).join(', ')}`
/** An organization by its path, or by its place at the moment of the step. */
const who = z.union(
  [
    z.string().min(1),
    z.strictObject({ aggregator: federation }),
    z.strictObject({ delegate: federation }),
    z.strictObject({ member: federation }),
    z.strictObject({ all: federation }),
    z.strictObject({ random: z.int().min(1) }),
    z.strictObject({ same: z.string().min(1) }),
    /** One after another, as often as `repeat` says; each once. */
    z.strictObject({ each: federation })
  ],
  notWho
)
const whom = z.union([who, z.array(who).min(1, 'there is nobody in the list')], `${notWho}, or a list of them`)
const disk = z.enum(['old', 'empty'])
const again = z.strictObject({ afterSeconds: range, disk: disk.default('old') })

/** The aggregator's step in its round, as its status tells it. */
export const phases = ['collecting', 'aggregating', 'waiting-for-parent', 'combining', 'proposing'] as const

const when = {
  /** From the moment that all nodes are up. */
  at: z
    .union(
      [
        z.strictObject({ seconds: range }),
        z.strictObject({
          /** While this round is being made: the one before it is certified. */
          round: z.int().min(1),
          federation: federation.default('world'),
          phase: z.enum(phases).optional(),
          laterBySeconds: range.optional()
        })
      ],
      'it is { seconds: … }, or { round: …, federation: …, phase: …, laterBySeconds: … }'
    )
    .optional(),
  /** After the step before it was done. */
  afterSeconds: range.optional(),
  /** Besides: not before this federation can lose a voter and decide. */
  whenSpare: federation.optional(),
  repeat: z
    .strictObject({ everySeconds: range, times: z.int().min(1).optional(), untilRound: z.int().min(1).optional() })
    .optional(),
  /** A name for those whom this step meets: `same: name` in later steps. */
  as: z.string().min(1).optional()
}

export const link = {
  latencyMs: z.number().min(0).max(60_000).default(0),
  bytesPerSecond: z.number().min(0).default(0),
  loss: z.number().min(0).max(0.5).default(0)
}

const actions = {
  kill: z.strictObject({ ...when, do: z.literal('kill'), whom, again: again.optional() }),
  stop: z.strictObject({ ...when, do: z.literal('stop'), whom, again: again.optional() }),
  start: z.strictObject({ ...when, do: z.literal('start'), whom, disk: disk.default('old') }),
  pause: z.strictObject({ ...when, do: z.literal('pause'), whom, forSeconds: range.optional() }),
  resume: z.strictObject({ ...when, do: z.literal('resume'), whom }),
  partition: z.strictObject({
    ...when,
    do: z.literal('partition'),
    groups: z.array(whom).min(1),
    forSeconds: range.optional()
  }),
  heal: z.strictObject({ ...when, do: z.literal('heal') }),
  slow: z.strictObject({ ...when, do: z.literal('slow'), whom, to: whom.optional(), ...link, forSeconds: range.optional() }),
  'fill-disk': z.strictObject({ ...when, do: z.literal('fill-disk'), whom, again: again.optional() }),
  'free-disk': z.strictObject({ ...when, do: z.literal('free-disk'), whom })
}
const step = z.discriminatedUnion(
  'do',
  Object.values(actions) as unknown as [typeof actions.kill, ...(typeof actions)[keyof typeof actions][]]
)

const milliseconds = z.number().min(1)
export const scenarioSchema = z.strictObject({
  name: z.string().min(1).max(80),
  /** One sentence for who chooses among them. */
  about: z.string().min(1).max(300),
  /** What the testnet is like, unless the command line says otherwise. */
  testnet: z
    .strictObject({
      rounds: z.int().min(1).optional(),
      steps: z.int().min(1).optional(),
      timings: z
        .strictObject({
          electionTimeoutMs: milliseconds.optional(),
          heartbeatMs: milliseconds.optional(),
          presenceMs: milliseconds.optional(),
          deadlineMs: milliseconds.optional(),
          parentTimeoutMs: milliseconds.optional(),
          startTimeoutMs: milliseconds.optional()
        })
        .prefault({})
    })
    .prefault({}),
  /** Organizations that are not there at the beginning; a `start` brings them. */
  late: z.array(who).default([]),
  /** Federations that need not reach their last round. */
  mayEndEarly: z.array(federation).default([]),
  steps: z.array(step).min(1, 'there is none')
})

export type Scenario = z.output<typeof scenarioSchema>
export type ScenarioStep = Scenario['steps'][number]
export type Who = z.output<typeof who>
export type Range = z.output<typeof range>
export type Phase = (typeof phases)[number]

/** @throws {WorldlmError} SCENARIO_INVALID: where, what, and the nearest word there is. */
export function parseScenario(yaml: string, where: string): Scenario {
  const parsed = parseYaml(yaml)
  if ('fault' in parsed) throw invalid(`${where}: ${parsed.fault}`, 'Mend the YAML there.')
  if (!isMapping(parsed.value))
    throw invalid(`${where} is not a scenario`, 'It has `name:`, `about:` and `steps:`; see docs/scenarios.md.')
  return checkScenario(parsed.value, where)
}

/** @throws {WorldlmError} SCENARIO_INVALID */
export function checkScenario(value: unknown, where: string): Scenario {
  const parsed = scenarioSchema.safeParse(value)
  if (parsed.success) return checkOrder(parsed.data, where)
  const { path, message, key } = meant(parsed.error.issues)
  const at =
    path.length === 0
      ? 'the scenario'
      : path.reduce<string>(
          (text, one) => (typeof one === 'number' ? `${text}[${one}]` : `${text === '' ? '' : `${text}.`}${String(one)}`),
          ''
        )
  if (key !== null) {
    // A word that is known, but not beside the others that stand there.
    if (knownKeys(value, path).includes(key)) {
      const others = Object.keys(givenAt(value, path) as object).filter(other => other !== key)
      throw invalid(`${where}: ${at}: ${key} does not go with ${others.join(', ')}`, 'Leave one of them out.')
    }
    const near = nearest(key, knownKeys(value, path))
    throw invalid(
      `${where}: ${at}: there is no ${key}`,
      near === null ? `There is: ${knownKeys(value, path).join(', ')}.` : `Did you mean ${near}?`
    )
  }
  const given = givenAt(value, path)
  if (given === undefined) throw invalid(`${where}: ${at} is missing`, 'See docs/scenarios.md for what a scenario says.')
  if (path.at(-1) === 'do') {
    const said = String(given)
    const near = nearest(said, Object.keys(actions))
    throw invalid(
      `${where}: ${at}: there is no ${said}`,
      near === null ? `There is: ${Object.keys(actions).join(', ')}.` : `Did you mean ${near}?`
    )
  }
  throw invalid(`${where}: ${at}: ${message}`, 'See docs/scenarios.md for what a scenario may say.')
}

/** What undoes something, and what has to have been done before it. */
const undoes: Partial<Record<ScenarioStep['do'], ScenarioStep['do']>> = {
  heal: 'partition',
  resume: 'pause',
  'free-disk': 'fill-disk'
}

/** What only the steps together can get wrong. */
function checkOrder(scenario: Scenario, where: string): Scenario {
  const named = new Set<string>()
  for (const [place, one] of scenario.steps.entries()) {
    const all = 'groups' in one ? one.groups.flat() : 'whom' in one ? [one.whom, 'to' in one ? (one.to ?? []) : []].flat() : []
    for (const who of all)
      if (typeof who === 'object' && 'same' in who && !named.has(who.same))
        throw invalid(
          `${where}: steps[${place}]: no step before it is \`as: ${who.same}\``,
          'Give the earlier step that name, or name the organization.'
        )
    if (one.as !== undefined) named.add(one.as)
    const undone = undoes[one.do]
    if (undone !== undefined && !scenario.steps.slice(0, place).some(before => before.do === undone))
      throw invalid(`${where}: steps[${place}]: no step before it does a \`${undone}\``, `There is nothing to ${one.do}.`)
    const twice = 'groups' in one ? all.find((who, nth) => typeof who === 'string' && all.indexOf(who) !== nth) : undefined
    if (twice !== undefined)
      throw invalid(`${where}: steps[${place}].groups: ${String(twice)} is in two groups`, 'Nobody is on both sides of a cut.')
    if (one.at !== undefined && one.afterSeconds !== undefined)
      throw invalid(`${where}: steps[${place}] has both \`at\` and \`afterSeconds\``, 'Leave one out.')
    const each = all.some(who => typeof who === 'object' && 'each' in who)
    if (each && (all.length > 1 || !('whom' in one) || one.repeat === undefined))
      throw invalid(
        `${where}: steps[${place}]: \`each\` stands alone, and with \`repeat\``,
        'Say `repeat: { everySeconds: 5 }`.'
      )
    if (!each && one.repeat !== undefined && one.repeat.times === undefined && one.repeat.untilRound === undefined)
      throw invalid(`${where}: steps[${place}].repeat has no end`, 'Give it `times` or `untilRound`.')
  }
  return scenario
}

const givenAt = (value: unknown, path: PropertyKey[]): unknown =>
  path.reduce<unknown>((inner, one) => (inner as Record<PropertyKey, unknown> | undefined)?.[one], value)

interface Found {
  path: PropertyKey[]
  message: string
  key: string | null
}

/** The fault to tell of. In a union that is the one of the branch with the fewest unknown words: it was meant. */
function meant(issues: readonly z.core.$ZodIssue[]): Found {
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]!
  if (issue.code === 'unrecognized_keys') return { path: issue.path, message: issue.message, key: issue.keys[0] ?? null }
  if (issue.code !== 'invalid_union') return { path: issue.path, message: issue.message, key: null }
  const branches = issue.errors.filter(branch => !branch.some(({ code, path }) => code === 'invalid_type' && path.length === 0))
  const best = branches.sort((left, right) => unknownWords(left) - unknownWords(right) || left.length - right.length)[0]
  if (best === undefined) return { path: issue.path, message: issue.message, key: null }
  const inner = meant(best)
  return { ...inner, path: [...issue.path, ...inner.path] }
}

const unknownWords = (branch: readonly z.core.$ZodIssue[]): number =>
  branch.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length : 0), 0)

/** The words that may stand where an unknown one was found. */
function knownKeys(value: unknown, path: PropertyKey[]): string[] {
  const [first, place, ...rest] = path
  if (first === undefined) return Object.keys(scenarioSchema.shape)
  if (first === 'testnet')
    return place === 'timings'
      ? ['electionTimeoutMs', 'heartbeatMs', 'presenceMs', 'deadlineMs', 'parentTimeoutMs', 'startTimeoutMs']
      : ['rounds', 'steps', 'timings']
  if (first !== 'steps') return whoWords
  const said = (value as { steps: { do?: string }[] }).steps[Number(place)]?.do ?? ''
  switch (rest[0]) {
    case undefined:
      return said in actions
        ? Object.keys(actions[said as keyof typeof actions].shape)
        : ['do', 'at', 'afterSeconds', 'whenSpare', 'repeat', 'as', 'whom']
    case 'at':
      return ['seconds', 'round', 'federation', 'phase', 'laterBySeconds']
    case 'repeat':
      return ['everySeconds', 'times', 'untilRound']
    case 'again':
      return ['afterSeconds', 'disk']
    default:
      return whoWords
  }
}

const invalid = (message: string, hint: string): WorldlmError => new WorldlmError('SCENARIO_INVALID', message, hint)
