/** What other peers say of one federation: consensus, and its gossip topic. Everything is checked here before it becomes an event. */
import { checkUpdate } from '../federation/checks.ts'
import type { Evidence } from '../federation/evidence.ts'
import { rosterPeers } from '../federation/membership.ts'
import type { Link, PeerName } from '../ids.ts'
import type { Verdict } from '../net/gossip.ts'
import { readUpdate } from '../wire/certified-log.ts'
import { isMalformed } from '../wire/codec.ts'
import { type ConsensusEnvelope, type Signed, signedCodec, topicCodec, type TopicMessage } from '../wire/messages.ts'
import type { FederationCore } from './federation-core.ts'
import type { LogSync } from './log-sync.ts'
import type { Presence } from './presence.ts'

interface Parts {
  sync: LogSync
  presence: Presence
  evidence: Evidence
  onContribution: (from: PeerName, signed: Signed) => void
}

export class Incoming {
  readonly #node: FederationCore
  readonly #parts: Parts
  /** What the validator has read, for the moment until the topic delivers the same bytes. */
  readonly #read = new WeakMap<Uint8Array, TopicMessage>()

  /** Who has given a receipt of which update, and which way: one record each. */
  #receipts: { update: Link | null; given: Set<string> } = { update: null, given: new Set() }

  constructor(node: FederationCore, parts: Parts) {
    this.#node = node
    this.#parts = parts
  }

  onConsensus(from: PeerName, { message }: ConsensusEnvelope): void {
    this.#node.seen(from)
    if (message.type === 'accept' || message.type === 'propose') {
      const { term, link, signature } = message
      const index = message.type === 'accept' ? message.index : message.entry.index
      // [REJECT] A wrong signature in a certificate would make a log that nobody else believes.
      if (!this.#parts.evidence.see(from, { index, term, link, signature })) {
        this.#fault(from, 'BAD_ACCEPTANCE', `its signature for index ${index}, term ${term} is wrong`)
        return
      }
    }
    // [REJECT] Under another's name it would be signed, and stored, as that one.
    if (message.type === 'propose' && this.#node.environment.linkOf(message.entry) !== message.link) {
      this.#fault(from, 'BAD_ACCEPTANCE', `it proposes as ${message.link} what has another link`)
      return
    }
    this.#node.dispatch({ type: 'consensus', event: { type: 'message', from, message } })
  }

  /** Before the topic passes it on. */
  validate(from: PeerName, bytes: Uint8Array): Verdict {
    const message = topicCodec.decode(bytes)
    if (isMalformed(message)) {
      this.#fault(from, 'MALFORMED', message.detail)
      return 'reject'
    }
    // [IGNORE] Its entry into the roster may not have reached us yet.
    if (!this.#speakers().has(from)) return 'ignore'
    this.#read.set(bytes, message)
    return 'accept'
  }

  onTopic(from: PeerName, bytes: Uint8Array): void {
    const message = this.#read.get(bytes) ?? topicCodec.decode(bytes)
    if (isMalformed(message)) return
    const node = this.#node
    node.seen(from)
    switch (message.kind) {
      case 'presence':
        this.#onPresence(from, message)
        return
      case 'update':
        this.takeUpdate(from, message)
        return
      case 'contribution':
        this.#parts.onContribution(from, message.signed)
        return
      case 'head':
        this.#parts.sync.onHead(from, message)
        return
      case 'accepts':
        this.#parts.evidence.seeAll(message.accepts)
        return
      case 'evidence':
        this.#parts.evidence.onEvidence(from, message.evicted)
        return
      case 'sketch':
        node.residuals.take(from, message.shown)
    }
  }

  #onPresence(from: PeerName, message: Extract<TopicMessage, { kind: 'presence' }>): void {
    const node = this.#node
    void node.options.services.host.learn(from, message.addresses)
    this.#parts.presence.strengthOf(from, message.strength)
    const remembers = !message.starting
    if (node.state.remembering.has(from) !== remembers)
      node.dispatch({ type: 'presence', peer: from, present: true, remembers })
    this.#parts.presence.leads(from, { aggregator: message.aggregator, term: message.term })
    if (message.index > node.state.consensus.commitIndex) void this.#parts.sync.catchUp(from)
  }

  takeUpdate(from: PeerName, { signed }: Extract<TopicMessage, { kind: 'update' }>): void {
    const bytes = signedCodec.encode(signed)
    const read = readUpdate(bytes)
    if (read === null || read.update.federation !== this.#node.id) {
      this.#fault(from, 'BAD_UPDATE', 'its update is damaged or wrongly signed')
      return
    }
    // [REJECT] What no round may count has no place among those that one does; who is not in the roster yet says its own again.
    const fault = checkUpdate(this.#node.state, read.update, this.#node.environment)
    if (fault?.verdict !== 'reject' && fault?.code !== 'NOT_A_MEMBER') this.#node.keepUpdate(read.link, bytes)
    this.#parts.evidence.seeUpdate(read.link, read.update)
    this.#node.dispatch({ type: 'update', link: read.link, update: read.update })
  }

  onReceipt(from: PeerName, update: Link, verdict: string): void {
    // [IGNORE] Whoever is in no roster has led nothing: believed, it would have a voter refuse what leaves its update out.
    if (this.#speakers().has(from)) this.takeReceipt(from, update, verdict)
  }

  /** Each record is waited for until it is on disk, and stays there: the same word of the same aggregator is noted once. */
  takeReceipt(aggregator: PeerName, update: Link, verdict: string): void {
    const { state, id, options } = this.#node
    const { participation } = state
    if (participation.phase !== 'announced' || participation.link !== update) return
    if (this.#receipts.update !== update) this.#receipts = { update, given: new Set() }
    const accepted = verdict === 'accepted'
    const key = `${aggregator} ${accepted}`
    if (!this.#receipts.given.has(key)) {
      this.#receipts.given.add(key)
      const { round, member } = participation.update
      options.services.records.append({ record: 'receipt', federation: id, round, member, update, aggregator, verdict })
    }
    this.#node.dispatch({ type: 'participation', event: { type: 'receipt', link: update, accepted } })
  }

  #speakers(): Set<PeerName> {
    return rosterPeers(this.#node.state.roster, this.#node.options.charter)
  }

  #fault(peer: PeerName, code: string, detail: string): void {
    this.#node.options.services.events.emit({ type: 'fault', federation: this.#node.path, peer, code, detail })
  }
}
