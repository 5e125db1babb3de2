/**
 * One federation on this node: feeds the pure machine (federation/federation.ts) with events, and performs its effects.
 *
 * Events are taken one at a time, in order; effects that store end before the next begins, those that take long (pull, aggregate,
 * train) run on and come back as events. What the effects do stands in effects.ts.
 */
import { randomInt } from 'node:crypto'
import { Random } from '../math/random.ts'
import { type Acceptance, Evidence } from '../federation/evidence.ts'
import { type FederationEffect, type FederationEvent, stepFederation } from '../federation/federation.ts'
import { resumeFederation } from '../federation/federation-start.ts'
import type { Environment, FederationState } from '../federation/federation-state.ts'
import { HandIn, type Waiting } from '../federation/hand-in.ts'
import { holdersOf, parentHeadOf } from '../federation/levels.ts'
import { rosterPeers } from '../federation/membership.ts'
import { Listeners, sayAnew } from '../federation/listeners.ts'
import { restBeforeReady } from '../federation/participation.ts'
import type { ParentHead } from '../federation/round-state.ts'
import { timerEvent, type TimerName } from '../federation/timers.ts'
import type { FederationId, Link, PeerName } from '../ids.ts'
import { sketchGroupBytes } from '../aggregate/sketch.ts'
import { createLayout, type Layout } from '../model/layout.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { readUpdate } from '../wire/certified-log.ts'
import {
  type Answer,
  answerCodec,
  consensusCodec,
  type ConsensusEnvelope,
  type Question,
  type Signed,
  questionCodec,
  signedCodec,
  topicCodec,
  type TopicMessage
} from '../wire/messages.ts'
import { limits } from '../wire/limits.ts'
import { topicOf } from '../wire/protocol-ids.ts'
import { entryCodec } from '../wire/records.ts'
import type { Organization } from './organization.ts'
import type { EntryLog } from './entry-log.ts'
import { type FederationCore, type FederationNodeOptions, nothingMeasured } from './federation-core.ts'
import { joinPollMs, Joining } from './joining.ts'
import { evidenceHost } from './evidence.ts'
import { handInHost } from './handing-in.ts'
import { Incoming } from './incoming.ts'
import { LogSync, partOf } from './log-sync.ts'
import { Presence } from './presence.ts'
import { ResidualExchange, residualTickMs } from './residual-exchange.ts'
import type { ResidualTarget } from './residual-target.ts'
import { readConsensus } from './store.ts'
import { Timers } from './timers.ts'
import { dropOldest } from './updates-at-hand.ts'

/** A number that no other start of this node draws. */
const nonceMax = 2 ** 48 - 1
const askTimeoutMs = 5_000

export class FederationNode implements FederationCore {
  readonly options: FederationNodeOptions
  readonly layout: Layout
  readonly environment: Environment
  readonly timers: Timers<TimerName>
  state: FederationState
  organization: Organization | null = null
  readonly log: EntryLog
  /** Signed update records that may be counted or asked for. */
  readonly signedUpdates = new Map<Link, Uint8Array>()
  /** Measured by this node as the aggregator, for the round that is open. */
  measured = nothingMeasured(0)
  readonly #handInTimers: Timers<Waiting>
  readonly #listeners = new Listeners()
  #heard: { aggregator: PeerName | null; term: number } = { aggregator: null, term: 0 }
  readonly #events: FederationEvent[] = []
  readonly #random: Random
  readonly handIn: HandIn<Signed>
  readonly residuals: ResidualExchange
  /** Of the organization. */
  target: ResidualTarget | null = null
  readonly #sync = new LogSync(this)
  readonly #presence = new Presence(this)
  readonly #evidence = new Evidence(evidenceHost(this))
  readonly #incoming: Incoming
  readonly joining: Joining
  readonly #intervals: NodeJS.Timeout[] = []
  #running = false
  /** An effect failed: what its disk holds is not what its state says any more. */
  #failed = false
  stopped = false
  leaving = false
  #toldEviction = false
  #ready = false
  readonly #begun = performance.now()

  constructor(options: FederationNodeOptions) {
    const { services, charter, id, entries, folded } = options
    this.options = options
    this.layout = createLayout(charter.model, charter.algorithm)
    const { steps, batch } = charter.algorithm
    this.environment = {
      linkOf: entry => linkOf(entryCodec.encode(entry)),
      sketchBytes: this.layout.groups.length * sketchGroupBytes,
      roundTokens: steps * batch * charter.model.context
    }
    this.log = entries
    const self = services.host.peer
    this.#random = new Random(`${self}/${id}`)
    this.#handInTimers = new Timers(what => this.handIn.again(what))
    const wait = (what: Waiting, ms: number) => this.stopped || this.#handInTimers.start(what, ms)
    this.handIn = new HandIn(handInHost(this, wait, parent => options.sibling(parent)?.handIn ?? null))
    this.residuals = new ResidualExchange(this)
    const onContribution = (from: PeerName, told: Signed) => this.#onContribution(from, told)
    this.#incoming = new Incoming(this, {
      sync: this.#sync,
      presence: this.#presence,
      evidence: this.#evidence,
      onContribution
    })
    this.joining = new Joining(this, this.#random, this.#sync)
    this.timers = new Timers(name => this.dispatch(timerEvent(name)))
    const { nonce, ...persisted } = readConsensus(services.folder.consensus(id), () => randomInt(nonceMax))
    this.state = resumeFederation({ id, charter, self, persisted, rank: this.#random.float(), nonce }, folded)
  }

  get id(): FederationId {
    return this.options.id
  }
  get path(): string {
    return this.options.charter.path
  }
  get self(): PeerName {
    return this.options.services.host.peer
  }
  get topic(): string {
    return topicOf(this.id)
  }

  /** Newest aggregator that a member told of; learners hear no heartbeats. */
  get heard(): { aggregator: PeerName | null; term: number } {
    return this.#heard
  }
  set heard(heard: { aggregator: PeerName | null; term: number }) {
    this.#heard = heard
    this.#lookWhoListens()
  }

  #lookWhoListens(): void {
    if (this.#listeners.areNew(this.state, this.#heard)) sayAnew(this)
  }

  start(): void {
    const { services, charter } = this.options
    services.gossip.join(
      this.topic,
      (from, bytes) => this.#incoming.validate(from, bytes),
      (from, bytes) => this.#incoming.onTopic(from, bytes)
    )
    services.directory.follow(
      this.id,
      () =>
        services.gossip.subscribers(this.topic).length >=
        Math.min(8, Math.max(2, rosterPeers(this.state.roster, charter).size - 1))
    )
    this.timers.start('start', charter.timings.startTimeoutMs)
    this.#every(charter.timings.presenceMs, () => this.#presence.tick())
    this.#every(charter.timings.presenceMs, () => this.#evidence.again())
    this.#every(joinPollMs, () => void this.joining.join())
    this.#every(residualTickMs, () => this.residuals.tick())
    this.dispatch({ type: 'consensus', event: { type: 'start' } })
    this.#becomeReady()
    this.#tellEviction()
  }

  /** Its organization can train: it takes part as soon as the roster holds it. */
  open(organization: Organization, target: ResidualTarget): void {
    this.target = target
    this.organization = organization
    this.residuals.resumeOwn()
    this.#becomeReady()
  }

  /** Hands leadership over and says no more. */
  async stop(): Promise<void> {
    if (this.stopped) return
    this.dispatch({ type: 'consensus', event: { type: 'hand-over' } })
    await new Promise(resolve => setTimeout(resolve, 150))
    this.stopped = true
    for (const interval of this.#intervals) clearInterval(interval)
    this.timers.stopAll()
    this.#handInTimers.stopAll()
    this.options.services.gossip.leave(this.topic)
  }

  /** One event; its effects are performed before the next event is looked at. */
  dispatch(event: FederationEvent): void {
    if (this.stopped || this.#failed) return
    this.#events.push(event)
    if (!this.#running) void this.#run()
  }

  async #run(): Promise<void> {
    this.#running = true
    try {
      for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
        const [state, effects] = stepFederation(this.environment, this.state, event)
        this.#tellPhase(state)
        this.state = state
        this.#lookWhoListens()
        for (const effect of effects) await this.#perform(effect)
      }
    } catch (error) {
      // What follows would be said and stored as if this were on disk: votes that a restart forgets (I2), entries with a gap before them.
      this.#failed = true
      this.options.services.fail(error)
    } finally {
      this.#running = false
    }
  }

  #tellPhase({ round: next }: FederationState): void {
    const { round: before } = this.state
    if (next.phase === before.phase) return
    const told =
      next.phase === 'idle' ? { round: this.state.head.round, phase: null } : { round: next.round, phase: next.phase }
    this.options.services.events.emit({ type: 'round-phase', federation: this.path, ...told })
  }

  async #perform(effect: FederationEffect): Promise<void> {
    this.options.beforeEffect?.(this.state, effect)
    switch (effect.do) {
      case 'start-timer':
        this.timers.start(
          effect.name,
          effect.ms + ('jitterMs' in effect ? effect.jitterMs * this.#random.float() : 0),
          effect.name === 'election'
        )
        return
      case 'stop-timer':
        this.timers.stop(effect.name)
        return
      case 'fetch':
        void this.#sync.catchUp(effect.from)
        return
      default:
        await this.options.perform(this, effect)
        if (effect.do === 'store') {
          this.#evidence.seeAll(effect.certificate)
          this.#becomeReady()
          this.#tellEviction()
        }
    }
  }

  // ── what comes in ──

  onConsensus(from: PeerName, envelope: ConsensusEnvelope): void {
    this.#incoming.onConsensus(from, envelope)
  }

  takeUpdate(from: PeerName, message: Extract<TopicMessage, { kind: 'update' }>): void {
    this.#incoming.takeUpdate(from, message)
  }

  accepted(acceptance: Acceptance, proposer: PeerName): void {
    this.#evidence.tell(acceptance, proposer)
  }

  alive(peer: PeerName): void {
    if (!this.stopped) this.#presence.alive(peer)
  }

  /** The connection to `peer` broke. */
  lost(peer: PeerName): void {
    if (!this.stopped) void this.#presence.lost(peer)
  }

  async answer(from: PeerName, question: Question): Promise<Answer> {
    switch (question.kind) {
      case 'entries':
        return this.#sync.entriesFrom(question.fromIndex)
      case 'updates':
        return { kind: 'updates', updates: this.#updatesOf(question.links) }
      case 'join':
        return this.joining.onJoin(from, question)
      case 'residual':
        return this.residuals.grant(from, question)
      case 'offer':
        return this.target?.answer(from, question) ?? { kind: 'offer', verdict: 'refused', detail: 'no organization here' }
      case 'receipt':
        this.#incoming.onReceipt(from, question.update, question.verdict)
        return { kind: 'receipt' }
    }
  }

  #updatesOf(links: Link[]): Uint8Array[] {
    const known = links.flatMap(link => this.signedUpdates.get(link) ?? [])
    return partOf(known, ({ length }) => length, limits.fetchUpdatesMax)
  }

  takeReceipt(aggregator: PeerName, update: Link, verdict: string): void {
    this.#incoming.takeReceipt(aggregator, update, verdict)
  }

  keepUpdate(link: Link, bytes: Uint8Array): void {
    this.signedUpdates.set(link, bytes)
    dropOldest(this.signedUpdates, this.state)
  }

  #onContribution(from: PeerName, signed: Signed): void {
    const read = readUpdate(signedCodec.encode(signed))
    if (read !== null) this.handIn.onContribution(from, read.update)
  }

  seen(peer: PeerName, fresh = true): void {
    this.#presence.seen(peer, fresh)
  }

  get isBehind(): boolean {
    return this.#sync.isBehind
  }

  async settled(): Promise<void> {
    while (this.#running) await new Promise(resolve => setImmediate(resolve))
  }

  async ask(peer: PeerName, question: Question): Promise<Answer | null> {
    try {
      const answer = answerCodec.decode(
        await this.options.services.direct.ask(peer, questionCodec.encode(question), askTimeoutMs)
      )
      return isMalformed(answer) ? null : answer
    } catch (error) {
      this.options.services.log.debug({ peer, question: question.kind, error: String(error) }, 'not answered')
      return null
    }
  }

  say(message: TopicMessage): void {
    void this.options.services.gossip.publish(this.topic, topicCodec.encode(message))
  }

  send(to: PeerName, envelope: ConsensusEnvelope): void {
    this.options.services.direct.send(to, consensusCodec.encode(envelope))
  }

  // ── the organization's own part, and what the levels tell each other ──

  #tellEviction(): void {
    if (this.#toldEviction || !this.state.roster.evicted.has(this.self)) return
    this.#toldEviction = true
    const message = `${this.path} has evicted this node: two entries for one index and term are signed by its key`
    this.options.services.events.emit({ type: 'warning', code: 'EVICTED', message })
  }

  /** Asks to be let go, until it is, and those that stay know it. */
  leave(): void {
    this.leaving = true
    this.joining.goIfItMay()
  }

  /** Begins to take part once the roster holds this organization and its log is as new as anybody's. */
  #becomeReady(): void {
    if (this.#ready || this.organization === null || this.stopped) return
    if (!this.state.roster.members.has(this.self)) return
    const { applied, pending: saved } = this.organization
    const pending = saved === null ? null : readUpdate(saved.signed)
    const restMs = restBeforeReady(this.state, { applied, pending }, performance.now() - this.#begun)
    if (restMs > 0) {
      setTimeout(() => this.#becomeReady(), restMs + 1).unref()
      return
    }
    this.#ready = true
    if (saved !== null) this.keepUpdate(saved.link, saved.signed)
    this.dispatch({ type: 'participation', event: { type: 'ready', applied, pending } })
  }

  /** The newest certified round, as a parent tells its children. */
  asParent(): ParentHead | null {
    const { entry, link } = this.state.head
    return entry === null ? null : parentHeadOf(this.state, entry, link)
  }

  /** Who is likely to hold this federation's newest model. */
  holders(): PeerName[] {
    return holdersOf(this.state)
  }

  #every(ms: number, work: () => void): void {
    this.#intervals.push(setInterval(work, ms))
  }
}
