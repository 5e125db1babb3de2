/**
 * Learning on a graph without aggregators, for comparison: gossip averaging (`dpsgd`; Lian et al. 2017, "Can Decentralized Algorithms
 * Outperform Centralized Algorithms?") over the same network, with the same learners, faults and measures as the trees.
 *
 *   train ──▶ send the model to every neighbour ──▶ wait for theirs, or the deadline ──▶ average ──▶ train …
 *
 * Weights are Metropolis and Hastings', 1/(1 + max(degrees)); the weight of a neighbour that did not come in time stays with oneself, so
 * that they sum to one whatever is lost. Is not: the protocol. Nothing is voted on or certified, so no invariant is checked.
 */
import type { Random } from '../math/random.ts'
import type { Clock } from './clock.ts'
import type { Measures } from './core.ts'
import { Disk } from './disk.ts'
import { begun, type Learner } from './learner.ts'
import type { Endpoint, Network } from './network.ts'
import type { Place } from './place.ts'

export interface AveragingWorld {
  clock: Clock
  network: Network
  learner: Learner
  measures: Measures
  modelBytes: number
  trainMs: number
  rounds: number
  /** How long a peer waits for its neighbours' models of a round. */
  deadlineMs: number
  wait<Result>(result: Result | Promise<Result>, then: (result: Result) => void): void
  /** A peer has done its rounds, or has left. */
  finished(peer: number): void
  event(peer: number, what: string): void
}

/** Rounds whose models of others are kept: a neighbour may be a little ahead. */
const roundsAhead = 4

export class AveragingPeer implements Endpoint {
  readonly index: number
  readonly place: Place
  readonly disk = new Disk()
  up = false
  incarnation = 0
  silent = false
  slowness = 1
  upFreeMs = 0
  downFreeMs = 0
  gone = false
  /** Nobody checks anything here, so nothing is made of it. */
  lying = false
  fuse = -1
  onDeath: (why: string) => void = () => undefined
  neighbours: AveragingPeer[] = []
  readonly #world: AveragingWorld
  readonly #random: Random
  readonly #pace: number
  #round = 1
  #model: Float32Array
  /** Of this round, once it is trained. */
  #trained: Float32Array | null = null
  readonly #received = new Map<number, Map<number, Float32Array>>()

  constructor(world: AveragingWorld, index: number, place: Place, random: Random) {
    this.#world = world
    this.index = index
    this.place = place
    this.#random = random
    this.#pace = 0.7 + 1.3 * random.float() ** 2
    this.#model = world.learner.initial
  }

  /** Rounds that it has finished. */
  get done(): number {
    return this.#round - 1
  }

  start(): void {
    if (this.up || this.gone) return
    this.up = true
    this.incarnation++
    this.#world.event(this.index, 'starts')
    this.#round = this.disk.read<number>('round') ?? 1
    this.#model = this.disk.read<Float32Array>('model') ?? this.#world.learner.initial
    this.#train()
  }

  crash(): void {
    if (!this.up) return
    this.up = false
    this.incarnation++
    this.#trained = null
    this.#received.clear()
    this.disk.crash(this.#random)
  }

  stop(): void {
    this.crash()
  }

  leave(): void {
    this.gone = true
    this.crash()
    this.#world.finished(this.index)
  }

  /** Models come by `transfer`; there are no messages. */
  inbox(): null {
    return null
  }

  #train(): void {
    const { learner, rounds, trainMs } = this.#world
    if (this.#round > rounds) {
      this.#world.finished(this.index)
      return
    }
    const round = this.#round
    const training = begun(learner.train(this.index, this.#model, round - 1, round))
    this.#later(trainMs * this.#pace * this.slowness, () =>
      this.#world.wait(training, ({ after }) => {
        if (this.up && this.#round === round) this.#announce(round, after)
      })
    )
  }

  #announce(round: number, after: Float32Array): void {
    const { learner, measures, network, modelBytes, deadlineMs } = this.#world
    this.#trained = after
    this.#world.event(this.index, `trained ${round}`)
    this.#world.wait(learner.loss(this.index, after), loss => measures.trained(this.index, round, loss))
    for (const neighbour of this.neighbours) {
      if (!neighbour.up || !network.reaches(this, neighbour)) continue
      network.transfer(this, neighbour, modelBytes, 0, whole => {
        if (whole) neighbour.#take(this.index, round, after)
      })
    }
    this.#later(deadlineMs, () => this.#average(round))
    this.#averageIfComplete()
  }

  #take(from: number, round: number, model: Float32Array): void {
    if (round < this.#round || round > this.#round + roundsAhead) return
    const models = this.#received.get(round) ?? new Map<number, Float32Array>()
    this.#received.set(round, models.set(from, model))
    this.#averageIfComplete()
  }

  #averageIfComplete(): void {
    const models = this.#received.get(this.#round)
    const missing = this.neighbours.some(({ index, up }) => up && !(models?.has(index) ?? false))
    if (this.#trained !== null && !missing) this.#average(this.#round)
  }

  #average(round: number): void {
    const own = this.#trained
    if (round !== this.#round || own === null) return
    const models = this.#received.get(round) ?? new Map<number, Float32Array>()
    const mixed = new Float32Array(own.length)
    let kept = 1
    // In order of index: float addition is not associative, and a seed is a run.
    for (const neighbour of this.neighbours) {
      const model = models.get(neighbour.index)
      if (model === undefined) continue
      const weight = 1 / (1 + Math.max(this.neighbours.length, neighbour.neighbours.length))
      kept -= weight
      for (let place = 0; place < mixed.length; place++) mixed[place]! += weight * model[place]!
    }
    for (let place = 0; place < mixed.length; place++) mixed[place]! += kept * own[place]!
    const { learner, measures } = this.#world
    if (models.size < this.neighbours.length) measures.told(null, 'NEIGHBOUR_AWAY')
    this.#model = mixed
    this.#trained = null
    this.#received.delete(round)
    this.#round = round + 1
    try {
      this.disk.write('model', mixed)
      this.disk.write('round', this.#round)
    } catch (error) {
      this.onDeath((error as Error).message)
      return
    }
    this.#world.event(this.index, `averaged ${round} of ${models.size}`)
    this.#world.wait(learner.loss(this.index, mixed), loss => measures.applied(this.index, round, loss, mixed))
    this.#train()
  }

  #later(ms: number, work: () => void): void {
    const { incarnation } = this
    this.#world.clock.call(ms, () => {
      if (this.up && this.incarnation === incarnation) work()
    })
  }
}
