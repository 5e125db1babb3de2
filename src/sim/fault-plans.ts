/** Fault plans by name: drawn from a seed, as many as fit a run of so many peers and so long. All end before the last part of the run. */
import { z } from 'zod'
import { WorldlmError } from '../errors.ts'
import { Random } from '../math/random.ts'
import type { Fault, FaultPlan, Who } from './faults.ts'

export interface PlanFacts {
  peers: number
  federations: number
  /** Expected length of the run. */
  horizonMs: number
  seed: number
  /** How long a peer waits before it takes an old memory for the newest follows from it (federation/recall.ts). */
  electionTimeoutMs: number
}

type Draw = (facts: PlanFacts, random: Random) => Fault[]

/** Share of the run in which faults begin; the rest shows the recovery. */
const disturbed = 0.7

const at = (facts: PlanFacts, random: Random): number => random.float() * facts.horizonMs * disturbed

/** Every other time a leader, for that is where it hurts. */
const anyone = (facts: PlanFacts, random: Random): Who =>
  random.float() < 0.5 ? { aggregatorOf: random.below(facts.federations) } : { peer: random.below(facts.peers) }

/** @param share - of the peers, once in a run; at least `least` times. */
function many(facts: PlanFacts, share: number, least: number, draw: () => Fault): Fault[] {
  return Array.from({ length: Math.max(least, Math.round(share * facts.peers)) }, draw)
}

const crashes: Draw = (facts, random) =>
  many(facts, 0.5, 4, () => ({
    kind: 'crash',
    atMs: at(facts, random),
    who: anyone(facts, random),
    downMs: 500 + random.float() * 12_000,
    afterEffects: random.float() < 0.7 ? 1 + random.below(12) : 0
  }))

const churn: Draw = (facts, random) => [
  ...many(facts, 0.4, 3, (): Fault => {
    const downMs = 1_000 + random.float() * 20_000
    return { kind: 'stop', atMs: at(facts, random), who: anyone(facts, random), downMs }
  }),
  ...many(facts, 0.05, 1, (): Fault => {
    // A federation of one voter goes with its founder: first the others have joined.
    const atMs = facts.horizonMs * disturbed * (0.5 + random.float() / 2)
    return { kind: 'leave', atMs, who: anyone(facts, random) }
  }),
  ...many(facts, 0.1, 1, (): Fault => ({ kind: 'late', atMs: at(facts, random), who: { peer: random.below(facts.peers) } }))
]

const partitions: Draw = (facts, random) =>
  many(facts, 0.02, 3, () => {
    const share = 0.1 + 0.4 * random.float()
    const side = Array.from({ length: facts.peers }, (_, peer) => peer).filter(() => random.float() < share)
    const way = random.float() < 0.35 ? 'one-way' : 'both'
    return { kind: 'partition', atMs: at(facts, random), forMs: 1_000 + random.float() * 15_000, side, way }
  }).slice(0, 40)

const lossy: Draw = (facts, random) =>
  Array.from({ length: 3 }, (_, place) => ({
    kind: 'weather',
    atMs: ((place + random.float() * 0.3) / 3) * facts.horizonMs * disturbed,
    forMs: facts.horizonMs * 0.12,
    loss: random.float() * 0.25,
    duplication: random.float() * 0.2,
    reordering: random.float() * 0.3,
    reorderMs: 50 + random.float() * 2_000
  }))

const slow: Draw = (facts, random) => [
  ...many(facts, 0.1, 2, (): Fault => {
    const factor = 2 + random.float() * 20
    return { kind: 'slow', atMs: at(facts, random), forMs: 2_000 + random.float() * 30_000, who: anyone(facts, random), factor }
  }),
  ...many(facts, 0.05, 2, (): Fault => {
    const forMs = 1_000 + random.float() * 15_000
    return { kind: 'silent', atMs: at(facts, random), forMs, who: anyone(facts, random) }
  })
]

const disk: Draw = (facts, random) => [
  ...many(facts, 0.1, 2, (): Fault => {
    const forMs = 500 + random.float() * 10_000
    return { kind: 'disk-full', atMs: at(facts, random), forMs, who: anyone(facts, random) }
  }),
  ...crashes({ ...facts, peers: Math.ceil(facts.peers / 3) }, random)
]

const liars: Draw = (facts, random) =>
  many(facts, 0.1, 2, () => {
    const forMs = 5_000 + random.float() * 20_000
    return { kind: 'lie', atMs: at(facts, random), forMs, who: anyone(facts, random) }
  })

/** By then a federation has the voters that it will have: of two, one that lies leaves the other no majority to evict it with. */
const votersThereMs = 10_000

/** One after another, each long evicted when the next begins, for the same reason. Members without a vote sign nothing. */
const equivocators: Draw = (facts, random) => {
  const count = facts.peers < 12 ? 1 : 3
  const slotMs = (facts.horizonMs * disturbed - votersThereMs) / count
  return Array.from({ length: count }, (_, place): Fault => {
    const atMs = votersThereMs + slotMs * (place + random.float() / 4)
    return { kind: 'equivocate', atMs, forMs: slotMs / 2, who: anyone(facts, random) }
  })
}

/** So long a copy's slot lasts: a round or two, and the return of all. */
const copySlotMs = 16_000

/**
 * Some are away while others certify; then these die, and one of them comes back first, with its disk as it was when the first went: it and
 * those that were away know nothing of what was certified. Who does comes back a moment later, before it is given up
 * (docs/protocol.md, "Old memories"). One at a time: what a majority has forgotten, or one that was the only voter, nobody can tell it.
 */
const oldDisks: Draw = (facts, random) => {
  const count = Math.max(1, Math.floor((facts.horizonMs * disturbed - votersThereMs) / copySlotMs))
  const soonMs = Math.min(2_500, (5 / 3) * facts.electionTimeoutMs)
  return Array.from({ length: count }, (_, place): Fault[] => {
    const copyMs = votersThereMs + copySlotMs * place + random.float() * 2_000
    const atMs = copyMs + random.float() * 11_000
    const backMs = atMs + 100 + random.float() * 1_500
    const restored = random.below(facts.peers)
    const shareAway = random.float() * 0.6
    const die = (who: Who, fromMs: number, untilMs: number): Extract<Fault, { kind: 'crash' }> => ({
      kind: 'crash',
      ...{ atMs: fromMs, who, downMs: untilMs - fromMs },
      afterEffects: random.float() < 0.5 ? random.below(6) : 0
    })
    const others = Array.from({ length: facts.peers }, (_, peer) => peer).filter(peer => peer !== restored)
    return [
      { ...die({ peer: restored }, atMs, backMs), disk: { agoMs: atMs - copyMs, unlessOnlyVoter: true } },
      ...others.map(peer => {
        const isAway = random.float() < shareAway
        const fromMs = (isAway ? copyMs : atMs) + random.float() * 300
        return die({ peer }, fromMs, isAway ? backMs + (random.float() - 0.5) * 0.4 * soonMs : backMs + random.float() * soonMs)
      })
    ]
  }).flat()
}

const plans: Record<string, { drift: number; draw: Draw }> = {
  none: { drift: 0, draw: () => [] },
  crashes: { drift: 0.001, draw: crashes },
  churn: { drift: 0.001, draw: churn },
  partitions: { drift: 0.001, draw: partitions },
  lossy: { drift: 0.001, draw: lossy },
  slow: { drift: 0.05, draw: slow },
  disk: { drift: 0.001, draw: disk },
  liars: { drift: 0.001, draw: liars },
  equivocators: { drift: 0.001, draw: equivocators },
  'old-disks': { drift: 0.001, draw: oldDisks },
  chaos: {
    drift: 0.02,
    draw: (facts, random) => [crashes, churn, partitions, lossy, slow, disk].flatMap(draw => draw(facts, random))
  }
}

export const faultPlanNames = Object.keys(plans)

/** @throws {WorldlmError} FAULTS_UNKNOWN */
export function namedFaults(name: string, facts: PlanFacts): FaultPlan {
  const plan = Object.hasOwn(plans, name) ? plans[name] : undefined
  if (plan === undefined)
    throw new WorldlmError(
      'FAULTS_UNKNOWN',
      `no fault plan is named ${name}`,
      `Use one of ${faultPlanNames.join(', ')}, or name a YAML file.`
    )
  const random = new Random(`faults/${name}/${facts.seed}`)
  const faults = plan.draw(facts, random).sort((left, right) => left.atMs - right.atMs)
  return { name, clockDrift: plan.drift, faults }
}

const ms = z.number().min(0)
const who = z.union([z.strictObject({ peer: z.int().min(0) }), z.strictObject({ aggregatorOf: z.int().min(0) })], {
  error: 'a peer, { peer: 4 }, or who leads a federation, { aggregatorOf: 1 }'
})
const share = z.number().min(0).max(1)
const planFile = z.strictObject({
  name: z.string().optional(),
  clockDrift: z.number().min(0).max(0.5).default(0),
  faults: z.array(
    z.discriminatedUnion('kind', [
      z.strictObject({
        kind: z.literal('crash'),
        atMs: ms,
        who,
        downMs: ms,
        afterEffects: z.int().min(0).default(0),
        disk: z.union([z.literal('empty'), z.strictObject({ agoMs: ms, unlessOnlyVoter: z.boolean().optional() })]).optional()
      }),
      z.strictObject({ kind: z.literal('stop'), atMs: ms, who, downMs: ms }),
      z.strictObject({ kind: z.literal('leave'), atMs: ms, who }),
      z.strictObject({ kind: z.literal('late'), atMs: ms, who: z.strictObject({ peer: z.int().min(0) }) }),
      z.strictObject({
        kind: z.literal('partition'),
        atMs: ms,
        forMs: ms,
        side: z.array(z.int().min(0)),
        way: z.enum(['both', 'one-way']).default('both')
      }),
      z.strictObject({
        kind: z.literal('weather'),
        atMs: ms,
        forMs: ms,
        loss: share.default(0),
        duplication: share.default(0),
        reordering: share.default(0),
        reorderMs: ms.default(500)
      }),
      z.strictObject({ kind: z.literal('slow'), atMs: ms, forMs: ms, who, factor: z.number().min(1) }),
      z.strictObject({ kind: z.literal('silent'), atMs: ms, forMs: ms, who }),
      z.strictObject({ kind: z.literal('disk-full'), atMs: ms, forMs: ms, who }),
      z.strictObject({ kind: z.literal('lie'), atMs: ms, forMs: ms, who }),
      z.strictObject({ kind: z.literal('equivocate'), atMs: ms, forMs: ms, who })
    ])
  )
})

export const faultsHint = 'See docs/research.md, "Faults", for every kind of fault and its fields.'
const invalid = (what: string): WorldlmError => new WorldlmError('FAULTS_INVALID', what, faultsHint)

/** @throws {WorldlmError} FAULTS_INVALID, naming the field. */
export function faultsOfFile(name: string, document: unknown): FaultPlan {
  const parsed = planFile.safeParse(document)
  if (parsed.success) {
    const faults = parsed.data.faults.sort((left, right) => left.atMs - right.atMs)
    return { ...parsed.data, name: parsed.data.name ?? name.slice(name.search(/[^/\\]*$/)), faults }
  }
  const { path, message } = parsed.error.issues[0]!
  throw invalid(`${name}: ${path.join('.') || 'document'}: ${message}`)
}

/** @param federations - 0 on a graph, where any peer is as good as who leads. @throws {WorldlmError} FAULTS_INVALID, for whom there is not. */
export function checkPlan({ name, faults }: FaultPlan, { peers, federations }: Pick<PlanFacts, 'peers' | 'federations'>): void {
  for (const fault of faults) {
    const where = `${name}: ${fault.kind} at ${fault.atMs} ms`
    const named = 'side' in fault ? fault.side : 'who' in fault && 'peer' in fault.who ? [fault.who.peer] : []
    const stranger = named.find(peer => peer >= peers)
    if (stranger !== undefined) throw invalid(`${where}: there is no peer ${stranger}, they are 0 to ${peers - 1}`)
    if (federations === 0 || !('who' in fault) || !('aggregatorOf' in fault.who)) continue
    const { aggregatorOf } = fault.who
    if (aggregatorOf >= federations)
      throw invalid(`${where}: there is no federation ${aggregatorOf}, they are 0 (the world) to ${federations - 1}`)
  }
}
