/** A run of gossip averaging on a graph, put together like a run of a tree (simulation.ts). */
import { Pending } from './pending.ts'
import { Random } from '../math/random.ts'
import { Clock } from './clock.ts'
import { type FaultPlan, Faults } from './faults.ts'
import { AveragingPeer, type AveragingWorld } from './gossip-averaging.ts'
import type { Learner } from './learner.ts'
import { LearningMeasures } from './measures.ts'
import { Network } from './network.ts'
import type { GraphTopology } from './topology.ts'
import { Trace } from './trace.ts'

export interface AveragingOptions {
  topology: GraphTopology
  rounds: number
  seed: number
  faults: FaultPlan
  learner: Learner
  horizonMs: number
  modelBytes: number
  trainMs: number
  signal?: AbortSignal
  /** Called about once a second of real time; `certified`: rounds that all peers have done, as far as one can say of a mean. */
  onProgress?: (progress: { virtualSeconds: number; certified: number; events: number }) => void
}

const deadlineMs = 20_000

export class Averaging {
  readonly options: AveragingOptions
  readonly clock: Clock
  readonly trace = new Trace()
  readonly network: Network
  readonly measures: LearningMeasures
  readonly peers: AveragingPeer[]
  readonly faults: Faults
  readonly #pending = new Pending(() => this.options.signal?.aborted === true)
  readonly #unfinished: Set<number>

  constructor(options: AveragingOptions) {
    this.options = options
    const { topology, seed, learner, rounds, modelBytes, trainMs } = options
    const random = new Random(`averaging/${seed}`)
    this.clock = new Clock(random.fork('ties'))
    this.network = new Network(this.clock, random.fork('network'), topology.links)
    this.measures = new LearningMeasures(
      () => this.clock.nowMs,
      learner.shape.floats,
      () => this.network.bytesInAll
    )
    const { clock, network, measures, trace } = this
    const world: AveragingWorld = {
      clock,
      network,
      learner,
      measures,
      modelBytes,
      trainMs,
      rounds,
      deadlineMs,
      wait: (result, then) => this.#pending.wait(result, then),
      finished: peer => this.#unfinished.delete(peer),
      event: (peer, what) => trace.note(clock.nowMs, peer, what)
    }
    this.peers = topology.organizations.map(
      ({ place }, index) => new AveragingPeer(world, index, place, random.fork(String(index)))
    )
    this.#unfinished = new Set(this.peers.keys())
    for (const [index, peer] of this.peers.entries())
      peer.neighbours = topology.neighbours[index]!.map(other => this.peers[other]!)
    this.faults = new Faults(
      { clock, network, trace, peers: this.peers, topics: [], random: random.fork('faults') },
      options.faults
    )
  }

  /** Rounds that peers which stayed have not done. */
  get roundsMissing(): number {
    return this.peers.reduce((sum, { gone, done }) => sum + (gone ? 0 : this.options.rounds - done), 0)
  }

  get roundsDone(): number {
    return this.peers.reduce((sum, { done }) => sum + done, 0)
  }

  /** Until everybody who stays has done all rounds, or the horizon is reached. */
  async run(): Promise<void> {
    const { faults, horizonMs, signal, onProgress } = this.options
    const { clock } = this
    const late = new Set(faults.faults.flatMap(fault => (fault.kind === 'late' ? [fault.who.peer] : [])))
    for (const peer of this.peers) if (!late.has(peer.index)) clock.call((peer.index * 7919) % 2_000, () => peer.start())
    let toldAt = Date.now()
    for (let count = 0; this.#unfinished.size > 0 && clock.nowMs < horizonMs && signal?.aborted !== true; count++) {
      if (!clock.next()) return
      if (this.#pending.isOpen) await this.#pending.settled()
      if ((count & 0xfff) !== 0 || Date.now() - toldAt < 1_000) continue
      toldAt = Date.now()
      const certified = this.roundsDone / this.peers.length
      onProgress?.({ virtualSeconds: clock.nowMs / 1000, certified, events: clock.fired })
      // Lets signals in: the loop itself never waits.
      await new Promise(resolve => setImmediate(resolve))
    }
  }
}
