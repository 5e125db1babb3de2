/**
 * A charter as people write it: what is left out has its default, what contradicts itself is refused (docs/governance.md).
 */
import { z } from 'zod'
import { WorldlmError } from '../errors.ts'
import type { FederationId, PeerName } from '../ids.ts'
import { updateEncodings } from '../model/checkpoint.ts'
import { adaptable } from '../model/layout.ts'
import { presets } from '../model/presets.ts'
import { nearest } from '../nearest.ts'
import { type Algorithm, type Charter, type EgressRule, timingMsMax } from './charter.ts'
import { coversPlace } from './egress.ts'

/** Algorithms by name: ours, and the paper's literal one (arXiv 2405.14446). */
export const algorithms = {
  worldlm: {},
  'worldlm-paper': {
    keyFraction: 0.3,
    embeddingIsKey: false,
    up: 'cosine',
    upTemperature: 0.25,
    clip: 'none',
    down: 'chain',
    downTemperature: 0.25,
    downSchedule: 'constant'
  },
  fedavg: {
    keyFraction: 0,
    embeddingIsKey: false,
    clip: 'none',
    down: 'replace',
    residuals: { perNode: 0, minSimilarity: 0, dropAfter: 2 }
  }
} satisfies Record<string, Partial<Algorithm>>

const model = z.strictObject({
  layers: z.int().min(1).max(1024),
  width: z.int().min(4).max(65_536),
  hidden: z.int().min(4).max(262_144),
  heads: z.int().min(1).max(1024),
  context: z.int().min(1).max(131_072),
  vocabulary: z.int().min(256).max(1_000_000),
  ropeBase: z.number().positive().default(10_000),
  normEpsilon: z.number().positive().default(1e-5),
  kvHeads: z.int().min(1).max(1024).optional(),
  tiedHead: z.boolean().optional(),
  ropeScaling: z
    .discriminatedUnion(
      'type',
      [
        z.strictObject({ type: z.literal('linear'), factor: z.number().positive() }),
        z.strictObject({
          type: z.literal('llama3'),
          factor: z.number().positive(),
          lowFrequencyFactor: z.number().positive(),
          highFrequencyFactor: z.number().positive(),
          originalContext: z.int().min(1)
        })
      ],
      'expected type linear or llama3'
    )
    .optional()
})

const algorithm = z.strictObject({
  preset: z.enum(Object.keys(algorithms) as [keyof typeof algorithms]).default('worldlm'),
  keyFraction: z.number().min(0).max(1).optional(),
  embeddingIsKey: z.boolean().optional(),
  rounds: z.int().min(0).optional(),
  steps: z.int().min(1).optional(),
  batch: z.int().min(1).optional(),
  learningRate: z.number().positive().optional(),
  warmupSteps: z.int().min(0).optional(),
  decaySteps: z.int().min(0).optional(),
  weightDecay: z.number().min(0).optional(),
  gradientClip: z.number().min(0).optional(),
  keepOptimizer: z.boolean().optional(),
  outer: z.enum(['average', 'nesterov', 'adam']).optional(),
  outerLearningRate: z.number().positive().optional(),
  outerMomentum: z.number().min(0).max(1).optional(),
  up: z.enum(['update', 'cosine', 'dot', 'distance', 'uniform', 'mean']).optional(),
  upTemperature: z.number().positive().optional(),
  clip: z.enum(['centered', 'none']).optional(),
  down: z.enum(['likelihood', 'chain', 'self', 'replace']).optional(),
  downTemperature: z.number().positive().optional(),
  downTolerance: z.number().min(0).optional(),
  downSchedule: z.enum(['constant', 'learning-rate']).optional(),
  textPrior: z.number().min(0).optional(),
  levels: z.enum(['synchronous', 'pipelined']).optional(),
  stale: z.enum(['discount', 'drop']).optional(),
  encoding: z.enum(updateEncodings).optional(),
  adapters: z
    .strictObject({
      rank: z.int().min(1).max(4096).default(8),
      alpha: z.number().positive().default(16),
      matrices: z
        .array(z.enum(adaptable))
        .min(1)
        .default([...adaptable])
    })
    .optional(),
  residuals: z
    .strictObject({
      perNode: z.int().min(0).max(8).default(1),
      minSimilarity: z.number().min(-1).max(1).default(0),
      dropAfter: z.int().min(1).default(2)
    })
    .optional()
})

export const defaultElectionTimeoutMs = 1500
const milliseconds = z.number().min(1).max(timingMsMax)
/** Name of a blob, as `worldlm federation create --model` makes it. */
const blob = z.string().regex(/^bafy[a-z2-7]{20,80}$/, 'a blob’s name begins with bafy')
/** A segment of a path that rules match with patterns, and that people read on terminals. */
const name = z
  .string()
  .min(1)
  .max(80)
  .regex(
    /^(?!\s)(?!\.{1,2}$)[^\p{Cc}*]*(?<!\s)$/u,
    'a name has no control characters, no *, no space at its ends, and is not . or ..'
  )
const peers = z.array(z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{40,64}$/, 'not the name of a peer (12D3Koo…)'))
const tensor = z.enum(['backbone', 'keys', 'residual', 'sketch', 'metrics', '*'])
/** `parent`, `members`, `children`, or a pattern over paths. */
const place = z.string().min(1)
const timingsSchema = z.strictObject({
  electionTimeoutMs: milliseconds.default(defaultElectionTimeoutMs),
  heartbeatMs: milliseconds.optional(),
  presenceMs: milliseconds.default(2000),
  deadlineMs: milliseconds.default(600_000),
  parentTimeoutMs: milliseconds.default(600_000),
  startTimeoutMs: milliseconds.default(60_000)
})
const egressRule = z.strictObject({
  tensor,
  to: place.optional(),
  toJurisdiction: z.array(z.string().min(1)).min(1).optional(),
  allow: z.boolean(),
  encoding: z.enum(updateEncodings).optional(),
  reason: z.string().optional()
})

export const charterSchema = z.strictObject({
  name,
  model: z.union([z.enum(Object.keys(presets) as [keyof typeof presets]), model]).default('tiny'),
  initial: blob.optional(),
  tokenizer: blob.optional(),
  algorithm: algorithm.prefault({}),
  voters: z.int().min(1).max(9).default(5),
  delegates: z.int().min(1).max(9).default(3),
  minMembers: z.int().min(1).default(1),
  startMembers: z.int().min(1).default(1),
  timings: timingsSchema.prefault({}),
  admission: z.strictObject({ mode: z.enum(['open', 'allow-list']), peers: peers.optional() }).default({ mode: 'open' }),
  egress: z.array(egressRule).default([]),
  ingress: z
    .array(
      z.strictObject({
        tensor,
        from: place.optional(),
        allow: z.boolean(),
        reason: z.string().optional()
      })
    )
    .optional(),
  retention: z.strictObject({ keepRounds: z.int().min(1).default(20) }).prefault({}),
  seed: z.int().min(0).default(0)
})

export const algorithmDefaults: Algorithm = {
  keyFraction: 1,
  embeddingIsKey: true,
  rounds: 0,
  steps: 50,
  batch: 8,
  learningRate: 1e-3,
  warmupSteps: 100,
  decaySteps: 0,
  weightDecay: 0.1,
  gradientClip: 1,
  keepOptimizer: true,
  outer: 'average',
  outerLearningRate: 0.7,
  outerMomentum: 0.9,
  up: 'update',
  upTemperature: 0.4,
  clip: 'centered',
  down: 'likelihood',
  downTemperature: 0.25,
  downTolerance: 0.03,
  downSchedule: 'learning-rate',
  textPrior: 0.5,
  levels: 'synchronous',
  stale: 'discount',
  encoding: 'f32',
  residuals: { perNode: 1, minSimilarity: 0, dropAfter: 2 }
}

export interface CharterFacts {
  founders: PeerName[]
  parent: { id: FederationId; charter: Charter } | null
}

interface Issue {
  path: PropertyKey[]
  message: string
  errors?: Issue[][]
  keys?: string[]
}

/** Of a field that may be of several kinds zod says no more than “Invalid input”: what is wrong with it as the kind that it comes closest to. */
function tellingIssue(issue: Issue): Issue {
  const kinds = (issue.errors ?? []).flatMap(([first]) => (first === undefined ? [] : [tellingIssue(first)]))
  const [closest] = kinds.sort((one, other) => other.path.length - one.path.length)
  return closest === undefined ? issue : { ...closest, path: [...issue.path, ...closest.path] }
}

/** @throws {WorldlmError} CHARTER_INVALID, naming the field and what is allowed; CHARTER_CONTRADICTION */
export function completeCharter(input: unknown, { founders, parent }: CharterFacts): Charter {
  const parsed = charterSchema.safeParse(input)
  if (!parsed.success) throw charterInvalid(parsed.error.issues[0]!)
  const { model: chosen, algorithm: asked, timings, ...rest } = parsed.data
  const config = typeof chosen === 'string' ? presets[chosen] : { model: chosen, batch: algorithmDefaults.batch }
  const { preset, ...own } = asked
  const known = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined))
  const merged: Algorithm = { ...algorithmDefaults, batch: config.batch, ...algorithms[preset], ...known }
  if (own.embeddingIsKey === undefined && own.keyFraction !== undefined) merged.embeddingIsKey = merged.keyFraction === 1
  const charter: Charter = {
    schema: 'worldlm.charter/1',
    ...rest,
    timings: { ...timings, heartbeatMs: timings.heartbeatMs ?? Math.floor(timings.electionTimeoutMs / 3) },
    path: parent === null ? rest.name : `${parent.charter.path}/${rest.name}`,
    parent: parent?.id ?? null,
    founders,
    version: 1,
    // One model, one algorithm, one beginning for the whole tree: a child inherits them.
    model: parent?.charter.model ?? config.model,
    algorithm: parent?.charter.algorithm ?? merged,
    seed: parent?.charter.seed ?? rest.seed
  }
  if (parent !== null) {
    for (const field of ['initial', 'tokenizer'] as const) {
      const inherited = parent.charter[field]
      if (inherited === undefined) delete charter[field]
      else charter[field] = inherited
    }
  }
  checkContradictions(charter)
  return charter
}

/** What is wrong with a charter, by its field. */
export function charterInvalid(issue: Issue): WorldlmError {
  const { path, message, keys } = tellingIssue(issue)
  const near = keys === undefined ? null : nearest(keys[0]!, fieldNames)
  return new WorldlmError(
    'CHARTER_INVALID',
    `charter: ${path.join('.') || 'document'}: ${message}`,
    near === null ? 'See docs/governance.md for every field of a charter.' : `Did you mean ${near}?`
  )
}

const fieldNames = [charterSchema, algorithm, model, timingsSchema, egressRule].flatMap(({ shape }) => Object.keys(shape))

function checkContradictions(charter: Charter): void {
  const { timings, algorithm, admission, minMembers, startMembers, name, egress, ingress = [] } = charter
  const refuse = (what: string, hint: string): never => {
    throw new WorldlmError('CHARTER_CONTRADICTION', `charter of ${name}: ${what}`, hint)
  }
  if (timings.heartbeatMs * 3 > timings.electionTimeoutMs)
    refuse(
      'heartbeatMs is more than a third of electionTimeoutMs',
      'A single lost heartbeat must not start an election: lower it.'
    )
  if (startMembers < minMembers)
    refuse(
      `startMembers (${startMembers}) is below minMembers (${minMembers})`,
      'Round 1 could never close: raise startMembers.'
    )
  if (admission.mode === 'allow-list' && (admission.peers ?? []).length === 0)
    refuse('admission is an allow-list without peers', 'List the peers that may join.')
  if (algorithm.keyFraction === 0 && algorithm.embeddingIsKey)
    refuse('embeddingIsKey without key layers (keyFraction 0)', 'Raise keyFraction, or leave embeddingIsKey out.')
  for (const [field, rules] of [
    ['egress', egress.map(rule => ({ ...rule, place: rule.to }))],
    ['ingress', ingress.map(rule => ({ ...rule, place: rule.from }))]
  ] as const) {
    const found = contradiction(rules, charter.path)
    if (found !== null)
      refuse(
        `${field} rule ${found.later} is never reached: rule ${found.earlier} says the opposite for all that it matches`,
        'The first rule that matches wins: put the narrower one first, or leave one out.'
      )
    const world = charter.path.split('/')[0]!
    const nowhere = rules.find(
      ({ place = '**' }) => !/[/*]/.test(place) && place !== world && !['parent', 'members', 'children'].includes(place)
    )?.place
    if (nowhere !== undefined)
      refuse(
        `${field} names ${nowhere}, which nothing is`,
        `Write parent, members, children, or a pattern over paths, which begin with ${world}.`
      )
  }
  if (name.includes('/')) refuse('its name holds a slash', 'The path is made of the names of its federations.')
}

interface PlacedRule extends Pick<EgressRule, 'tensor' | 'toJurisdiction' | 'allow'> {
  place?: string
}

/** Two rules, from 1 on, of which the earlier leaves the later nothing, and says the opposite; null: there are none. */
function contradiction(rules: readonly PlacedRule[], ruler: string): { earlier: number; later: number } | null {
  const same = (left: unknown, right: unknown) => JSON.stringify(left) === JSON.stringify(right)
  const covers = (one: PlacedRule, other: PlacedRule) =>
    (one.tensor === '*' || one.tensor === other.tensor) &&
    // Behind a place that is allowed a part of it may be forbidden: that is asked of strangers, whom only the whole tree's permission means.
    (one.allow
      ? one.place === undefined || one.place === '**' || one.place === other.place
      : coversPlace(one.place, other.place, ruler)) &&
    (one.toJurisdiction === undefined || same(one.toJurisdiction, other.toJurisdiction))
  for (const [later, rule] of rules.entries()) {
    const earlier = rules.findIndex((one, place) => place < later && one.allow !== rule.allow && covers(one, rule))
    if (earlier !== -1) return { earlier: earlier + 1, later: later + 1 }
  }
  return null
}
