/** What other peers say to a replica (node/incoming.ts). Everything is checked here before it becomes an event. */
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Entry } from '../federation/entry.ts'
import type { FederationEvent } from '../federation/federation.ts'
import type { PeerName } from '../ids.ts'
import type { Message, PeerCore, ReplicaCore, SignedRecord } from './core.ts'
import type { LogSync } from './log-sync.ts'
import { Mail } from './mail.ts'
import type { Questions } from './questions.ts'
import { isTrulySigned } from './stand-ins.ts'
import { keeps } from './voice.ts'

/** Rounds of which it is noted when they were taken over. */
const roundsNoted = 8

interface Parts {
  sync: LogSync
  questions: Questions
  /** One event, while another is being taken. */
  take: (event: FederationEvent) => void
}

export class Incoming {
  readonly #replica: ReplicaCore
  readonly #parts: Parts
  readonly mail: Mail
  /** When the newest rounds were taken over, by the world's clock. */
  readonly #rounds: { round: number; atMs: number }[] = []

  constructor(replica: ReplicaCore, parts: Parts) {
    this.#replica = replica
    this.#parts = parts
    this.mail = new Mail(replica, (from, signed) => this.#onAnnounced(from, signed))
  }

  onMessage(from: PeerCore, message: Message): void {
    const replica = this.#replica
    switch (message.kind) {
      case 'consensus':
        replica.seen(from.name)
        // [REJECT] A wrong signature in a certificate would make a log that nobody else believes.
        if (!isTrulySigned(from.name, replica.topic.id, message.message)) return
        this.#seeSignature(from.name, message.message)
        replica.dispatch({ type: 'consensus', event: { type: 'message', from: from.name, message: message.message } })
        return
      case 'question':
        this.#parts.questions.answer(from, message.question, message.done)
        return
      case 'answer':
        message.done(message.answer)
        return
      case 'update':
        this.#onUpdate(from, message.signed)
        return
      default:
        // [IGNORE] Its entry into the roster may not have reached us yet.
        if (!replica.rosterPeers().has(from.name)) return
        replica.seen(from.name)
    }
    switch (message.kind) {
      case 'presence':
        // Nobody lies about it here (federation/who-leads.ts).
        if (message.term >= replica.heard.term && message.aggregator !== null)
          replica.heard = { aggregator: message.aggregator, term: message.term }
        if (message.index > replica.state.consensus.commitIndex) this.#parts.sync.catchUp(from.name)
        return
      case 'accepts':
        replica.evidence?.seeAll(message.accepts)
        return
      case 'evidence':
        replica.evidence?.onEvidence(from.name, message.evicted)
        return
      case 'contribution':
        replica.handIn.onContribution(from.name, message.signed.update)
        return
      case 'head':
        this.#parts.sync.onHead(from.name, message.certified)
    }
  }

  #seeSignature(from: PeerName, message: ConsensusMessage<Entry>): void {
    if (message.type !== 'accept' && message.type !== 'propose') return
    const { term, link, signature } = message
    const index = message.type === 'accept' ? message.index : message.entry.index
    this.#replica.evidence?.see(from, { index, term, link, signature })
  }

  /** An update that was said to all, as of the moment at which it came. */
  #onAnnounced(from: PeerCore, signed: SignedRecord): void {
    const replica = this.#replica
    const { update } = signed
    // [IGNORE] Its entry into the roster may not have reached us yet.
    if (!replica.rosterPeers().has(from.name)) return
    if (update.round <= (replica.state.counted.get(update.member) ?? 0) || keeps(replica, signed)) return
    replica.keepUpdate(signed)
    // One for a round that this replica had not yet opened the way to was refused when it came. It came before the event under way, if any.
    if (update.round - 1 <= this.#roundAt(replica.services.clock.nowMs)) this.#parts.take({ type: 'update', ...signed })
  }

  noteRound(round: number): void {
    this.#rounds.push({ round, atMs: this.#replica.services.clock.nowMs })
    if (this.#rounds.length > roundsNoted) this.#rounds.shift()
  }

  /** Its newest round at that moment; of long ago, about. */
  #roundAt(atMs: number): number {
    const [first] = this.#rounds
    if (first === undefined) return this.#replica.state.head.round
    return this.#rounds.findLast(noted => noted.atMs <= atMs)?.round ?? first.round - 1
  }

  #onUpdate(from: PeerCore, signed: SignedRecord): void {
    // [IGNORE] Its entry into the roster may not have reached us yet.
    if (!this.#replica.rosterPeers().has(from.name)) return
    this.#replica.seen(from.name)
    this.#replica.takeUpdate(signed)
  }
}
