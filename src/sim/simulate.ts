/** `simulate()`: one run from its options to its report. What `worldlm simulate` does, without files and without a terminal. */
import type { SimulationReport } from '../report/simulation.ts'
import { namedFaults } from './fault-plans.ts'
import type { FaultPlan } from './faults.ts'
import { simulatedInvariants } from './invariants.ts'
import type { Learner } from './learner.ts'
import { linkClasses } from './place.ts'
import { Quadratic } from './quadratic.ts'
import { Simulation } from './simulation.ts'
import type { TreeTopology } from './topology.ts'

export interface SimulateOptions {
  topology: TreeTopology
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
  signal?: AbortSignal
  onProgress?: (progress: { virtualSeconds: number; certified: number; events: number }) => void
  sabotage?: (world: Simulation) => void
}

const quadraticFloats = 32
/** Of the loss before training. */
const targetShare = 0.1
/** What a round takes when nothing goes wrong, in virtual milliseconds; the fault plans fill this time. */
const roundMs = 10_000

export async function simulate(options: SimulateOptions): Promise<SimulationReport> {
  const { topology, rounds, keyFraction = 1, signal } = options
  const learner = options.learner ?? quadraticOf(options, keyFraction)
  const faults = typeof options.faults === 'string' ? planFor(options, options.faults) : options.faults
  const horizonMs = 120_000 + rounds * roundMs * 20
  const world = new Simulation({ ...options, learner, faults, horizonMs, keyFraction })
  const stop = () => world.stop()
  signal?.addEventListener('abort', stop)
  const began = performance.now()
  await world.run()
  signal?.removeEventListener('abort', stop)
  return reportOf(world, await lossBefore(learner, topology), (performance.now() - began) / 1000)
}

/** The plan of that name for a run of these options. @throws {WorldlmError} FAULTS_UNKNOWN */
export function planFor(
  { topology, rounds, seed }: Pick<SimulateOptions, 'topology' | 'rounds' | 'seed'>,
  name: string
): FaultPlan {
  return namedFaults(name, {
    peers: topology.organizations.length,
    federations: topology.federations.length,
    horizonMs: 10_000 + rounds * roundMs,
    seed
  })
}

function quadraticOf(
  { topology, seed, heterogeneity = topology.file?.heterogeneity ?? 0.5 }: SimulateOptions,
  keyFraction: number
): Quadratic {
  const paths = topology.organizations.map(({ federation }) => topology.federations[federation]!.path)
  return new Quadratic({ paths, heterogeneity, keyFraction, floats: quadraticFloats, seed })
}

async function lossBefore(learner: Learner, { organizations }: TreeTopology): Promise<number> {
  let sum = 0
  for (const organization of organizations.keys()) sum += await learner.loss(organization, learner.initial)
  return sum / organizations.length
}

function reportOf(world: Simulation, before: number, seconds: number): SimulationReport {
  const { options, invariants, network, measures, faults, trace, clock, liveness } = world
  const curve = measures.curve()
  const target = before * targetShare
  const reached = curve.find(({ personal }) => personal <= target)
  const links = Object.fromEntries(
    linkClasses.map(name => [name, Array.from(network.bytes[name], bytes => Math.round(bytes ?? 0))])
  )
  const { violations } = invariants
  return {
    schema: 'worldlm.simulation/1',
    topology: options.topology.name,
    seed: options.seed,
    learner: options.learner.name,
    peers: world.peers.length,
    federations: world.topics.length,
    rounds: options.rounds,
    certified: invariants.certifiedRounds,
    complete: world.complete,
    digest: trace.digest(),
    events: trace.events,
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
      consensus: curve.at(-1)?.consensus ?? 0,
      curve
    },
    faults: {
      plan: options.faults.name,
      counts: Object.fromEntries(faults.counts),
      warnings: Object.fromEntries(measures.warnings),
      roundsLost: world.roundsMissing,
      worstRoundSeconds: liveness.worstMs / 1000
    },
    invariants: { checked: [...simulatedInvariants], violations },
    trace: violations.length > 0 ? trace.tail(40) : []
  }
}
