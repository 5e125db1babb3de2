/**
 * What a replica says in its topic, made cheap for thousands: presences, updates, certified entries.
 *
 * Most of what is said tells its listeners nothing: a presence of a peer that all know to be there, an update that all have. Then nothing
 * follows from it but that its speaker was heard of, and no event is made of it:
 *
 * - One listener: `touch` notes when it will have heard of the speaker, where the message is said (presence.ts).
 * - All of them: as long as nothing has changed in the topic (`version`) since each of them was told nothing, they will be told nothing
 *   again. It is noted once, with the speaker (said.ts).
 * - An update that is said while all expect its speaker has no consequences but where it is collected, or may soon be: it is noted once
 *   (announced.ts), and a listener takes it, as of the moment at which it came, before anything that may depend on it (mail.ts).
 *
 * All three give the same run as messages that are delivered one by one: a test compares (test/sim/simulation.spec.ts).
 */
import type { EvidenceMessage } from '../federation/evidence.ts'
import type { FederationState } from '../federation/federation-state.ts'
import { isForDeputy } from '../federation/levels.ts'
import type { Link, PeerName } from '../ids.ts'
import type { Message, ReplicaCore, SignedRecord, Voice } from './core.ts'
import { lieAboutUpdate } from './lies.ts'
import type { AtRisk } from './network.ts'
import { type LinkClass, linkBetween } from './place.ts'
import { type Said, saidOf } from './said.ts'
import { entryBytes, evidenceBytes, presenceBytes, updateBytes } from './sizes.ts'
import type { Certified } from './stand-ins.ts'

/** For the test that compares: with `false`, every message is delivered. */
export const economy = { on: true }

/** Listeners of one speaker, until participants come or go. */
interface Seats {
  version: number
  /** Listeners to whom messages may get lost. */
  atRisk: AtRisk
  classes: Map<LinkClass, number>
}

const never = -1
const none: readonly number[] = []

export class TopicVoice implements Voice {
  readonly #replica: ReplicaCore
  readonly #said: Said
  #seats: Seats | null = null
  /** Version of the topic at which all listeners expected to hear of this speaker, … */
  #expectedAt = never
  /** … and at which its presence, which said `#idle`, told them nothing. */
  #idleAt = never
  #idle = { index: 0, term: 0, aggregator: null as PeerName | null }
  /** The update that told nothing to those who collect, and what that depends on. */
  #known = { link: '' as Link, version: never, collects: never }

  constructor(replica: ReplicaCore) {
    this.#replica = replica
    this.#said = saidOf(replica.topic.said, replica.peer.name)
  }

  presence(): void {
    const { peer, topic, state, services } = this.#replica
    const { network, clock } = services
    const nth = this.#nth()
    this.#said.presenceMs = clock.nowMs
    const { commitIndex: index, term, aggregator } = state.consensus
    const same = index === this.#idle.index && term === this.#idle.term && aggregator === this.#idle.aggregator
    const all = this.#holds(this.#expectedAt)
    if (all) this.#toAll(nth, presenceBytes)
    if (all && same && this.#holds(this.#idleAt)) return
    const message: Message = { kind: 'presence', topic, index, term, aggregator }
    if (all) {
      let idle = true
      for (const other of topic.participants) {
        if (other === this.#replica || tellsNothing(other, index, term, aggregator)) continue
        idle = false
        const delay = this.#delayMs(other, presenceBytes, nth)
        if (delay >= 0) network.deliver(peer, other, message, delay, 0)
      }
      this.#idleAt = idle ? topic.version : never
      this.#idle = { index, term, aggregator }
      return
    }
    const { participants, level } = topic
    let [idle, expected] = [true, true]
    for (const other of participants) {
      if (other === this.#replica || !other.alive) continue
      const delay = network.gossip(peer, other.peer, presenceBytes, participants.length, level, nth)
      const nothing = tellsNothing(other, index, term, aggregator)
      const expects = nothing && delay >= 0 ? other.touch(peer.name, delay) : other.expects(peer.name, Math.max(0, delay))
      expected &&= expects
      idle &&= nothing && expects
      // Without a drawn tie, so that the other draws are the same whether it is delivered or noted.
      if (delay >= 0 && !(nothing && expects)) network.deliver(peer, other, message, delay, 0)
    }
    this.#said.lost = none
    this.#expectedAt = expected ? topic.version : never
    this.#idleAt = idle ? topic.version : never
    this.#idle = { index, term, aggregator }
  }

  update(kind: 'update' | 'contribution', record: SignedRecord): boolean {
    const { topic, peer } = this.#replica
    const nth = this.#nth()
    const signed = peer.lying && record.update.by === peer.name ? lieAboutUpdate(this.#replica, record, nth >>> 0) : record
    const bytes = updateBytes(signed.update)
    if (kind === 'update' && this.#holds(this.#expectedAt)) {
      this.#announce(signed, nth, bytes)
      let known = true
      for (const other of topic.busy) {
        if (other === this.#replica) continue
        const delay = this.#delayMs(other, bytes, nth)
        if (delay < 0 || !this.#tellUpdate(other, kind, signed, delay)) known = false
      }
      this.#known = { link: signed.link, version: known ? topic.version : never, collects: topic.collects }
      return true
    }
    for (const other of topic.participants) {
      if (other === this.#replica || !other.alive) continue
      const delay = this.#gossip(other, bytes, nth)
      if (delay >= 0) this.#tellUpdate(other, kind, signed, delay)
    }
    this.#said.lost = none
    return false
  }

  updateAgain(signed: SignedRecord): boolean {
    const { topic, peer } = this.#replica
    const { link, version, collects } = this.#known
    if (link !== signed.link || collects !== topic.collects || peer.lying) return false
    if (!this.#holds(version) || !this.#holds(this.#expectedAt)) return false
    this.#announce(signed, this.#nth(), updateBytes(signed.update))
    return true
  }

  /** To all at once, who look at it when they have to. */
  #announce({ link, update }: SignedRecord, nth: number, bytes: number): void {
    const { topic, peer, services } = this.#replica
    const listeners = topic.participants.length
    this.#toAll(nth, bytes)
    topic.announced.add({ atMs: services.clock.nowMs, from: peer, signed: { link, update }, nth, bytes, listeners })
  }

  head(certified: Certified): void {
    const { topic, peer, services } = this.#replica
    const message: Message = { kind: 'head', topic, certified }
    const bytes = entryBytes(certified.entry) + 600
    const { participants, observers, level } = topic
    const nth = this.#nth()
    const listeners = participants.length + observers.length
    for (const list of [participants, observers]) {
      for (const other of list) {
        if (other === this.#replica || !other.alive) continue
        const delay = services.network.gossip(peer, other.peer, bytes, listeners, level, nth)
        if (delay >= 0) services.network.deliver(peer, other, message, delay)
        else other.missed()
      }
    }
  }

  evidence(message: EvidenceMessage): void {
    const { topic, peer, services } = this.#replica
    const nth = this.#nth()
    for (const other of topic.participants) {
      if (other === this.#replica || !other.alive) continue
      const delay = this.#gossip(other, evidenceBytes, nth)
      if (delay >= 0) services.network.deliver(peer, other, { topic, ...message }, delay, 0)
    }
  }

  /** @returns whether it told nothing, and so was not sent. */
  #tellUpdate(other: ReplicaCore, kind: 'update' | 'contribution', signed: SignedRecord, delay: number): boolean {
    const { peer, topic, services } = this.#replica
    if (kind === 'update' && knows(other, signed) && other.touch(peer.name, delay)) return true
    // Nothing follows from a contribution where it cannot be handed in.
    const above = topic.charter.parent
    if (kind === 'contribution' && !(other.peer.replicas.get(above!)?.participates ?? false)) return true
    services.network.deliver(peer, other, { kind, topic, signed }, delay, 0)
    return false
  }

  #nth(): number {
    return Math.imul(this.#said.next(), 4099) + this.#replica.topic.index
  }

  /** Whether what was found at that version of the topic is true still. */
  #holds(version: number): boolean {
    const { topic, services } = this.#replica
    return version === topic.version && economy.on && services.network.calm
  }

  #gossip(other: ReplicaCore, bytes: number, nth: number): number {
    const { peer, topic, services } = this.#replica
    return services.network.gossip(peer, other.peer, bytes, topic.participants.length, topic.level, nth)
  }

  #delayMs(other: ReplicaCore, bytes: number, nth: number): number {
    const { peer, topic, services } = this.#replica
    return services.network.gossipDelayMs(peer, other.peer, bytes, topic.participants.length, nth)
  }

  /** Said to all at once. Whoever misses two in a row may soon take the speaker for silent: then each is looked at again. */
  #toAll(nth: number, bytes: number): void {
    const { topic, services } = this.#replica
    const { network, clock } = services
    const { atRisk, classes } = this.#seatsNow()
    for (const [name, count] of classes) network.count(name, topic.level, bytes * count)
    this.#said.note(clock.nowMs, nth, bytes, topic.participants.length)
    const before = this.#said.lost
    const lost = network.lostTo(atRisk, nth)
    for (const index of lost ?? none) if (before.includes(index)) topic.version++
    this.#said.lost = lost ?? none
  }

  #seatsNow(): Seats {
    const { topic, peer, services } = this.#replica
    if (this.#seats?.version === topic.seats) return this.#seats
    const others = topic.participants.filter(other => other !== this.#replica).map(other => other.peer)
    const classes = new Map<LinkClass, number>()
    for (const { place } of others) {
      const name = linkBetween(peer.place, place)
      classes.set(name, (classes.get(name) ?? 0) + 1)
    }
    this.#seats = { version: topic.seats, atRisk: services.network.atRisk(peer, others), classes }
    return this.#seats
  }
}

/** Whether the update changes nothing any more (Turn.takeUpdate in federation.ts, take in round.ts). */
function knows(other: ReplicaCore, signed: SignedRecord): boolean {
  if (isForDeputy(other.state, signed.update) && !other.peer.blobs.has(signed.update.blob)) return false
  if (!keeps(other, signed)) {
    other.read()
    if (!keeps(other, signed)) return false
  }
  const { link, update } = signed
  const { round } = other.state
  if (round.phase !== 'collecting') return true
  const received = round.received.get(update.member)
  return received !== undefined && (received.link === link || received.update.term >= update.term)
}

/** Whether it knows that update of the member, or a contribution like it. */
export function keeps({ state, updates }: ReplicaCore, { link, update }: SignedRecord): boolean {
  const { member, base, term } = update
  const known = state.known.get(member)
  if (known === undefined || known.link === link) return known !== undefined
  return term > 0 && known.update.base === base && known.update.term >= term && updates.has(link)
}

function tellsNothing(
  { state, heard, asking }: ReplicaCore,
  index: number,
  term: number,
  aggregator: PeerName | null
): boolean {
  if (asking || index > state.consensus.commitIndex) return false
  return aggregator === null || term < heard.term || (heard.aggregator === aggregator && heard.term === term)
}

/** Whether it now expects others than before. */
export function tellsOtherwise(before: FederationState, after: FederationState): boolean {
  return before.present !== after.present || before.away !== after.away || before.roster !== after.roster
}
