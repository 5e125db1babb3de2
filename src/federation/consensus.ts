/**
 * Election and commit: one federation's certified log on one peer (docs/protocol.md, "The log").
 *
 * Raft's names (Ongaro 2014), reduced to one open entry at a time:
 * - The voters of index i are those in force after entry i−1. An entry is final by a certificate: signatures of a majority of them
 *   over (federation, index, term, entry).
 * - What a voter accepted at the open index, and in which term, is part of its vote: a candidate must have accepted at least as late.
 *   A new aggregator that holds an accepted entry proposes just that one again, under its own term (as in Paxos).
 * - A candidate's log is as good as a voter's if its commit index is higher, or equal with an accepted term at least as high.
 *   Index before term, unlike Raft §5.4.1: every index below is *proven* by its certificate, so a higher index cannot be an orphan,
 *   and an acceptance at an index that is settled elsewhere has no say any more.
 * - Neighbouring voter sets differ by one peer (membership.ts), so that their majorities share one.
 *
 * Is: pure. Signing, checking and storing are effects; each ends before the next begins.
 * Is not: a judge of entries. `check` asks; `checked` answers.
 */
import { assert, assertNever } from '../errors.ts'
import type { Link, PeerName } from '../ids.ts'
import {
  type Accepted,
  beatsPerLook,
  type Checked,
  type ConsensusEffect,
  type ConsensusEvent,
  type ConsensusMessage,
  type ConsensusState,
  isUpToDate,
  isVoter,
  type LogEntry,
  type LogPosition,
  majority,
  position,
  type Shared
} from './consensus-state.ts'
import type { Certificate } from './entry.ts'

type Step<Entry extends LogEntry> = [ConsensusState<Entry>, ConsensusEffect<Entry>[]]

/** @returns the next state and what to do, in order. Total: every role answers every event. */
export function stepConsensus<Entry extends LogEntry>(state: ConsensusState<Entry>, event: ConsensusEvent<Entry>): Step<Entry> {
  const turn = new Turn(state)
  switch (event.type) {
    case 'start':
      turn.restElection()
      if (isVoter(state) && state.voters.length === 1) turn.campaign()
      break
    case 'timer':
      if (event.name === 'election') turn.onElectionTimer()
      else turn.onHeartbeatTimer()
      break
    case 'message':
      turn.onMessage(event.from, event.message)
      break
    case 'propose':
      turn.propose(event.link, event.entry)
      break
    case 'checked':
      turn.onChecked(event)
      break
    case 'signed':
      turn.onSignature(state.self, event.index, event.term, event.link, event.signature)
      break
    case 'certified':
      turn.onCertified(event.link, event.entry, event.certificate)
      break
    case 'hand-over':
      turn.handOver()
      break
    default:
      assertNever(event)
  }
  return [turn.state, turn.effects]
}

/** One event: collects effects while the state moves on. Lives for a single step. */
class Turn<Entry extends LogEntry> {
  state: ConsensusState<Entry>
  readonly effects: ConsensusEffect<Entry>[] = []

  constructor(state: ConsensusState<Entry>) {
    this.state = state
  }

  // ── timers ──

  /** A follower waits between one and two election timeouts, the stronger the shorter; jitter breaks ties. */
  restElection(): void {
    if (!isVoter(this.state)) {
      this.effects.push({ do: 'stop-timer', name: 'election' })
      return
    }
    const { electionTimeoutMs } = this.state.timing
    this.effects.push({
      do: 'start-timer',
      name: 'election',
      ms: electionTimeoutMs * (1 + this.state.rank / 2),
      jitterMs: electionTimeoutMs / 2
    })
  }

  onElectionTimer(): void {
    if (!isVoter(this.state) || this.state.role === 'leader') return
    this.#setAggregator(null)
    this.state = { ...this.#shared(), role: 'pre-candidate', grants: new Set([this.state.self]) }
    this.restElection()
    if (majority(this.state.voters) === 1) this.campaign()
    else this.#toOthers({ type: 'pre-vote', term: this.state.term + 1, ...position(this.state) })
  }

  onHeartbeatTimer(): void {
    const { state } = this
    if (state.role !== 'leader') return
    if (state.beatsLeft <= 0) {
      // Raft dissertation §6.2: a leader without a majority in an election timeout steps down, so that its members are not left waiting.
      const alive = state.voters.filter(voter => voter === state.self || state.heard.has(voter))
      if (alive.length < majority(state.voters)) {
        this.#follow(state.term, null)
        return
      }
      this.state = { ...state, heard: new Set(), beatsLeft: beatsPerLook(state.timing) }
    } else this.state = { ...state, beatsLeft: state.beatsLeft - 1 }
    this.#beat()
  }

  #beat(): void {
    this.#toOthers({ type: 'heartbeat', term: this.state.term, commitIndex: this.state.commitIndex })
    this.effects.push({ do: 'start-timer', name: 'heartbeat', ms: this.state.timing.heartbeatMs, jitterMs: 0 })
    this.#repropose()
  }

  /** Messages get lost: the open entry goes again to whoever has not signed it. */
  #repropose(): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted === null || state.accepted.term !== state.term) return
    for (const voter of state.voters) {
      if (voter === state.self || state.signatures.has(voter)) continue
      this.effects.push({
        do: 'send',
        to: voter,
        message: { type: 'propose', term: state.term, link: state.accepted.link, entry: state.accepted.entry }
      })
    }
  }

  // ── election ──

  campaign(): void {
    const term = this.state.term + 1
    this.state = { ...this.#shared(), term, votedFor: this.state.self, role: 'candidate', grants: new Set([this.state.self]) }
    this.#persist()
    this.restElection()
    this.#toOthers({ type: 'vote', term, ...position(this.state) })
    this.#countVotes()
  }

  #countVotes(): void {
    const { state } = this
    if (state.role !== 'candidate' && state.role !== 'pre-candidate') return
    const granted = state.voters.filter(voter => state.grants.has(voter)).length
    if (granted < majority(state.voters)) return
    if (state.role === 'pre-candidate') this.campaign()
    else this.#lead()
  }

  #lead(): void {
    const beatsLeft = beatsPerLook(this.state.timing)
    this.state = { ...this.#shared(), role: 'leader', signatures: new Map(), heard: new Set(), positions: new Map(), beatsLeft }
    this.effects.push({ do: 'stop-timer', name: 'election' }, { do: 'became-aggregator', term: this.state.term })
    this.#setAggregator(this.state.self)
    const { accepted } = this.state
    if (accepted !== null) this.#accept({ ...accepted, term: this.state.term })
    this.#beat()
  }

  handOver(): void {
    const { state } = this
    if (state.role !== 'leader') return
    const others = state.voters.filter(voter => voter !== state.self)
    const best = others
      .filter(voter => state.heard.has(voter) || state.positions.has(voter))
      .sort((left, right) => (state.positions.get(right) ?? 0) - (state.positions.get(left) ?? 0))[0]
    if (best !== undefined) this.effects.push({ do: 'send', to: best, message: { type: 'timeout-now', term: state.term } })
    this.#follow(state.term, null)
  }

  // ── messages ──

  onMessage(from: PeerName, message: ConsensusMessage<Entry>): void {
    // The term is settled before the role (etcd raft's `Step`); a pre-vote speaks of a term that nobody has begun.
    if (message.type !== 'pre-vote' && message.type !== 'pre-vote-reply' && message.term > this.state.term) {
      if (!this.state.voters.includes(from) && message.type !== 'heartbeat' && message.type !== 'propose') return
      this.#follow(message.term, null)
    }
    switch (message.type) {
      case 'pre-vote':
      case 'vote':
        this.#onVoteRequest(from, message)
        break
      case 'pre-vote-reply':
      case 'vote-reply':
        this.#onVoteReply(from, message)
        break
      case 'heartbeat':
        this.#onHeartbeat(from, message)
        break
      case 'heartbeat-reply':
        this.#onHeartbeatReply(from, message)
        break
      case 'propose':
        this.#onPropose(from, message)
        break
      case 'accept':
        this.onSignature(from, message.index, message.term, message.link, message.signature)
        break
      case 'refuse':
        break
      case 'timeout-now':
        // Raft dissertation §3.10: the aggregator that hands over asks for it, so no pre-vote is needed.
        if (message.term === this.state.term && isVoter(this.state) && from === this.state.aggregator) this.campaign()
        break
      default:
        assertNever(message)
    }
  }

  #onVoteRequest(from: PeerName, request: { type: 'pre-vote' | 'vote'; term: number } & LogPosition): void {
    const { state } = this
    if (!isVoter(state)) return
    this.#catchUp(from, request.commitIndex)
    const known = state.voters.includes(from)
    const good = known && isUpToDate(request, position(state))
    if (request.type === 'pre-vote') {
      // §9.6: whoever still hears its aggregator grants nothing, so that a peer that was cut off does not disturb the others.
      const granted = good && request.term > state.term && state.aggregator === null
      this.#reply(from, 'pre-vote-reply', granted)
      return
    }
    const free =
      request.term === state.term && (state.votedFor === null || state.votedFor === from) && state.role === 'follower'
    const granted = good && free
    if (granted) {
      this.state = { ...state, votedFor: from }
      this.#persist() // I2: not spoken before it is stored
      this.restElection()
    }
    this.#reply(from, 'vote-reply', granted)
  }

  #reply(to: PeerName, type: 'pre-vote-reply' | 'vote-reply', granted: boolean): void {
    const { term, commitIndex } = this.state
    this.effects.push({ do: 'send', to, message: { type, term, granted, commitIndex } })
  }

  #onVoteReply(
    from: PeerName,
    reply: { type: 'pre-vote-reply' | 'vote-reply'; term: number; granted: boolean; commitIndex: number }
  ): void {
    const { state } = this
    this.#catchUp(from, reply.commitIndex)
    if (reply.type === 'pre-vote-reply' && reply.term > state.term) {
      this.#follow(reply.term, null)
      return
    }
    const asked =
      reply.type === 'vote-reply' ? state.role === 'candidate' && reply.term === state.term : state.role === 'pre-candidate'
    if (!asked || !reply.granted || (state.role !== 'candidate' && state.role !== 'pre-candidate')) return
    this.state = { ...state, grants: new Set(state.grants).add(from) }
    this.#countVotes()
  }

  #onHeartbeat(from: PeerName, { term, commitIndex }: { term: number; commitIndex: number }): void {
    if (term < this.state.term) {
      // It learns the term from the answer and steps down.
      this.effects.push({
        do: 'send',
        to: from,
        message: { type: 'heartbeat-reply', term: this.state.term, commitIndex: this.state.commitIndex }
      })
      return
    }
    this.#hear(from)
    this.effects.push({
      do: 'send',
      to: from,
      message: { type: 'heartbeat-reply', term: this.state.term, commitIndex: this.state.commitIndex }
    })
    this.#catchUp(from, commitIndex)
  }

  /** `from` leads in this term. */
  #hear(from: PeerName): void {
    if (this.state.role === 'leader') return
    if (this.state.role !== 'follower') this.#follow(this.state.term, from)
    this.#setAggregator(from)
    this.restElection()
  }

  #onHeartbeatReply(from: PeerName, { term, commitIndex }: { term: number; commitIndex: number }): void {
    const { state } = this
    if (state.role !== 'leader' || term !== state.term) return
    this.state = { ...state, heard: new Set(state.heard).add(from), positions: new Map(state.positions).set(from, commitIndex) }
    this.#catchUp(from, commitIndex)
  }

  #catchUp(from: PeerName, commitIndex: number): void {
    if (commitIndex > this.state.commitIndex) this.effects.push({ do: 'fetch', from, fromIndex: this.state.commitIndex + 1 })
  }

  // ── the open entry ──

  propose(link: Link, entry: Entry): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted !== null) return
    assert(entry.index === state.commitIndex + 1 && entry.prev === state.head, 'a proposal follows the head', {
      index: entry.index,
      commitIndex: state.commitIndex
    })
    this.#accept({ index: entry.index, term: state.term, link, entry })
    this.#repropose()
  }

  #onPropose(from: PeerName, { term, link, entry }: { term: number; link: Link; entry: Entry }): void {
    const { state } = this
    if (term < state.term) return
    this.#hear(from)
    if (entry.index > state.commitIndex + 1) this.#catchUp(from, entry.index - 1)
    if (!isVoter(state) || entry.index !== state.commitIndex + 1 || entry.prev !== state.head) return
    const { accepted } = this.state
    if (accepted !== null && accepted.term === term) {
      // Again: the first answer was lost. Another entry in the same term is an aggregator's lie, and gets none (I2).
      if (accepted.link === link) this.effects.push({ do: 'sign', to: from, index: accepted.index, term, link })
      return
    }
    // An entry that was checked and accepted in an earlier term needs no second check.
    if (accepted !== null && accepted.link === link) this.#acceptFrom(from, { index: entry.index, term, link, entry })
    else this.effects.push({ do: 'check', from, link, term, entry })
  }

  onChecked({ from, link, term, entry, ok }: Checked<Entry>): void {
    const { state } = this
    const open = term === state.term && entry.index === state.commitIndex + 1 && entry.prev === state.head
    if (!open || !isVoter(state) || (state.accepted !== null && state.accepted.term >= term)) return
    if (ok) this.#acceptFrom(from, { index: entry.index, term, link, entry })
    else this.effects.push({ do: 'send', to: from, message: { type: 'refuse', term, index: entry.index, link } })
  }

  #acceptFrom(to: PeerName, accepted: Accepted<Entry>): void {
    assert(accepted.term === this.state.term, 'I2: accepted in the term in force', {
      accepted: accepted.term,
      term: this.state.term
    })
    assert((this.state.accepted?.term ?? 0) < accepted.term, 'I2: one acceptance a term', { term: accepted.term })
    this.state = { ...this.state, accepted }
    this.#persist() // I2: not spoken before it is stored
    this.effects.push({ do: 'sign', to, index: accepted.index, term: accepted.term, link: accepted.link })
  }

  /** The leader's own acceptance of what it proposes, under its term. */
  #accept(accepted: Accepted<Entry>): void {
    assert(this.state.role === 'leader', 'only a leader proposes')
    this.state = { ...this.state, accepted, signatures: new Map() }
    this.#persist()
    this.effects.push({ do: 'sign', to: this.state.self, index: accepted.index, term: accepted.term, link: accepted.link })
  }

  onSignature(from: PeerName, index: number, term: number, link: Link, signature: Uint8Array): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted === null || term !== state.term) return
    if (index !== state.accepted.index || link !== state.accepted.link || !state.voters.includes(from)) return
    const signatures = new Map(state.signatures).set(from, signature)
    this.state = { ...state, signatures, heard: new Set(state.heard).add(from) }
    if (signatures.size < majority(state.voters)) return
    const sorted = [...signatures].sort(([left], [right]) => (left < right ? -1 : 1))
    const certificate: Certificate = {
      federation: state.federation,
      index,
      term,
      entry: link,
      signatures: sorted.map(([voter, bytes]) => ({ voter, signature: bytes }))
    }
    const { entry } = state.accepted
    this.onCertified(link, entry, certificate)
    this.effects.push({ do: 'publish', link, entry, certificate })
  }

  /** Moves the log on by one certified entry; a certificate of another index is late or early, and changes nothing. */
  onCertified(link: Link, entry: Entry, certificate: Certificate): void {
    const { state } = this
    if (certificate.index !== state.commitIndex + 1 || entry.index !== certificate.index) return
    assert(entry.prev === state.head, 'I1: the certified entry follows the certified head', { index: entry.index })
    const voters = entry.voters ?? state.voters
    this.state = { ...state, commitIndex: certificate.index, head: link, voters, accepted: null }
    this.effects.push({ do: 'commit', link, entry, certificate })
    this.#persist()
    if (this.state.role === 'leader') {
      this.state = { ...this.state, signatures: new Map() }
      if (!isVoter(this.state)) this.handOver()
      return
    }
    if (!isVoter(this.state)) this.#follow(this.state.term, this.state.aggregator)
    else if (!state.voters.includes(state.self)) this.restElection()
  }

  // ── small moves ──

  #follow(term: number, aggregator: PeerName | null): void {
    const { state } = this
    const wasLeader = state.role === 'leader'
    const votedFor = term === state.term ? state.votedFor : null
    this.state = { ...this.#shared(), term, votedFor, role: 'follower' }
    if (term !== state.term) this.#persist()
    if (wasLeader) this.effects.push({ do: 'stop-timer', name: 'heartbeat' }, { do: 'stepped-down' })
    this.#setAggregator(aggregator)
    this.restElection()
  }

  #setAggregator(peer: PeerName | null): void {
    if (this.state.aggregator === peer) return
    this.state = { ...this.state, aggregator: peer }
    this.effects.push({ do: 'aggregator-changed', peer, term: this.state.term })
  }

  #persist(): void {
    const { term, votedFor, accepted } = this.state
    this.effects.push({ do: 'persist', term, votedFor, accepted })
  }

  #toOthers(message: ConsensusMessage<Entry>): void {
    for (const voter of this.state.voters) if (voter !== this.state.self) this.effects.push({ do: 'send', to: voter, message })
  }

  /** The fields that every role has. */
  #shared(): Shared<Entry> {
    const { self, federation, term, votedFor, commitIndex, head, voters, accepted, aggregator, timing, rank } = this.state
    return { self, federation, term, votedFor, commitIndex, head, voters, accepted, aggregator, timing, rank }
  }
}
