/**
 * One federation on one simulated peer: feeds the pure machine with events, has its effects performed. The daemon's counterpart is
 * node/federation-node.ts, and this one does the same in the same order: an event's effects end before the next event begins.
 *
 * Where the daemon polls, this one sleeps while there is nothing to poll for: asking to join runs only while there is a place to ask
 * for, handing in again only while something is handed in. Both tick at the same moments as a clock that never slept.
 */
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Entry, Member } from '../federation/entry.ts'
import { Evidence } from '../federation/evidence.ts'
import { type FederationEffect, type FederationEvent, stepFederation } from '../federation/federation.ts'
import { initialFederation } from '../federation/federation-start.ts'
import type { FederationState } from '../federation/federation-state.ts'
import { HandIn, type Waiting } from '../federation/hand-in.ts'
import { Listeners, sayAnew } from '../federation/listeners.ts'
import { restBeforeReady } from '../federation/participation.ts'
import { type TimerName, timerEvent } from '../federation/timers.ts'
import { isDeputy } from '../federation/levels.ts'
import type { Link, MemberId, PeerName } from '../ids.ts'
import { Random } from '../math/random.ts'
import type {
  Answer,
  EffectToPerform,
  FollowedCore,
  Message,
  OrganizationCore,
  PeerCore,
  Question,
  ReplicaCore,
  Services,
  SignedRecord,
  Topic
} from './core.ts'
import { drop } from './drop.ts'
import { evidenceHost, sayAgain } from './evidence.ts'
import { handInHost } from './handing-in.ts'
import { Beats, isBeat, moved, tellsNothing } from './heartbeats.ts'
import { Incoming } from './incoming.ts'
import { Joining } from './joining.ts'
import { KeptUpdates } from './kept-updates.ts'
import { LogSync } from './log-sync.ts'
import { asSaid, lieAboutRound } from './lies.ts'
import { ignoresUpdates } from './mail.ts'
import { Presence } from './presence.ts'
import { peersIn } from './peers-in.ts'
import { ask, Questions } from './questions.ts'
import type { Certified } from './stand-ins.ts'
import { Bridge } from './residual-bridge.ts'
import { readConsensus } from './store.ts'
import { Timers } from './timers.ts'
import { messageBytes } from './sizes.ts'
import { tellsOtherwise, TopicVoice } from './voice.ts'

export interface ReplicaOptions {
  peer: PeerCore
  topic: Topic
  services: Services
  as: 'organization' | 'witness' | null
  organization: OrganizationCore | null
  /** Since when it follows the federation, by the peer's own clock; left out: from now on. */
  begunMs?: number
  perform: (replica: ReplicaCore, effect: EffectToPerform) => void
}

export class Replica implements ReplicaCore {
  readonly peer: PeerCore
  readonly topic: Topic
  readonly services: Services
  readonly as: 'organization' | 'witness' | null
  readonly organization: OrganizationCore | null
  state: FederationState
  readonly updates = new KeptUpdates()
  alive = true
  participates = false
  sinceMs = 0
  busy = false
  leaving = false
  readonly voice: TopicVoice
  readonly handIn: HandIn<SignedRecord>
  readonly evidence: Evidence | null
  readonly sync: LogSync
  readonly joining: Joining
  readonly presence: Presence
  readonly #perform: ReplicaOptions['perform']
  readonly #events: FederationEvent[] = []
  readonly #timers: Timers<TimerName>
  readonly #listeners = new Listeners()
  readonly #beats: Beats
  readonly #random: Random
  readonly #begunMs: number
  readonly #incoming: Incoming
  #heard: { aggregator: PeerName | null; term: number } = { aggregator: null, term: 0 }
  #asking = false
  #running = false
  #ready = false
  #listed = false

  constructor({ peer, topic, services, as, organization, begunMs = peer.localMs(), perform }: ReplicaOptions) {
    this.peer = peer
    this.topic = topic
    this.services = services
    this.as = as
    this.organization = organization
    this.#perform = perform
    this.#random = new Random(`${peer.name}/${topic.id}/${peer.incarnation}`)
    this.#begunMs = begunMs
    this.#timers = new Timers(this, services.clock, name => this.#onTimer(name))
    this.#beats = new Beats(this)
    const waits = new Timers<Waiting>(this, services.clock, what => this.handIn.again(what))
    this.handIn = new HandIn(handInHost(this, (what, ms) => waits.start(what, ms)))
    this.evidence = services.treacherous ? new Evidence(evidenceHost(this)) : null
    this.sync = new LogSync(this)
    this.presence = new Presence(this)
    this.joining = new Joining(this, this.#random)
    this.voice = new TopicVoice(this)
    this.#incoming = new Incoming(this, {
      sync: this.sync,
      questions: new Questions(this, this.sync, this.joining),
      take: event => this.#take(event)
    })
    const { nonce, updates, ...persisted } = readConsensus(peer, topic, this.#random)
    for (const update of updates) this.keepUpdate(update)
    this.state = initialFederation({
      id: topic.id,
      charter: topic.charter,
      self: peer.name,
      entries: this.log,
      persisted,
      rank: this.#random.float(),
      nonce
    })
  }

  get heard(): { aggregator: PeerName | null; term: number } {
    return this.#heard
  }
  set heard(heard: { aggregator: PeerName | null; term: number }) {
    const { aggregator, term } = this.#heard
    this.#heard = heard
    if (this.participates && (heard.aggregator !== aggregator || heard.term !== term)) this.topic.version++
    this.#lookWhoListens()
  }

  #lookWhoListens(): void {
    if (this.#listeners.areNew(this.state, this.#heard)) sayAnew(this)
  }

  get asking(): boolean {
    return this.#asking
  }

  get log(): readonly Certified[] {
    return this.peer.disk.log<Certified>(this.topic.files.log)
  }

  start(): void {
    const waitedMs = this.peer.localMs() - this.#begunMs
    this.#timers.start('start', Math.max(0, this.topic.charter.timings.startTimeoutMs - waitedMs))
    this.presence.start(this.#random.float())
    if (this.evidence !== null) sayAgain(this, this.evidence)
    // Most runs have none, and thousands of replicas.
    if (this.topic.charter.algorithm.residuals.perNode > 0) new Bridge(this).start()
    this.dispatch({ type: 'consensus', event: { type: 'start' } })
    this.grown()
    this.#becomeReady()
  }

  stop(): void {
    this.alive = false
    this.#events.length = 0
    drop(this.topic.participants, this)
    drop<FollowedCore>(this.topic.observers, this)
    drop(this.topic.busy, this)
    this.#seatsChanged()
    // An entry that was certified here may never be said.
    for (const other of this.topic.observers) other.missed()
  }

  #seatsChanged(): void {
    const { topic } = this
    topic.version++
    topic.seats++
    topic.presentSinceMs = Number.NEGATIVE_INFINITY
  }

  /** One event; its effects are performed before the next event is looked at. */
  dispatch(event: FederationEvent): void {
    if (!this.alive) return
    if (!ignoresUpdates(event)) this.read()
    this.#events.push(event)
    if (this.#running) return
    this.#running = true
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) this.#take(next)
    } catch (error) {
      this.peer.fail(this.topic, error)
    } finally {
      this.#running = false
    }
  }

  #take(event: FederationEvent): void {
    this.services.trace.event(this.services.clock.nowMs, this.peer.index, this.topic, event)
    const held = this.state
    const before = this.peer.lying && event.type === 'aggregated' ? lieAboutRound(held) : held
    const [state, effects] = stepFederation(this.topic.env, before, event)
    this.state = state
    // Most events, heartbeats above all, leave it as it is.
    if (state !== held) this.#noteChange(before, state)
    if (this.busy && event.type === 'unpulled') this.topic.collects++
    for (const effect of effects) {
      if (!this.peer.burn()) return
      switch (effect.do) {
        case 'start-timer':
          this.#timers.start(effect.name, effect.ms + this.#jitterMs(effect))
          break
        case 'stop-timer':
          this.#timers.stop(effect.name)
          break
        case 'fetch':
          this.sync.catchUp(effect.from)
          break
        default:
          this.#perform(this, effect)
          if (effect.do !== 'store') break
          this.evidence?.seeAll(effect.certificate)
          this.peer.grown(this.topic, effect.entry.kind)
      }
      if (!this.alive) return
    }
  }

  #noteChange(before: FederationState, state: FederationState): void {
    const { topic } = this
    this.#lookWhoListens()
    if (before.head !== state.head) this.#incoming.noteRound(state.head.round)
    if (this.participates && tellsOtherwise(before, state)) topic.version++
    if (before.consensus !== state.consensus && moved(before.consensus, state.consensus)) topic.moves++
    if (this.busy && before.round.phase !== state.round.phase) topic.collects++
    this.#noteBusy()
  }

  #jitterMs(effect: FederationEffect & { do: 'start-timer' }): number {
    return 'jitterMs' in effect && effect.jitterMs > 0 ? effect.jitterMs * this.#random.float() : 0
  }

  startTimer(name: TimerName, ms: number, delayMs: number): void {
    this.#timers.start(name, ms, delayMs)
  }

  #noteBusy(): void {
    const { round, consensus } = this.state
    const busy = round.phase !== 'idle' || consensus.role === 'leader' || isDeputy(this.state)
    if (busy === this.busy) return
    this.busy = busy
    const { topic } = this
    topic.collects++
    if (!busy) {
      drop(topic.busy, this)
      // What was said meanwhile came as messages.
      this.#incoming.mail.skip()
      return
    }
    topic.busy.push(this)
    // What is still on its way has consequences now.
    this.#incoming.mail.deliver()
  }

  #onTimer(name: TimerName): void {
    const event = timerEvent(name)
    if (name !== 'heartbeat') this.dispatch(event)
    else if (this.#beats.leaveOut()) this.#timers.start(name, this.state.consensus.timing.heartbeatMs)
    else this.#beats.take(() => this.dispatch(event))
  }

  // ── what comes in ──

  get isOpen(): boolean {
    return this.alive
  }

  receive(from: PeerCore, message: Message): void {
    try {
      this.#incoming.onMessage(from, message)
    } catch (error) {
      this.peer.fail(this.topic, error)
    }
  }

  read(): void {
    this.#incoming.mail.read()
  }

  glance(): void {
    this.#incoming.mail.glance()
  }

  recordReceipt(link: Link, verdict: string): void {
    const { participation } = this.state
    if (participation.phase !== 'announced' || participation.link !== link || verdict !== 'accepted') return
    this.peer.disk.append('receipts', link)
    this.services.observer.receipt(this.peer, this.topic, { link, update: participation.update })
  }

  takeUpdate(record: SignedRecord): void {
    this.keepUpdate(record)
    this.dispatch({ type: 'update', ...record })
  }

  keepUpdate(record: SignedRecord): void {
    this.updates.keep(record)
  }

  seen(peer: PeerName, fresh = true): void {
    this.presence.seen(peer, fresh)
  }

  lost(peer: PeerName): void {
    this.presence.lost(peer)
  }

  expects(peer: PeerName, delayMs: number): boolean {
    return this.presence.expects(peer, delayMs)
  }

  touch(peer: PeerName, delayMs: number): boolean {
    return this.presence.touch(peer, delayMs)
  }

  rosterPeers(): ReadonlySet<PeerName> {
    return peersIn(this.state.roster, this.topic.charter)
  }

  memberOf(member: MemberId): Member | undefined {
    return this.state.roster.members.get(member)
  }

  /** The next presence of a participant tells it. */
  missed(): void {}

  // ── what goes out ──

  send(to: PeerName, message: ConsensusMessage<Entry>): void {
    const peer = this.services.peers.get(to)
    if (peer === undefined) return
    const nothing = tellsNothing(this, peer, message)
    if (message.type === 'heartbeat') this.#beats.note(peer, nothing, 2 * messageBytes(message))
    if (nothing) return
    const envelope: Message = { kind: 'consensus', topic: this.topic, message: asSaid(this, message, to) }
    const bytes = messageBytes(message)
    // Their delays are drawn so that it changes no others whether they are delivered.
    if (isBeat(message)) this.services.network.sendBeat(this.peer, peer, envelope, bytes, this.topic.level)
    else this.services.network.send(this.peer, peer, envelope, bytes, this.topic.level)
  }

  ask(to: PeerName, question: Question, done: (answer: Answer | null) => void): void {
    ask(this, to, question, done)
  }

  later(localMs: number, work: () => void): void {
    this.services.clock.call(this.peer.worldMs(localMs), () => {
      if (this.alive) work()
    })
  }

  grown(): void {
    const wants = this.joining.wanted()
    if (wants !== this.#asking) this.topic.version++
    this.#asking = wants
    if (this.joining.isBusy(wants)) this.joining.wake()
    const part = wants || this.as !== null || this.rosterPeers().has(this.peer.name)
    if (part !== this.participates) {
      this.participates = part
      this.#incoming.mail.skip()
      this.sinceMs = this.services.clock.nowMs
      this.#seatsChanged()
      const { participants, observers } = this.topic
      if (part) participants.push(this)
      drop<FollowedCore>(part ? observers : participants, this)
      if (!part) observers.push(this)
    } else if (!part && !this.#listed) this.topic.observers.push(this)
    this.#listed = true
    if (!this.#ready) this.#becomeReady()
  }

  /** Begins to take part once the roster holds this organization and its log is as new as anybody's. */
  #becomeReady(): void {
    if (this.#ready || this.organization === null || !this.alive) return
    if (!this.state.roster.members.has(this.peer.name)) return
    const { applied, pending } = this.organization
    const restMs = restBeforeReady(this.state, { applied, pending }, this.peer.localMs() - this.#begunMs)
    if (restMs > 0) {
      this.later(restMs + 1, () => this.#becomeReady())
      return
    }
    this.#ready = true
    if (pending !== null) this.keepUpdate(pending)
    this.dispatch({ type: 'participation', event: { type: 'ready', applied, pending } })
  }
}
