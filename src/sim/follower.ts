/**
 * A federation that a peer only follows, on its own federation's way up: it has no vote there, and brings nothing. A root of ten thousand
 * peers is followed by nearly all of them. What a follower knows is what the certified log says, so all that have come as far share one
 * state (folded-log.ts); and one that is not behind is told nothing by others, so it listens only where it may have missed an entry.
 *
 * Once it has a place there, or one to ask for, a replica takes over from its log, as after a restart (peer.ts).
 * Is not: a voter's or member's machine; those are told presences, updates and heartbeats (replica.ts).
 */
import type { FederationEvent } from '../federation/federation.ts'
import type { FederationState } from '../federation/federation-state.ts'
import { placeToAsk } from '../federation/levels.ts'
import type { Answer, FollowedCore, Message, PeerCore, Question, Services, Topic } from './core.ts'
import { drop } from './drop.ts'
import type { FoldedLog } from './folded-log.ts'
import { LogSync } from './log-sync.ts'
import { peersIn } from './peers-in.ts'
import { ask, residualAnswer, say } from './questions.ts'
import { type Certified, sharedIn } from './stand-ins.ts'

export interface FollowerOptions {
  peer: PeerCore
  topic: Topic
  services: Services
  /** It has a part to play from now on. */
  takePart: (follower: Follower) => void
}

export class Follower implements FollowedCore {
  readonly peer: PeerCore
  readonly topic: Topic
  readonly services: Services
  readonly organization = null
  readonly handIn = null
  readonly participates = false
  /** Since when, by the peer's own clock. */
  readonly begunMs: number
  alive = true
  /** The replica that has taken over from it: what was meant for this peer's follower comes to it. */
  heir: FollowedCore | null = null
  readonly #takePart: FollowerOptions['takePart']
  readonly #sync = new LogSync(this)
  #folded: FoldedLog
  #listening = false

  constructor({ peer, topic, services, takePart }: FollowerOptions) {
    this.peer = peer
    this.topic = topic
    this.services = services
    this.begunMs = peer.localMs()
    this.#takePart = takePart
    let folded = topic.folded
    for (const certified of this.log) folded = folded.with(topic.env, certified)
    this.#folded = folded
  }

  /** Nobody's: `self` is not this peer. */
  get state(): FederationState {
    return this.#folded.state
  }

  get log(): readonly Certified[] {
    return this.peer.disk.log<Certified>(this.topic.files.log)
  }

  start(): void {
    this.topic.observers.push(this)
    this.grown()
    if (this.alive) this.missed()
  }

  stop(): void {
    this.alive = false
    drop<FollowedCore>(this.topic.observers, this)
  }

  /** Whether it has a part to play now. */
  grown(): void {
    if (this.#wants() || peersIn(this.state.roster, this.topic.charter).has(this.peer.name)) this.#takePart(this)
  }

  #wants(): boolean {
    const { name } = this.peer
    const children = this.peer.below(this.topic).map(({ state }) => state)
    // Most stand for nobody.
    if (!children.some(({ roster }) => roster.delegates.includes(name))) return false
    return placeToAsk({ ...this.state, self: name }, null, children) !== null
  }

  /** Certified entries alone; what else a peer may be told tells a follower nothing. */
  dispatch(event: FederationEvent): void {
    if (!this.alive || event.type !== 'consensus' || event.event.type !== 'certified') return
    const { services, topic, peer } = this
    services.trace.event(services.clock.nowMs, peer.index, topic, event)
    try {
      this.#take(event.event)
    } catch (error) {
      peer.fail(topic, error)
    }
  }

  #take(event: Certified): void {
    const { peer, topic, services } = this
    const certified = sharedIn(topic.log, event)
    const { entry } = certified
    this.#folded = this.#folded.with(topic.env, certified)
    for (const effect of this.#folded.effects) {
      if (!peer.burn()) return
      // The others are about a vote that it does not have; its term is that of its newest certificate.
      if (effect.do !== 'store') continue
      peer.disk.append(topic.files.log, certified)
      services.observer.committed(this, certified)
      const { parentHead } = this.#folded
      if (entry.kind === 'round' && parentHead !== null)
        for (const child of peer.below(topic)) child.dispatch({ type: 'parent-head', head: parentHead })
      peer.grown(topic, entry.kind)
      if (!this.alive) return
    }
  }

  get isOpen(): boolean {
    return this.alive || (this.heir?.alive ?? false)
  }

  receive(from: PeerCore, message: Message): void {
    try {
      if (this.heir === null) this.#onMessage(from, message)
      else this.heir.receive(from, message)
    } catch (error) {
      this.peer.fail(this.topic, error)
    }
  }

  #onMessage(from: PeerCore, message: Message): void {
    switch (message.kind) {
      case 'head':
        // [IGNORE] Its entry into the roster may not have reached us yet.
        if (peersIn(this.state.roster, this.topic.charter).has(from.name)) this.#sync.onHead(from.name, message.certified)
        if (this.state.consensus.commitIndex < message.certified.entry.index) this.missed()
        return
      case 'question':
        say(this, from, this.#answerTo(from, message.question), message.done)
        return
      case 'answer':
        message.done(message.answer)
    }
  }

  #answerTo(from: PeerCore, question: Question): Answer {
    switch (question.kind) {
      case 'entries':
        return this.#sync.entriesFrom(question.fromIndex)
      case 'updates':
        return { kind: 'updates', updates: [] }
      case 'join':
        return { kind: 'join', taken: false, aggregator: null }
      case 'receipt':
        return { kind: 'receipt' }
      default:
        return residualAnswer(this, from.name, question)
    }
  }

  ask(to: PeerCore['name'], question: Question, done: (answer: Answer | null) => void): void {
    ask(this, to, question, done)
  }

  /** An entry did not reach it, or nobody may have said it: it listens at its next moments, until no participant is ahead of it. */
  missed(): void {
    if (this.#listening || this.#folded.state.consensus.commitIndex >= this.topic.newestIndex) return
    this.#listening = true
    const { peer, services, topic } = this
    const { presenceMs } = topic.charter.timings
    // Moments are its own, as those of presences are.
    const phaseMs = (peer.index * 0.618_034 * presenceMs) % presenceMs
    const waitMs = presenceMs - ((peer.localMs() - phaseMs + presenceMs) % presenceMs)
    services.clock.call(peer.worldMs(waitMs), () => {
      this.#listening = false
      if (!this.alive) return
      this.#listen()
      this.missed()
    })
  }

  /** To one participant, as far as it can be heard here: what it would be told by gossip. */
  #listen(): void {
    const { peer, topic, services } = this
    const other = topic.participants[services.random.below(topic.participants.length || 1)]
    if (other === undefined || !other.alive || !services.network.reaches(other.peer, peer)) return
    if (other.state.consensus.commitIndex > this.state.consensus.commitIndex) this.#sync.catchUp(other.peer.name)
  }
}
