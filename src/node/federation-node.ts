/**
 * One federation on this node: feeds the pure machine (federation/federation.ts) with events, and performs its effects.
 *
 * Events are taken one at a time, in order; effects that store end before the next begins, those that take long (pull, aggregate,
 * train) run on and come back as events. What the effects do stands in effects.ts.
 */
import { Random } from '../math/random.ts'
import type { Member, RoundEntry, Update } from '../federation/entry.ts'
import {
  type FederationEffect,
  type FederationEvent,
  type FederationState,
  initialFederation,
  stepFederation
} from '../federation/federation.ts'
import { memberOf, rosterPeers } from '../federation/membership.ts'
import type { ParentHead } from '../federation/round.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import { sketchGroupBytes } from '../aggregate/sketch.ts'
import { createLayout, type Layout } from '../model/layout.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { checkProof, encodeChildProof, extendLog, joinBytes, type LogState, readUpdate } from '../wire/certified-log.ts'
import {
  type Answer,
  answerCodec,
  type CertifiedBytes,
  consensusCodec,
  type ConsensusEnvelope,
  type Question,
  questionCodec,
  type Signed,
  signedCodec,
  topicCodec,
  type TopicMessage
} from '../wire/messages.ts'
import { limits } from '../wire/limits.ts'
import { topicOf } from '../wire/protocol-ids.ts'
import { entryCodec } from '../wire/records.ts'
import type { Verdict } from '../net/gossip.ts'
import { readSigned, signUpdate } from './signed.ts'
import type { Organization } from './organization.ts'
import type { Services } from './services.ts'
import { readConsensus } from './store.ts'
import { Timers } from './timers.ts'

/** Timers and catching up are this file's own. */
export type EffectToPerform = Exclude<FederationEffect, { do: 'start-timer' | 'stop-timer' | 'fetch' }>

export interface FederationNodeOptions {
  services: Services
  charter: Charter
  charterBytes: Uint8Array
  id: FederationId
  /** From certified.car, in order. */
  entries: CertifiedBytes[]
  /** How this node wants to take part by itself; null: only as a delegate of a child, or not at all. */
  as: 'organization' | 'witness' | null
  name: string
  /** Another federation on this node. */
  sibling: (id: FederationId) => FederationNode | null
  /** Federations on this node whose parent this is. */
  children: (id: FederationId) => FederationNode[]
  /** What is done with an effect; effects.ts in the daemon. Storing ends before it resolves. */
  perform: (node: FederationNode, effect: EffectToPerform) => Promise<void>
  /** Called when a round was certified and stored. */
  onRound: () => void
}

/** A peer that was not heard of for so many presences is absent. */
const presencesMissed = 4
const joinRetryMs = 400
const askTimeoutMs = 5_000
/** A node that comes back looks for what it missed before it trains. */
const catchUpGraceMs = 2_500

export class FederationNode {
  readonly options: FederationNodeOptions
  readonly layout: Layout
  readonly timers: Timers
  state: FederationState
  organization: Organization | null = null
  /** In order of index, from 1. */
  readonly log: CertifiedBytes[]
  /** Signed update records that may be counted or asked for. */
  readonly signedUpdates = new Map<Link, Uint8Array>()
  /** What this node, as a delegate, hands in here for its child federation, until the round is certified. */
  outgoing: { round: number; signed: Uint8Array } | null = null
  /** What this node, as the aggregator, contributes to the parent, until the parent certifies the round. */
  contribution: { parentRound: number; signed: Uint8Array } | null = null
  /** Newest aggregator that a member told of; learners hear no heartbeats. */
  heard: { aggregator: PeerName | null; term: number } = { aggregator: null, term: 0 }
  /** Measured by this node as the aggregator, for the round that is open. */
  measured = { bytesIn: 0, transferSeconds: 0, proposedAt: 0 }
  readonly #events: FederationEvent[] = []
  readonly #lastSeen = new Map<PeerName, number>()
  readonly #random: Random
  readonly #intervals: NodeJS.Timeout[] = []
  #running = false
  #stopped = false
  #catchingUp = false
  #ready = false
  readonly #begun = performance.now()

  constructor(options: FederationNodeOptions) {
    const { services, charter, id, entries } = options
    this.options = options
    this.layout = createLayout(charter.model, charter.algorithm)
    this.log = [...entries]
    const self = services.host.peer
    this.#random = new Random(`${self}/${id}`)
    this.timers = new Timers(name => this.#onTimer(name))
    const decoded = entries.map(({ entry }) => {
      const record = entryCodec.decode(entry)
      if (isMalformed(record)) throw new Error(record.detail)
      return { link: linkOf(entry), entry: record }
    })
    const persisted = readConsensus(services.folder.consensus(id))
    this.state = initialFederation({ id, charter, self, entries: decoded, persisted, rank: this.#random.float() })
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

  start(): void {
    const { services, charter } = this.options
    services.gossip.join(
      this.topic,
      (from, bytes) => this.#validate(from, bytes),
      (from, bytes) => this.#onTopic(from, bytes)
    )
    services.directory.follow(
      this.id,
      () =>
        services.gossip.subscribers(this.topic).length >=
        Math.min(8, Math.max(2, rosterPeers(this.state.roster, charter).size - 1))
    )
    this.timers.start('start', charter.timings.startTimeoutMs)
    this.#every(charter.timings.presenceMs, () => this.#presence())
    this.#every(joinRetryMs, () => void this.#join())
    this.#every(2_000, () => this.#handInAgain())
    this.dispatch({ type: 'consensus', event: { type: 'start' } })
    this.#becomeReady()
  }

  /** Hands leadership over and says no more. */
  async stop(): Promise<void> {
    if (this.#stopped) return
    this.dispatch({ type: 'consensus', event: { type: 'hand-over' } })
    await new Promise(resolve => setTimeout(resolve, 150))
    this.#stopped = true
    for (const interval of this.#intervals) clearInterval(interval)
    this.timers.stopAll()
    this.options.services.gossip.leave(this.topic)
  }

  /** One event; its effects are performed before the next event is looked at. */
  dispatch(event: FederationEvent): void {
    if (this.#stopped) return
    this.#events.push(event)
    if (!this.#running) void this.#run()
  }

  async #run(): Promise<void> {
    this.#running = true
    const env = {
      linkOf: (entry: Parameters<typeof entryCodec.encode>[0]) => linkOf(entryCodec.encode(entry)),
      sketchBytes: this.layout.groups.length * sketchGroupBytes,
      roundTokens:
        this.options.charter.algorithm.steps * this.options.charter.algorithm.batch * this.options.charter.model.context
    }
    try {
      for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
        const [state, effects] = stepFederation(env, this.state, event)
        this.state = state
        for (const effect of effects) await this.#perform(effect)
      }
    } catch (error) {
      this.options.services.fail(error)
    } finally {
      this.#running = false
    }
  }

  async #perform(effect: FederationEffect): Promise<void> {
    switch (effect.do) {
      case 'start-timer':
        this.timers.start(effect.name, effect.ms + ('jitterMs' in effect ? effect.jitterMs * this.#random.float() : 0))
        return
      case 'stop-timer':
        this.timers.stop(effect.name)
        return
      case 'fetch':
        void this.catchUp(effect.from)
        return
      default:
        await this.options.perform(this, effect)
        if (effect.do === 'store') this.#becomeReady()
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

  onConsensus(from: PeerName, { message }: ConsensusEnvelope): void {
    this.#seen(from)
    this.dispatch({ type: 'consensus', event: { type: 'message', from, message } })
  }

  async answer(from: PeerName, question: Question): Promise<Answer> {
    switch (question.kind) {
      case 'entries':
        return this.#entriesFrom(question.fromIndex)
      case 'updates':
        return { kind: 'updates', updates: question.links.flatMap(link => this.signedUpdates.get(link) ?? []).slice(0, 50) }
      case 'join':
        return this.#onJoin(from, question.member)
      case 'receipt':
        this.dispatch({
          type: 'participation',
          event: { type: 'receipt', link: question.update, accepted: question.verdict === 'accepted' }
        })
        this.recordReceipt(from, question.update, question.verdict)
        return { kind: 'receipt' }
    }
  }

  recordReceipt(aggregator: PeerName, update: Link, verdict: string): void {
    const { participation } = this.state
    if (participation.phase !== 'announced' || participation.link !== update) return
    const { round, member } = participation.update
    this.options.services.records.append({ record: 'receipt', federation: this.id, round, member, update, aggregator, verdict })
  }

  #entriesFrom(fromIndex: number): Answer {
    const entries: CertifiedBytes[] = []
    let bytes = 0
    for (const one of this.log.slice(Math.max(0, fromIndex - 1))) {
      bytes += one.entry.length + one.certificate.length
      if (entries.length >= limits.fetchEntriesMax || bytes > limits.fetchAnswerBytesMax / 2) break
      entries.push(one)
    }
    return { kind: 'entries', charter: fromIndex === 0 ? this.options.charterBytes : null, entries, headIndex: this.log.length }
  }

  #onJoin(from: PeerName, member: Member): Answer {
    const { consensus } = this.state
    if (consensus.role !== 'leader')
      return { kind: 'join', taken: false, aggregator: consensus.aggregator ?? this.heard.aggregator }
    const why = checkProof(this.id, member)
    if (why !== null || !member.peers.includes(from)) {
      this.options.services.events.emit({
        type: 'fault',
        federation: this.path,
        peer: from,
        code: 'JOIN_REFUSED',
        detail: why ?? 'it asks for another'
      })
      return { kind: 'join', taken: false, aggregator: this.self }
    }
    for (const peer of member.peers) if (peer !== this.self) this.#seen(peer, peer === from)
    this.dispatch({ type: 'join', member })
    return { kind: 'join', taken: true, aggregator: this.self }
  }

  #validate(from: PeerName, bytes: Uint8Array): Verdict {
    const message = topicCodec.decode(bytes)
    if (isMalformed(message)) return 'reject'
    // [IGNORE] Its entry into the roster may not have reached us yet.
    if (!rosterPeers(this.state.roster, this.options.charter).has(from)) return 'ignore'
    return 'accept'
  }

  #onTopic(from: PeerName, bytes: Uint8Array): void {
    const message = topicCodec.decode(bytes)
    if (isMalformed(message)) return
    this.#seen(from)
    switch (message.kind) {
      case 'presence':
        void this.options.services.host.learn(from, message.addresses)
        if (message.term >= this.heard.term && message.aggregator !== null)
          this.heard = { aggregator: message.aggregator, term: message.term }
        if (message.index > this.state.consensus.commitIndex) void this.catchUp(from)
        return
      case 'update':
        this.takeUpdate(from, message)
        return
      case 'contribution':
        this.handIn(from, message.signed)
        return
      case 'head':
        this.#onHead(from, message)
    }
  }

  takeUpdate(from: PeerName, { signed }: Extract<TopicMessage, { kind: 'update' }>): void {
    const bytes = signedCodec.encode(signed)
    const read = readUpdate(bytes)
    if (read === null || read.update.federation !== this.id) {
      this.options.services.events.emit({
        type: 'fault',
        federation: this.path,
        peer: from,
        code: 'BAD_UPDATE',
        detail: 'its update is damaged or wrongly signed'
      })
      return
    }
    this.keepUpdate(read.link, bytes)
    this.dispatch({ type: 'update', link: read.link, update: read.update })
  }

  keepUpdate(link: Link, bytes: Uint8Array): void {
    this.signedUpdates.set(link, bytes)
    const surplus = this.signedUpdates.size - limits.membersMax * 2
    if (surplus > 0) for (const old of [...this.signedUpdates.keys()].slice(0, surplus)) this.signedUpdates.delete(old)
  }

  /** A contribution of this federation to its parent, told by its aggregator: a delegate hands it in above, under its own name. */
  handIn(from: PeerName, signed: Signed): void {
    const { charter, sibling } = this.options
    const read = readUpdate(signedCodec.encode(signed))
    if (read === null || read.update.by !== from || charter.parent === null) return
    sibling(charter.parent)?.handInFor(this.id, read.update)
  }

  /** For the child federation `member`, if this peer is its delegate here. */
  handInFor(member: MemberId, update: Update): void {
    const known = this.state.roster.members.get(member)
    if (known === undefined || !known.peers.includes(this.self) || update.member !== member) return
    if (update.round <= this.state.head.round) return
    const mine = {
      ...update,
      by: this.self,
      holders: [update.by, ...update.holders.filter(peer => peer !== update.by)].slice(0, limits.votersMax)
    }
    const { link, bytes, signed } = signUpdate(this.options.services.host.sign.bind(this.options.services.host), mine)
    this.outgoing = { round: update.round, signed: bytes }
    this.keepUpdate(link, bytes)
    this.say({ kind: 'update', signed })
    this.dispatch({ type: 'update', link, update: mine })
  }

  /** Gossip may lose a message, and a delegate may be new: what is not settled is said again. */
  #handInAgain(): void {
    if (this.contribution !== null) {
      const settled = (this.state.parentHead?.round ?? 0) >= this.contribution.parentRound
      if (settled || this.state.round.phase !== 'waiting-for-parent') this.contribution = null
      else {
        const signed = readSigned(this.contribution.signed)
        this.say({ kind: 'contribution', signed })
        this.handIn(this.self, signed)
      }
    }
    if (this.outgoing === null) return
    if (this.outgoing.round <= this.state.head.round) this.outgoing = null
    else this.say({ kind: 'update', signed: readSigned(this.outgoing.signed) })
  }

  #onHead(from: PeerName, { entry, certificate }: { entry: Uint8Array; certificate: Uint8Array }): void {
    const record = entryCodec.decode(entry)
    if (isMalformed(record) || record.index <= this.state.consensus.commitIndex) return
    if (record.index > this.state.consensus.commitIndex + 1) void this.catchUp(from)
    else this.#certified(from, { entry, certificate })
  }

  /** @returns whether it was the next entry, and rightly certified. */
  #certified(from: PeerName, bytes: CertifiedBytes): boolean {
    const extended = extendLog(this.logState(), bytes, this.signedUpdates)
    // It came twice, or together with what catches up: neither is a fault.
    if ('code' in extended && extended.code === 'GAP') return false
    if ('code' in extended) {
      this.options.services.events.emit({
        type: 'fault',
        federation: this.path,
        peer: from,
        code: extended.code,
        detail: extended.detail
      })
      return false
    }
    const { entry, certificate, link } = extended
    this.dispatch({ type: 'consensus', event: { type: 'certified', link, entry, certificate } })
    return true
  }

  logState(): LogState {
    const { id, charter, roster, consensus, head, bases, counted } = this.state
    return {
      id,
      charter,
      roster,
      index: consensus.commitIndex,
      head: consensus.head,
      rounds: head.round,
      bases: bases.map(({ link }) => link),
      counted
    }
  }

  /** Fetches what is certified and not here yet. One at a time. */
  async catchUp(from: PeerName): Promise<void> {
    if (this.#catchingUp || from === this.self || this.#stopped) return
    this.#catchingUp = true
    try {
      for (let more = true; more && !this.#stopped; ) {
        const before = this.state.consensus.commitIndex
        const answer = await this.ask(from, { kind: 'entries', federation: this.id, fromIndex: before + 1 })
        if (answer?.kind !== 'entries') return
        for (const bytes of answer.entries) {
          if (!this.#certified(from, bytes)) break
          await this.#settled()
        }
        more = this.state.consensus.commitIndex > before && answer.headIndex > this.state.consensus.commitIndex
      }
    } finally {
      this.#catchingUp = false
    }
  }

  /** Resolves when all events so far are done with. */
  async #settled(): Promise<void> {
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

  // ── presence and joining ──

  #seen(peer: PeerName, fresh = true): void {
    if (peer === this.self) return
    if (!fresh && this.#lastSeen.has(peer)) return
    this.#lastSeen.set(peer, performance.now())
    if (this.state.present.has(peer)) return
    this.dispatch({ type: 'presence', peer, present: true })
  }

  #presence(): void {
    const { services, charter } = this.options
    const { consensus, participation } = this.state
    if (rosterPeers(this.state.roster, charter).has(this.self)) {
      this.say({
        kind: 'presence',
        index: consensus.commitIndex,
        term: consensus.term,
        aggregator: consensus.aggregator,
        addresses: services.host.addresses().slice(0, 16),
        phase: participation.phase,
        starting: !this.#ready
      })
    }
    const oldest = performance.now() - charter.timings.presenceMs * presencesMissed
    for (const peer of this.state.present) {
      if ((this.#lastSeen.get(peer) ?? 0) >= oldest) continue
      this.dispatch({ type: 'presence', peer, present: false })
      const member = memberOf(this.state.roster, peer)
      if (member !== null && rosterPeers(this.state.roster, charter).has(this.self)) {
        services.events.emit({
          type: 'member',
          federation: this.path,
          member: member.member,
          name: member.name,
          change: 'absent',
          reason: `nothing heard of ${peer}`
        })
      }
    }
  }

  /** Asks for a place in the roster, until it has the one that it should have. */
  async #join(): Promise<void> {
    const member = this.#wantedMember()
    if (member === null) return
    const { services } = this.options
    if (this.state.consensus.role === 'leader') {
      this.dispatch({ type: 'join', member })
      return
    }
    const aggregator = this.state.consensus.aggregator ?? this.heard.aggregator
    const others = services.gossip.subscribers(this.topic)
    const asked =
      aggregator !== null && aggregator !== this.self ? aggregator : others[Math.floor(this.#random.float() * others.length)]
    if (asked === undefined) return
    const answer = await this.ask(asked, { kind: 'join', federation: this.id, member })
    if (answer?.kind === 'join' && answer.aggregator !== null && answer.aggregator !== asked)
      this.heard = { aggregator: answer.aggregator, term: this.heard.term }
    else if (answer === null) this.heard = { aggregator: null, term: this.heard.term }
    if (this.state.consensus.commitIndex === 0 || answer?.kind !== 'join') void this.catchUp(asked)
  }

  #wantedMember(): Member | null {
    const { as, name, services } = this.options
    const { roster } = this.state
    if (as !== null && !roster.members.has(this.self)) {
      const asked = { member: this.self, kind: as, name } as const
      return { ...asked, peers: [this.self], proof: services.host.sign(joinBytes(this.id, asked)) }
    }
    for (const child of this.options.children(this.id)) {
      const { delegates } = child.state.roster
      const known = roster.members.get(child.id)
      if (!delegates.includes(this.self) || known?.peers.join() === delegates.join()) continue
      return {
        member: child.id,
        kind: 'federation',
        name: child.options.charter.name,
        peers: [...delegates],
        proof: child.proof()
      }
    }
    return null
  }

  /** This federation's proof for its parent: its charter and its `members` entries. */
  proof(): Uint8Array {
    const members = this.log.filter(({ entry }) => {
      const record = entryCodec.decode(entry)
      return !isMalformed(record) && record.kind === 'members'
    })
    return encodeChildProof(this.options.charterBytes, members)
  }

  // ── the organization's own part, and what the levels tell each other ──

  /** Begins to take part once the roster holds this organization and its log is as new as anybody's. */
  #becomeReady(): void {
    if (this.#ready || this.organization === null || this.#stopped) return
    if (!this.state.roster.members.has(this.self)) return
    const fresh = this.organization.applied === this.id && this.state.head.round === 0
    if (!fresh && performance.now() - this.#begun < catchUpGraceMs) {
      setTimeout(() => this.#becomeReady(), 300).unref()
      return
    }
    this.#ready = true
    const saved = this.organization.pending
    const pending = saved === null ? null : readUpdate(saved.signed)
    if (saved !== null) this.keepUpdate(saved.link, saved.signed)
    this.dispatch({ type: 'participation', event: { type: 'ready', applied: this.organization.applied, pending } })
  }

  /** The newest certified round, as a parent tells its children. */
  asParent(): ParentHead | null {
    const { entry, link } = this.state.head
    return entry === null ? null : this.asParentOf(entry, link)
  }

  asParentOf(entry: RoundEntry, link: Link): ParentHead {
    const { round } = entry
    const holders = [entry.proposer, ...this.state.roster.voters.filter(peer => peer !== entry.proposer)]
    return {
      federation: this.id,
      path: this.path,
      round,
      entry: link,
      model: entry.model,
      textBytes: entry.textBytes,
      ancestors: entry.ancestors,
      holders
    }
  }

  /** Who is likely to hold this federation's newest model. */
  holders(): PeerName[] {
    const proposer = this.state.head.entry?.proposer
    return [...new Set([...(proposer === undefined ? [] : [proposer]), ...this.state.roster.voters, ...this.state.present])]
  }

  #every(ms: number, work: () => void): void {
    this.#intervals.push(setInterval(work, ms))
  }
}
