/** One simulated peer: its disk and clock, the federations that it follows, its death and its return. */
import { AssertionError } from '../errors.ts'
import type { Entry } from '../federation/entry.ts'
import { parentHeadOf } from '../federation/levels.ts'
import type { FederationId, Link, PeerName } from '../ids.ts'
import type { Random } from '../math/random.ts'
import type { Blob, FollowedCore, Message, OrganizationCore, PeerCore, Services, Topic } from './core.ts'
import { Disk } from './disk.ts'
import { performEffect } from './effects.ts'
import { Follower } from './follower.ts'
import { SimOrganization } from './organization.ts'
import type { Place } from './place.ts'
import { Pulling } from './pulling.ts'
import { Replica } from './replica.ts'
import { Timeouts } from './timeouts.ts'

/** Who wants to leave waits at most so long for the entry that lets it go, or for its aggregator's word that there is none. */
const leaveMs = 120_000
/** It stays so long when it may go: others may need what it alone knows, and an earlier wish to join may still be under way. */
const lingerMs = 8_000

export interface PeerOptions {
  name: PeerName
  index: number
  place: Place
  services: Services
  /** Its own federation first, then those above it, up to the root. */
  topics: readonly Topic[]
  random: Random
  /** Milliseconds of its clock in one of the world's. */
  rate: number
  /** Factor on its training time. */
  pace: number
  strength: number
}

export class Peer implements PeerCore {
  readonly name: PeerName
  readonly index: number
  readonly organization: number
  readonly place: Place
  readonly disk = new Disk()
  readonly strength: number
  readonly blobs = new Map<Link, Blob>()
  readonly replicas = new Map<FederationId, FollowedCore>()
  readonly timeouts: Timeouts
  up = false
  incarnation = 0
  silent = false
  slowness = 1
  slowUntilMs = 0
  upFreeMs = 0
  downFreeMs = 0
  /** Left for good: it does not come back. */
  gone = false
  lying = false
  equivocating = false
  #wantsToLeave = false
  /** Effects until it dies in the middle of an event; negative: it does not. */
  fuse = -1
  /** Called when it dies of its fuse, or fails. */
  onDeath: (why: string) => void = () => undefined
  readonly #services: Services
  readonly #topics: readonly Topic[]
  readonly #random: Random
  readonly rate: number
  readonly #pace: number
  readonly #pulling: Pulling

  constructor({ name, index, place, services, topics, random, rate, pace, strength }: PeerOptions) {
    this.name = name
    this.index = index
    this.organization = index
    this.place = place
    this.#services = services
    this.#topics = topics
    this.#random = random
    this.rate = rate
    this.#pace = pace
    this.strength = strength
    this.#pulling = new Pulling(this, services, random)
    this.timeouts = new Timeouts(services.clock)
  }

  localMs(): number {
    return this.#services.clock.nowMs * this.rate
  }
  worldMs(localMs: number): number {
    return localMs / this.rate
  }

  /** From what its disk holds. */
  start(): void {
    if (this.up || this.gone) return
    const [own] = this.#topics
    try {
      this.#start()
    } catch (error) {
      this.fail(own!, error)
    }
  }

  #start(): void {
    this.up = true
    this.incarnation++
    this.fuse = -1
    this.slowUntilMs = 0
    const services = this.#services
    const [own] = this.#topics
    if (own === undefined) return
    const organization = new SimOrganization(this, services, own.id, this.#pace)
    for (const topic of this.#topics) {
      if (topic === own) this.replicas.set(topic.id, this.#replica(topic, organization))
      else
        this.replicas.set(
          topic.id,
          new Follower({ peer: this, topic, services, takePart: follower => this.#takePart(follower) })
        )
    }
    for (const replica of this.replicas.values()) this.#tellParentHead(replica)
    for (const replica of this.replicas.values()) replica.start()
    if (this.#wantsToLeave) this.leave()
  }

  #replica(topic: Topic, organization: OrganizationCore | null, begunMs = this.localMs()): Replica {
    const as = organization === null ? null : 'organization'
    return new Replica({ peer: this, topic, services: this.#services, as, organization, begunMs, perform: performEffect })
  }

  /** A follower has a part to play now: a replica takes over from its log. */
  #takePart(follower: Follower): void {
    const { topic, begunMs } = follower
    follower.stop()
    const replica = this.#replica(topic, null, begunMs)
    this.replicas.set(topic.id, replica)
    follower.heir = replica
    this.#tellParentHead(replica)
    replica.start()
  }

  #tellParentHead(replica: FollowedCore): void {
    const { parent } = replica.topic.charter
    const above = parent === null ? undefined : this.replicas.get(parent)
    const head = above?.state.head
    if (above === undefined || head?.entry == null) return
    replica.dispatch({ type: 'parent-head', head: parentHeadOf(above.state, head.entry, head.link) })
  }

  below(topic: Topic): FollowedCore[] {
    // Its topics lie on one line, its own first: each has the one before it below it.
    const place = this.#topics.indexOf(topic)
    const child = place > 0 ? this.replicas.get(this.#topics[place - 1]!.id) : undefined
    return child === undefined ? [] : [child]
  }

  /** The process or the machine dies: what was not synced is lost. Connections of a dead process break, those of a machine fall silent. */
  crash(): void {
    if (!this.up) return
    const process = this.#random.float() < 0.5
    const topics = [...this.replicas.values()].filter(({ participates }) => participates).map(({ topic }) => topic)
    this.#end()
    this.disk.crash(this.#random)
    if (process) for (const topic of topics) this.#tellLost(topic)
  }

  #tellLost(topic: Topic): void {
    const { network, clock } = this.#services
    for (const replica of topic.participants) {
      if (!network.reaches(this, replica.peer)) continue
      clock.call(network.roundTripMs(this, replica.peer) / 2, () => {
        if (replica.alive && !this.up) replica.lost(this.name)
      })
    }
  }

  /** Asks to be let go, and goes when those that stay know that it is out, or when it has asked for long enough in vain. */
  leave(): void {
    const own = this.replicas.get(this.#topics[0]!.id) as Replica | undefined
    if (own === undefined || own.leaving) return
    this.#wantsToLeave = true
    own.leaving = true
    own.grown()
    const { clock } = this.#services
    const until = clock.nowMs + leaveMs
    let outSinceMs: number | null = null
    const look = () => {
      if (!own.alive) return
      outSinceMs = own.joining.mayGo() ? (outSinceMs ?? clock.nowMs) : null
      const inVain = clock.nowMs > until && !own.joining.hasLeft
      if ((outSinceMs !== null && clock.nowMs - outSinceMs > lingerMs) || inVain) {
        this.gone = true
        this.stop()
      } else own.later(500, look)
    }
    own.later(500, look)
  }

  /** Hands leadership over, says no more, and is gone a moment later. */
  stop(): void {
    for (const replica of this.replicas.values()) replica.dispatch({ type: 'consensus', event: { type: 'hand-over' } })
    const { incarnation } = this
    this.#services.clock.call(150, () => {
      if (this.up && this.incarnation === incarnation) this.#end()
    })
  }

  #end(): void {
    this.up = false
    this.incarnation++
    this.#pulling.end()
    for (const replica of this.replicas.values()) replica.stop()
    this.replicas.clear()
  }

  burn(): boolean {
    if (this.fuse < 0) return this.up
    if (this.fuse-- > 0) return true
    this.fuse = -1
    this.onDeath('crash between two effects')
    return false
  }

  /** An error that the daemon would end with: it stops, and its operator starts it again. A broken assertion is reported. */
  fail(topic: Topic, error: unknown): void {
    if (!this.up) return
    if (error instanceof AssertionError || !(error instanceof Error) || !('code' in error))
      this.#services.observer.failed(this, topic, error)
    this.onDeath(error instanceof Error ? error.message : String(error))
  }

  inbox(message: unknown): FollowedCore | null {
    return this.replicas.get((message as Message).topic.id) ?? null
  }

  grown(topic: Topic, by: Entry['kind']): void {
    if (by === 'round') this.#sweep()
    else {
      // Places depend on the federation's own roster, and on those right below it.
      const place = this.#topics.indexOf(topic)
      for (const { id } of this.#topics.slice(place, place + 2)) this.replicas.get(id)?.grown()
    }
  }

  #sweep(): void {
    // A federation that went on alone is rounds ahead of the one above it, whose updates are wanted still.
    let oldest = Number.POSITIVE_INFINITY
    for (const { id } of this.#topics) oldest = Math.min(oldest, this.replicas.get(id)?.state.head.round ?? 0)
    this.#pulling.sweep(oldest)
  }

  // ── blobs ──

  put(model: Float32Array, round: number): Link {
    return this.#pulling.put(model, round)
  }

  pull(link: Link, holders: readonly PeerName[], topic: Topic, round: number, done: (got: boolean) => void): void {
    this.#pulling.pull(link, holders, topic, round, done)
  }
}
