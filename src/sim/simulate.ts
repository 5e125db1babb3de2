/** `simulate()`: one run from its options to its report. What `worldlm simulate` does, without files and without a terminal. */
import type { SimulationReport } from '../report/simulation.ts'
import { Averaging } from './averaging.ts'
import { electionTimeoutOf } from './charters.ts'
import { checkPlan, namedFaults } from './fault-plans.ts'
import type { FaultPlan } from './faults.ts'
import { simulatedInvariants } from './invariants.ts'
import type { Learner } from './learner.ts'
import type { OrganizationMeasures } from './measures.ts'
import { linkClasses } from './place.ts'
import { Quadratic } from './quadratic.ts'
import { defaultModelBytes, defaultTrainMs, Simulation } from './simulation.ts'
import { slowestTransferMs, type Topology } from './topology.ts'

export interface SimulateOptions {
  topology: Topology
  rounds: number
  seed: number
  /** A plan, or the name of one. */
  faults: FaultPlan | string
  /** By default `quadratic`. */
  learner?: Learner
  /** h of the learner `quadratic`. */
  heterogeneity?: number
  /** Share of the model that is key layers, 0 to 1. */
  keyFraction?: number
  /** Residuals brought to an organization a round; by default none, or as the topology's charter says. */
  residuals?: number
  /** Bytes of a model on the network, and milliseconds of local training at ordinary pace; by default as the topology says. */
  modelBytes?: number
  trainMs?: number
  signal?: AbortSignal
  onProgress?: (progress: { virtualSeconds: number; certified: number; events: number }) => void
  sabotage?: (world: Simulation) => void
}

const quadraticFloats = 32
/** What a round takes when nothing goes wrong, in virtual milliseconds; the fault plans fill this time. */
const roundMs = 10_000

/** @throws {WorldlmError} FAULTS_UNKNOWN, FAULTS_INVALID, CHARTER_* */
export async function simulate(options: SimulateOptions): Promise<SimulationReport> {
  const { topology, rounds, keyFraction = 1 } = options
  const learner: Learner = options.learner ?? quadraticOf(options, keyFraction)
  const faults = typeof options.faults === 'string' ? planFor(options, options.faults) : options.faults
  checkPlan(faults, factsOf(topology))
  const modelBytes = options.modelBytes ?? learner.modelBytes ?? topology.file?.modelBytes ?? defaultModelBytes
  const horizonMs = 120_000 + rounds * (roundMs * 20 + transfersMs(topology, modelBytes))
  const given = { ...options, learner, faults, horizonMs, keyFraction, modelBytes }
  return topology.kind === 'tree'
    ? simulateTree(new Simulation({ ...given, topology }), options.signal)
    : simulateGraph(
        new Averaging({
          ...given,
          topology,
          trainMs: options.trainMs ?? topology.file?.trainMs ?? defaultTrainMs
        })
      )
}

/** Of a round, in virtual milliseconds: each member's blob up and down over one line, in its federation and in those above it. */
function transfersMs(topology: Topology, modelBytes: number): number {
  const sizes =
    topology.kind === 'tree'
      ? topology.federations.map(({ members }) => members)
      : topology.neighbours.map(({ length }) => length)
  const most = sizes.reduce((size, one) => Math.max(size, one), 1)
  return 4 * most * slowestTransferMs(topology, modelBytes)
}

/** Whom a plan of faults may name: see `checkPlan`. */
export const factsOf = (topology: Topology): { peers: number; federations: number } => ({
  peers: topology.organizations.length,
  federations: topology.kind === 'tree' ? topology.federations.length : 0
})

/** The plan of that name for a run of these options. @throws {WorldlmError} FAULTS_UNKNOWN */
export function planFor(
  { topology, rounds, seed }: Pick<SimulateOptions, 'topology' | 'rounds' | 'seed'>,
  name: string
): FaultPlan {
  return namedFaults(name, {
    peers: topology.organizations.length,
    federations: topology.kind === 'tree' ? topology.federations.length : 1,
    horizonMs: 10_000 + rounds * roundMs,
    seed,
    electionTimeoutMs: electionTimeoutOf(topology)
  })
}

async function simulateTree(world: Simulation, signal: AbortSignal | undefined): Promise<SimulationReport> {
  const stop = () => world.stop()
  signal?.addEventListener('abort', stop)
  const before = await lossBefore(world.options)
  const began = performance.now()
  await world.run()
  signal?.removeEventListener('abort', stop)
  const { invariants, liveness, trace } = world
  const { violations } = invariants
  const lost = {
    roundsLost: world.roundsMissing,
    worstRoundSeconds: liveness.worstMs / 1000,
    evicted: invariants.evictions
  }
  return {
    ...reportOf(world, world.topics.length, lost, { before, seconds: (performance.now() - began) / 1000 }),
    certified: invariants.certifiedRounds,
    invariants: { checked: [...simulatedInvariants], violations },
    trace: violations.length > 0 ? trace.tail(40) : []
  }
}

/** Nothing is certified on a graph, so nothing of it can be violated. */
async function simulateGraph(world: Averaging): Promise<SimulationReport> {
  const before = await lossBefore(world.options)
  const began = performance.now()
  await world.run()
  const lost = { roundsLost: world.roundsMissing, worstRoundSeconds: 0, evicted: 0 }
  return reportOf(world, 0, lost, { before, seconds: (performance.now() - began) / 1000 })
}

function quadraticOf(
  { topology, seed, heterogeneity = topology.file?.heterogeneity ?? 0.5 }: SimulateOptions,
  keyFraction: number
): Quadratic {
  // On a graph, neighbours on one continent are kin.
  const paths =
    topology.kind === 'tree'
      ? topology.organizations.map(({ federation }) => topology.federations[federation]!.path)
      : topology.organizations.map(({ place }) => `world/${place.continent}`)
  return new Quadratic({ paths, heterogeneity, keyFraction, floats: quadraticFloats, seed })
}

/** Mean over the organizations, before anything is learned. */
async function lossBefore({ learner, topology }: { learner: Learner; topology: Topology }): Promise<number> {
  const { length } = topology.organizations
  const losses = await Promise.all(Array.from({ length }, (_, place) => learner.loss(place, learner.initial)))
  return losses.reduce((sum, loss) => sum + loss, 0) / length
}

function reportOf(
  { options, network, measures, faults, trace, clock, peers }: Simulation | Averaging,
  federations: number,
  lost: Pick<SimulationReport['faults'], 'roundsLost' | 'worstRoundSeconds' | 'evicted'>,
  { before, seconds }: { before: number; seconds: number }
): SimulationReport {
  const curve = measures.curve()
  const target = before * options.learner.targetShare
  const reached = curve.find(({ personal }) => personal <= target)
  const links = Object.fromEntries(
    linkClasses.map(name => [name, Array.from(network.bytes[name], bytes => Math.round(bytes ?? 0))])
  )
  return {
    schema: 'worldlm.simulation/1',
    topology: options.topology.name,
    seed: options.seed,
    learner: options.learner.name,
    peers: peers.length,
    federations,
    rounds: options.rounds,
    certified: 0,
    complete: lost.roundsLost === 0,
    digest: trace.digest(),
    events: Math.max(trace.events, federations === 0 ? clock.fired : 0),
    happenings: clock.fired,
    virtualSeconds: clock.nowMs / 1000,
    seconds,
    bytes: {
      total: Object.values(links)
        .flat()
        .reduce((sum, bytes) => sum + bytes, 0),
      links
    },
    convergence: {
      target,
      secondsToTarget: reached?.seconds ?? null,
      roundsToTarget: reached?.round ?? null,
      consensus: curve.findLast(({ organizations }) => organizations > 0)?.consensus ?? null,
      curve
    },
    organizations: (options.learner.names ?? []).map((path, place) => ({
      path,
      ...figuresOf(measures.organizations.get(place))
    })),
    residuals: Object.fromEntries(measures.residuals),
    faults: {
      plan: options.faults.name,
      counts: Object.fromEntries(faults.counts),
      warnings: Object.fromEntries(measures.warnings),
      ...lost
    },
    invariants: { checked: [], violations: [] },
    trace: []
  }
}

/** Losses are in nats a byte where organizations have texts. */
function figuresOf(measured: OrganizationMeasures | undefined) {
  const figure = (loss: number | undefined) =>
    loss === undefined || Number.isNaN(loss) ? null : { nllPerByte: loss, perplexity: Math.exp(loss) }
  return { round: measured?.round ?? 0, personal: figure(measured?.personal), aggregated: figure(measured?.aggregated) }
}
