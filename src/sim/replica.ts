/**
 * One federation on one simulated peer: feeds the pure machine with events, has its effects performed. The daemon's counterpart is
 * node/federation-node.ts, and this one does the same in the same order: an event's effects end before the next event begins.
 *
 * Where the daemon polls, this one sleeps while there is nothing to poll for: asking to join runs only while there is a place to ask
 * for, handing in again only while something is handed in. Both tick at the same moments as a clock that never slept.
 */
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Entry, Member, Update } from '../federation/entry.ts'
import { type FederationEvent, initialFederation, stepFederation } from '../federation/federation.ts'
import type { FederationState } from '../federation/federation-state.ts'
import { HandIn, handInMs } from '../federation/hand-in.ts'
import { rosterPeers } from '../federation/membership.ts'
import type { Roster } from '../federation/membership.ts'
import type { Link, MemberId, PeerName } from '../ids.ts'
import { Random } from '../math/random.ts'
import type {
  Answer,
  EffectToPerform,
  Message,
  OrganizationCore,
  PersistedConsensus,
  PeerCore,
  Question,
  ReplicaCore,
  Services,
  SignedRecord,
  Topic
} from './core.ts'
import { Joining } from './joining.ts'
import { LogSync } from './log-sync.ts'
import { Presence } from './presence.ts'
import { type Certified, linkOfUpdate } from './stand-ins.ts'
import { Ticker, Timers } from './timers.ts'
import { answerBytes, entryBytes, messageBytes, questionBytes, updateBytes } from './sizes.ts'

const askTimeoutMs = 5_000
/** A node that comes back looks for what it missed before it trains. */
const catchUpGraceMs = 2_500
const updatesKeptMax = 2_000

export interface ReplicaOptions {
  peer: PeerCore
  topic: Topic
  services: Services
  as: 'organization' | 'witness' | null
  organization: OrganizationCore | null
  perform: (replica: ReplicaCore, effect: EffectToPerform) => void
}

export class Replica implements ReplicaCore {
  readonly peer: PeerCore
  readonly topic: Topic
  readonly services: Services
  readonly as: 'organization' | 'witness' | null
  readonly organization: OrganizationCore | null
  state: FederationState
  readonly updates = new Map<Link, Update>()
  heard: { aggregator: PeerName | null; term: number } = { aggregator: null, term: 0 }
  alive = true
  participates = false
  asking = false
  leaving = false
  readonly handIn: HandIn<SignedRecord>
  readonly sync: LogSync
  readonly joining: Joining
  readonly presence: Presence
  readonly #perform: ReplicaOptions['perform']
  readonly #events: FederationEvent[] = []
  readonly #timers: Timers
  readonly #random: Random
  readonly #begunMs: number
  readonly #handInTicker: Ticker
  #running = false
  #ready = false
  #listed = false
  #rosterOf: Roster | null = null
  #rosterPeers: ReadonlySet<PeerName> = new Set()

  constructor({ peer, topic, services, as, organization, perform }: ReplicaOptions) {
    this.peer = peer
    this.topic = topic
    this.services = services
    this.as = as
    this.organization = organization
    this.#perform = perform
    this.#random = new Random(`${peer.name}/${topic.id}/${peer.incarnation}`)
    this.#begunMs = peer.localMs()
    this.#timers = new Timers(this, services.clock, name => this.#onTimer(name))
    this.handIn = new HandIn(this.#handInHost())
    this.sync = new LogSync(this)
    this.presence = new Presence(this)
    this.joining = new Joining(this, this.#random)
    this.#handInTicker = new Ticker(this, handInMs, () => {
      this.handIn.again()
      return !this.handIn.idle
    })
    const { nonce, ...persisted } = this.#consensus()
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

  /** As it is on disk; a peer without memory draws the number that it will ask to be enrolled by (node/store.ts). */
  #consensus(): PersistedConsensus {
    const { disk } = this.peer
    const path = `consensus/${this.topic.id}`
    const known = disk.read<PersistedConsensus>(path)
    if (known !== undefined) return known
    const fresh = { term: 0, votedFor: null, accepted: null, nonce: this.#random.below(2 ** 48 - 1) }
    disk.write(path, fresh)
    return fresh
  }

  get log(): readonly Certified[] {
    return this.peer.disk.log<Certified>(`log/${this.topic.id}`)
  }

  start(): void {
    this.#timers.start('start', this.topic.charter.timings.startTimeoutMs)
    this.presence.start(this.#random.float())
    this.dispatch({ type: 'consensus', event: { type: 'start' } })
    this.grown()
    this.#becomeReady()
  }

  stop(): void {
    this.alive = false
    this.#events.length = 0
  }

  /** One event; its effects are performed before the next event is looked at. */
  dispatch(event: FederationEvent): void {
    if (!this.alive) return
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
    const [state, effects] = stepFederation(this.topic.env, this.state, event)
    this.state = state
    for (const effect of effects) {
      if (!this.peer.burn()) return
      switch (effect.do) {
        case 'start-timer':
          this.#timers.start(effect.name, effect.ms + ('jitterMs' in effect ? effect.jitterMs * this.#random.float() : 0))
          break
        case 'stop-timer':
          this.#timers.stop(effect.name)
          break
        case 'fetch':
          this.sync.catchUp(effect.from)
          break
        default:
          this.#perform(this, effect)
          if (effect.do === 'store') this.peer.grown()
      }
      if (!this.alive) return
    }
  }

  #onTimer(name: string): void {
    switch (name) {
      case 'election':
      case 'heartbeat':
        this.dispatch({ type: 'consensus', event: { type: 'timer', name } })
        return
      case 'announce':
        this.dispatch({ type: 'participation', event: { type: 'announce-again' } })
        return
      case 'deadline':
      case 'parent':
      case 'start':
        this.dispatch({ type: 'timer', name })
    }
  }

  // ── what comes in ──

  onMessage(from: PeerCore, message: Message): void {
    switch (message.kind) {
      case 'consensus':
        this.seen(from.name)
        this.dispatch({ type: 'consensus', event: { type: 'message', from: from.name, message: message.message } })
        return
      case 'question':
        this.#answer(from, message.question, message.done)
        return
      case 'answer':
        message.done(message.answer)
        return
      default:
        // [IGNORE] Its entry into the roster may not have reached us yet.
        if (!this.rosterPeers().has(from.name)) return
        this.seen(from.name)
    }
    switch (message.kind) {
      case 'presence':
        if (message.term >= this.heard.term && message.aggregator !== null)
          this.heard = { aggregator: message.aggregator, term: message.term }
        if (message.index > this.state.consensus.commitIndex) this.sync.catchUp(from.name)
        return
      case 'update':
        this.takeUpdate(message.signed)
        return
      case 'contribution':
        this.handIn.onContribution(from.name, message.signed.update)
        return
      case 'head':
        this.sync.onHead(from.name, message.certified)
    }
  }

  #answer(from: PeerCore, question: Question, done: (answer: Answer | null) => void): void {
    const answer = this.#answerTo(from, question)
    const { network } = this.services
    network.send(this.peer, from, { kind: 'answer', topic: this.topic, answer, done }, answerBytes(answer), this.topic.level)
  }

  #answerTo(from: PeerCore, question: Question): Answer {
    switch (question.kind) {
      case 'entries':
        return this.sync.entriesFrom(question.fromIndex)
      case 'updates': {
        const updates = question.links.flatMap(link => {
          const update = this.updates.get(link)
          return update === undefined ? [] : [{ link, update }]
        })
        return { kind: 'updates', updates: updates.slice(0, 50) }
      }
      case 'join':
        return this.joining.onJoin(from.name, question)
      case 'receipt':
        this.dispatch({
          type: 'participation',
          event: { type: 'receipt', link: question.update, accepted: question.verdict === 'accepted' }
        })
        this.recordReceipt(question.update, question.verdict)
        return { kind: 'receipt' }
    }
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

  keepUpdate({ link, update }: SignedRecord): void {
    this.updates.set(link, update)
    if (this.updates.size > updatesKeptMax) this.updates.delete(this.updates.keys().next().value!)
  }

  seen(peer: PeerName, fresh = true): void {
    this.presence.seen(peer, fresh)
  }

  lost(peer: PeerName): void {
    this.presence.lost(peer)
  }

  touch(peer: PeerName, delayMs: number): boolean {
    return this.presence.touch(peer, delayMs)
  }

  rosterPeers(): ReadonlySet<PeerName> {
    const { roster } = this.state
    if (this.#rosterOf !== roster) {
      // Replicas share their rosters (membership.ts), and so these sets.
      const known = peersOf.get(roster)
      this.#rosterPeers = known ?? rosterPeers(roster, this.topic.charter)
      if (known === undefined) peersOf.set(roster, this.#rosterPeers)
      this.#rosterOf = roster
    }
    return this.#rosterPeers
  }

  memberOf(member: MemberId): Member | undefined {
    return this.state.roster.members.get(member)
  }

  readonly children = (): ReplicaCore[] =>
    [...this.peer.replicas.values()].filter(({ topic }) => topic.charter.parent === this.topic.id)

  // ── what goes out ──

  send(to: PeerName, message: ConsensusMessage<Entry>): void {
    const peer = this.services.peers.get(to)
    if (peer === undefined) return
    const envelope: Message = { kind: 'consensus', topic: this.topic, message }
    this.services.network.send(this.peer, peer, envelope, messageBytes(message), this.topic.level)
  }

  ask(to: PeerName, question: Question, done: (answer: Answer | null) => void): void {
    const { network, peers, clock } = this.services
    const peer = peers.get(to)
    const { incarnation } = this.peer
    let open = true
    const once = (answer: Answer | null) => {
      if (!open || this.peer.incarnation !== incarnation || !this.alive) return
      open = false
      done(answer)
    }
    if (peer === undefined || (!peer.up && network.reaches(this.peer, peer))) {
      // Nobody listens there: the dial is refused.
      clock.call(peer === undefined ? 1 : network.roundTripMs(this.peer, peer), () => once(null))
      return
    }
    network.send(
      this.peer,
      peer,
      { kind: 'question', topic: this.topic, question, done: once },
      questionBytes(question),
      this.topic.level
    )
    clock.call(this.peer.worldMs(askTimeoutMs), () => once(null))
  }

  sayUpdate(kind: 'update' | 'contribution', signed: SignedRecord): void {
    const message: Message = { kind, topic: this.topic, signed }
    const bytes = updateBytes(signed.update)
    const { participants, level, charter } = this.topic
    const { network } = this.services
    const { link, update } = signed
    for (const replica of participants) {
      if (replica === this || !replica.alive) continue
      const delay = network.gossipDelayMs(this.peer, replica.peer, bytes, participants.length, level)
      if (delay < 0) continue
      // Nothing follows from an organization's update that a peer knows already, nor from a contribution that it cannot hand in: said, and
      // not delivered. (Of a federation's, each delegate has one of its own, and the last that came counts.)
      const known = kind === 'update' && update.term === 0 && knows(replica.state, link, update)
      if (known && replica.touch(this.peer.name, delay)) continue
      if (kind === 'contribution' && !(replica.peer.replicas.get(charter.parent!)?.participates ?? false)) continue
      network.deliver(this.peer, replica.peer, message, delay, known ? 0 : undefined)
    }
  }

  sayHead(certified: Certified): void {
    const message: Message = { kind: 'head', topic: this.topic, certified }
    const bytes = entryBytes(certified.entry) + 600
    const { participants, observers, level } = this.topic
    const { network } = this.services
    const listeners = participants.length + observers.length
    for (const list of [participants, observers]) {
      for (const replica of list) {
        if (replica === this || !replica.alive) continue
        const delay = network.gossipDelayMs(this.peer, replica.peer, bytes, listeners, level)
        if (delay >= 0) network.deliver(this.peer, replica.peer, message, delay)
      }
    }
  }

  later(localMs: number, work: () => void): void {
    this.services.clock.call(this.peer.worldMs(localMs), () => {
      if (this.alive) work()
    })
  }

  /** A log on this peer has grown: is there a place to ask for, a part to play? */
  grown(): void {
    const wants = this.joining.wanted()
    this.asking = wants
    if (wants) this.joining.wake()
    const part = wants || this.as !== null || this.rosterPeers().has(this.peer.name)
    if (part !== this.participates) {
      this.participates = part
      const { participants, observers } = this.topic
      if (part) participants.push(this)
      drop(part ? observers : participants, this)
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
    const fresh = applied === this.topic.id && this.state.head.round === 0
    const waitedMs = this.peer.localMs() - this.#begunMs
    if (!fresh && waitedMs < catchUpGraceMs) {
      this.later(catchUpGraceMs - waitedMs + 1, () => this.#becomeReady())
      return
    }
    this.#ready = true
    if (pending !== null) this.keepUpdate(pending)
    this.dispatch({ type: 'participation', event: { type: 'ready', applied, pending } })
  }

  #handInHost() {
    const replica = this
    return {
      get state() {
        return replica.state
      },
      above: (parent: Link) => replica.peer.replicas.get(parent)?.handIn ?? null,
      sign: (update: Update) => {
        const record = { link: linkOfUpdate(update), update }
        replica.keepUpdate(record)
        replica.services.observer.announced(replica.topic, record)
        return { ...record, signed: record }
      },
      say: (kind: 'contribution' | 'update', signed: SignedRecord) => {
        replica.sayUpdate(kind, signed)
        replica.#handInTicker.wake()
      },
      take: ({ link, update }: SignedRecord) => replica.dispatch({ type: 'update', link, update })
    }
  }
}

const peersOf = new WeakMap<Roster, ReadonlySet<PeerName>>()

/** Whether an organization's update changes nothing any more. */
function knows({ known, round }: FederationState, link: Link, { member }: Update): boolean {
  if (known.get(member)?.link !== link) return false
  return round.phase !== 'collecting' || round.received.get(member)?.link === link
}

function drop(list: ReplicaCore[], replica: ReplicaCore): void {
  const place = list.indexOf(replica)
  if (place >= 0) list.splice(place, 1)
}
