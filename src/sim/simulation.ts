/**
 * A run of a simulated tree of federations: everything put together, and the loop that lets time pass.
 *
 *   topology → charters → topics, peers ──start──▶ events … ──every leaf federation has its rounds──▶ report
 *
 * Drives federation, governance and aggregate as they are. Is not: the daemon's bytes; see stand-ins.ts, and pulling.ts for blobs.
 */
import type { RoundEntry, Update } from '../federation/entry.ts'
import { Pending } from './pending.ts'
import { mayEnter, mayLeave } from '../governance/egress.ts'
import type { FederationId, Link, PeerName } from '../ids.ts'
import { Random } from '../math/random.ts'
import { Announced } from './announced.ts'
import { simulatedCharters } from './charters.ts'
import { Clock } from './clock.ts'
import type { PeerCore, Services, Topic } from './core.ts'
import { type FaultPlan, Faults } from './faults.ts'
import { FoldedLog } from './folded-log.ts'
import { Invariants } from './invariants.ts'
import type { Learner } from './learner.ts'
import { Liveness } from './liveness.ts'
import { LearningMeasures } from './measures.ts'
import { blobLink, Mixing } from './mixing.ts'
import { Network } from './network.ts'
import { Peer } from './peer.ts'
import { lineOf } from './residual-bridge.ts'
import { linkOfEntry } from './stand-ins.ts'
import { writeFirstMemory } from './store.ts'
import { Swarm } from './swarm.ts'
import { slowestTransferMs, type TreeTopology } from './topology.ts'
import { Trace } from './trace.ts'

export interface SimulationOptions {
  topology: TreeTopology
  rounds: number
  seed: number
  faults: FaultPlan
  learner: Learner
  /** Virtual milliseconds after which the run is given up. */
  horizonMs: number
  /** Share of the model that is key layers. */
  keyFraction: number
  /** Residuals brought to an organization a round; left out: none, unless a topology file's charter says so. */
  residuals?: number
  modelBytes?: number
  trainMs?: number
  /** Called about once a second of real time. */
  onProgress?: (progress: { virtualSeconds: number; certified: number; events: number }) => void
  /** Breaks the code on purpose, before anything starts (tests of the invariants). */
  sabotage?: (world: Simulation) => void
}

export const defaultModelBytes = 1_000_000
export const defaultTrainMs = 4_000
const aggregateMs = 150
const lookMs = 500
/** After its last round a run goes on until all have taken it over, or for so long. */
const lastMs = 20_000

export class Simulation {
  readonly options: SimulationOptions
  readonly clock: Clock
  readonly trace = new Trace()
  readonly network: Network
  readonly topics: Topic[]
  readonly peers: Peer[]
  readonly invariants: Invariants
  readonly liveness: Liveness
  readonly measures: LearningMeasures
  readonly faults: Faults
  readonly services: Services
  readonly #pending = new Pending(() => this.#done)
  readonly #leaves: Topic[]
  readonly #childrenOf: Map<FederationId, Topic[]>
  readonly #homes: ReadonlyMap<PeerName, Topic>
  /** Those that are in no federation below it. */
  readonly #organizationsOf: Map<Topic, Peer[]>
  /** What `#quiet` found since the last look began: a federation asks its children. */
  readonly #quietNow = new Map<Topic, boolean>()
  #allUp = false
  #done = false

  constructor(options: SimulationOptions) {
    this.options = options
    const { topology, seed, learner, faults } = options
    const random = new Random(`simulation/${seed}`)
    this.clock = new Clock(random.fork('ties'))
    this.network = new Network(this.clock, random.fork('network'), topology.links)
    this.measures = new LearningMeasures(
      () => this.clock.nowMs,
      learner.shape.floats,
      () => this.network.bytesInAll
    )
    this.invariants = new Invariants({
      nowMs: () => this.clock.nowMs,
      homeOf: name => this.#homes.get(name) ?? null,
      lineOf: topic => lineOf(this.services, topic),
      isHonest: peer => !this.faults.liars.has(this.services.peers.get(peer)?.index ?? -1),
      onLies: topic => this.measures.told(topic, 'CERTIFIED_BY_LIARS'),
      recompute: (topic, entry, updates, previous) => this.#recompute(topic, entry, updates, previous),
      onRound: topic => this.#onRound(topic)
    })
    const mixing = new Mixing(learner.shape, seed)
    this.topics = topicsOf(options, mixing.sketchBytes)
    this.#homes = new Map(topology.organizations.map(({ federation }, place) => [peerName(place), this.topics[federation]!]))
    this.services = {
      clock: this.clock,
      network: this.network,
      random: random.fork('world'),
      learner,
      mixing,
      observer: this.invariants,
      consent: { mayLeave, mayEnter },
      measures: this.measures,
      trace: this.trace,
      peers: new Map<PeerName, PeerCore>(),
      topics: new Map(this.topics.map(topic => [topic.id, topic])),
      swarm: new Swarm(this.clock),
      blobBytes: options.modelBytes ?? learner.modelBytes ?? topology.file?.modelBytes ?? defaultModelBytes,
      trainMs: options.trainMs ?? topology.file?.trainMs ?? defaultTrainMs,
      aggregateMs,
      peaceful: options.faults.faults.length === 0,
      treacherous: options.faults.faults.some(({ kind }) => kind === 'equivocate'),
      wait: (result, then) => this.#pending.wait(result, then)
    }
    this.peers = this.#makePeers(random.fork('peers'))
    this.#organizationsOf = Map.groupBy(this.peers, ({ name }) => this.#homes.get(name)!)
    this.#leaves = [...new Set(topology.organizations.map(({ federation }) => federation))].map(place => this.topics[place]!)
    this.#childrenOf = new Map(this.topics.map(({ id }) => [id, this.topics.filter(({ charter }) => charter.parent === id)]))
    const onRestored = ({ index }: { index: number }, agoMs: number) =>
      this.invariants.restored(peerName(index), this.clock.nowMs - agoMs)
    this.faults = new Faults({ ...this, random: random.fork('faults'), onRestored }, faults)
    this.liveness = new Liveness(this.topics, {
      nowMs: () => this.clock.nowMs,
      quiet: topic => this.#isQuiet(topic),
      finished: topic => this.#finished(topic),
      slowestMs: ({ index }) => this.services.trainMs * slowestPace + Math.max(20_000, this.#transfersMs(index)),
      report: (invariant, detail) => this.invariants.report(invariant, detail)
    })
  }

  /** Until every federation of organizations has its rounds, something is broken, or the horizon is reached. */
  async run(): Promise<void> {
    this.options.sabotage?.(this)
    const late = new Set(this.options.faults.faults.flatMap(fault => (fault.kind === 'late' ? [fault.who.peer] : [])))
    for (const peer of this.peers) if (!late.has(peer.index)) this.clock.call(startDelayMs(peer), () => peer.start())
    const look = () => {
      this.#quietNow.clear()
      this.#allUp = this.peers.every(({ up }) => up)
      this.liveness.look()
      if (this.complete && this.#allApplied()) this.#done = true
      this.clock.call(lookMs, look)
    }
    this.clock.call(lookMs, look)
    const { horizonMs, onProgress } = this.options
    const { clock, invariants } = this
    let toldAt = Date.now()
    for (let count = 0; !this.#done && clock.nowMs < horizonMs && invariants.violations.length === 0; count++) {
      if (!clock.next()) break
      if (this.#pending.isOpen) await this.#pending.settled()
      if ((count & 0xffff) !== 0 || Date.now() - toldAt < 1_000) continue
      toldAt = Date.now()
      onProgress?.({
        virtualSeconds: clock.nowMs / 1000,
        certified: invariants.certifiedRounds,
        events: this.trace.events
      })
      // Lets signals in: the loop itself never waits.
      await new Promise(resolve => setImmediate(resolve))
    }
  }

  /** Whether all leaf federations have certified all their rounds. */
  get complete(): boolean {
    return this.roundsMissing === 0
  }

  /** Rounds that leaf federations have not certified yet. */
  get roundsMissing(): number {
    const missing = (topic: Topic) => Math.max(0, this.options.rounds - this.invariants.rounds(topic).length)
    return this.#leaves.reduce((sum, topic) => sum + missing(topic), 0)
  }

  stop(): void {
    this.#done = true
  }

  /** Whether all who are there have taken the last round over. */
  #allApplied(): boolean {
    return this.peers.every(({ replicas, up }) => {
      if (!up) return true
      for (const { organization, state } of replicas.values())
        if (organization !== null && state.roster.members.has(state.self) && organization.applied !== state.head.link)
          return false
      return true
    })
  }

  #onRound(topic: Topic): void {
    this.liveness.certified(topic)
    if (this.#leaves.includes(topic) && this.complete) this.clock.call(lastMs, () => this.stop())
  }

  /** Anyone who has the inputs gets the same bits: with a parent, the entry's model is the combination (see round-effects.ts). */
  #recompute(topic: Topic, entry: RoundEntry, updates: readonly Update[], previous: RoundEntry | null): Link | null {
    const { mixing, learner, swarm } = this.services
    const modelOf = (link: Link) => {
      for (const peer of swarm.holdersOf(link)) {
        const blob = peer.blobs.get(link)
        if (blob !== undefined) return blob.model
      }
      return null
    }
    const before = previous === null ? learner.initial : modelOf(previous.model)
    const models = updates.map(({ blob }) => modelOf(blob))
    if (before === null || models.some(model => model === null)) return null
    const inputs = updates.map((update, place) => ({
      model: models[place]!,
      weight: entry.inputs[place]!.weight,
      sketches: update.sketches,
      keysDistance: mixing.keysDistance(models[place]!, before)
    }))
    const { model } = mixing.aggregate(topic.charter.algorithm, inputs, before)
    const above = entry.ancestors[0]
    if (above === undefined || learner.shape.backbone.length === 0) return blobLink(model)
    const parent = modelOf(above.model)
    return parent === null ? null : blobLink(mixing.combine(parent, model))
  }

  // ── I8's conditions ──

  /** At worst one line carries a blob of each member, and the models that come of them: for a delegate, of the federations above, too. */
  #transfersMs(federation: number): number {
    const { topology } = this.options
    let blobs = 0
    for (let at: number | null = federation; at !== null; at = topology.federations[at]!.parent)
      blobs += topology.federations[at]!.members + 3
    return blobs * slowestTransferMs(topology, this.services.blobBytes)
  }

  #isQuiet(topic: Topic): boolean {
    let quiet = this.#quietNow.get(topic)
    if (quiet === undefined) {
      quiet = this.#quiet(topic)
      this.#quietNow.set(topic, quiet)
    }
    return quiet
  }

  #quiet(topic: Topic): boolean {
    if (this.faults.active > 0 || !this.network.whole) return false
    const byName = this.services.peers
    const voters = this.invariants.voters(topic)
    const isUp = (name: PeerName) => this.#allUp || (byName.get(name)?.up ?? false)
    if (voters.filter(isUp).length < Math.floor(voters.length / 2) + 1) return false
    const children = this.#childrenOf.get(topic.id)!
    const roster = this.invariants.roster(topic)
    let missing = Math.max(1, topic.charter.minMembers)
    for (const { member, kind, peers } of roster.members.values()) {
      if (kind === 'witness' || !peers.some(isUp)) continue
      // What began while its machine was slow goes on as slowly after it.
      if (kind === 'organization' && this.clock.nowMs < (byName.get(member)?.slowUntilMs ?? 0)) continue
      const child = kind === 'federation' ? children.find(({ id }) => id === member) : undefined
      if (child === undefined || (!this.#finished(child) && this.#isQuiet(child))) missing--
      if (missing === 0) return true
    }
    return false
  }

  /** A federation of federations is done when too few of its organizations and of those below it go on. */
  #finished(topic: Topic): boolean {
    if (this.invariants.rounds(topic).length >= this.options.rounds) return true
    const children = this.#childrenOf.get(topic.id)!
    if (children.length === 0) return false
    const own = this.#organizationsOf.get(topic) ?? []
    const going = own.filter(({ gone }) => !gone).length + children.filter(child => !this.#finished(child)).length
    return going < Math.max(1, topic.charter.minMembers)
  }

  #makePeers(random: Random): Peer[] {
    const { topology, faults } = this.options
    return topology.organizations.map(({ federation, place }, index) => {
      const topics: Topic[] = []
      for (let at: number | null = federation; at !== null; at = topology.federations[at]!.parent) topics.push(this.topics[at]!)
      const own = random.fork(String(index))
      const peer = new Peer({
        name: peerName(index),
        index,
        place,
        services: this.services,
        topics,
        random: own,
        rate: 1 + faults.clockDrift * (2 * own.float() - 1),
        pace: fastestPace + (slowestPace - fastestPace) * own.float() ** 2,
        strength: own.below(12) / 2
      })
      this.services.peers.set(peer.name, peer)
      for (const topic of topics) if (topic.charter.founders.includes(peer.name)) writeFirstMemory(peer, topic)
      return peer
    })
  }
}

/** Training takes between these factors of `trainMs`. */
const [fastestPace, slowestPace] = [0.7, 2]

export const peerName = (index: number): PeerName => `peer-${String(index).padStart(6, '0')}`

/** Machines do not start in the same moment. */
const startDelayMs = (peer: Peer): number => (peer.index * 7919) % 2_000

function topicsOf(
  { topology, rounds, seed, learner, keyFraction, residuals = 0 }: SimulationOptions,
  sketchBytes: number
): Topic[] {
  const genesis = simulatedCharters(topology, { rounds, seed, keyFraction, residuals, nameOf: peerName })
  return genesis.map(({ id, charter }, index) => ({
    index,
    id,
    charter,
    level: topology.federations[index]!.level,
    env: { linkOf: linkOfEntry, sketchBytes, roundTokens: learner.roundTokens },
    files: { consensus: `consensus/${id}`, log: `log/${id}` },
    folded: FoldedLog.of(id, charter),
    log: [],
    newestIndex: 0,
    participants: [],
    observers: [],
    busy: [],
    fingerprints: new Map(),
    said: new Map(),
    announced: new Announced(),
    version: 0,
    seats: 0,
    moves: 0,
    collects: 0,
    presentSinceMs: Number.NEGATIVE_INFINITY
  }))
}
