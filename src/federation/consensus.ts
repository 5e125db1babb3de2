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
 * - Neighbouring voter sets differ by one peer (membership.ts), so that their majorities share one. For that to rule out two
 *   aggregators of one term, a peer's term is never below that of a certificate in its log, and a certificate that moves the log on
 *   ends a candidacy: its votes were given for another index, maybe by other voters (docs/protocol.md, "Two voter sets, one term").
 * - A peer that does not remember its votes has none until an entry enrolls it anew (`nonce`); one whose memory may be an old copy has
 *   none until the others have told it what it may have forgotten (recall.ts).
 *
 * Is: pure. Signing, checking and storing are effects; each ends before the next begins.
 * Is not: a judge of entries. `check` asks; `checked` answers.
 */
import { assert, assertNever } from '../errors.ts'
import type { PeerName } from '../ids.ts'
import { OpenEntry } from './consensus-log.ts'
import {
  beatsPerLook,
  type ConsensusEffect,
  type ConsensusEvent,
  type ConsensusMessage,
  type ConsensusState,
  isAlone,
  isUpToDate,
  type LogEntry,
  type LogPosition,
  looksRefusedMax,
  majority,
  mayVote,
  position,
  termStepMax
} from './consensus-state.ts'
import { isStuck } from './giving-up.ts'
import { acceptedTermKnown } from './recall.ts'

type Step<Entry extends LogEntry> = [ConsensusState<Entry>, ConsensusEffect<Entry>[]]

/** @returns the next state and what to do, in order. Total: every role answers every event. */
export function stepConsensus<Entry extends LogEntry>(state: ConsensusState<Entry>, event: ConsensusEvent<Entry>): Step<Entry> {
  const turn = new Turn(state)
  switch (event.type) {
    case 'start':
      turn.restElection()
      if (mayVote(state) && isAlone(state)) turn.campaign()
      turn.beginRecall()
      break
    case 'timer':
      if (event.name === 'election') turn.onElectionTimer()
      else if (event.name === 'heartbeat') turn.onHeartbeatTimer()
      else turn.onRecallTimer()
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
      turn.onSignature(state.self, { ...event, signedFor: state.accepted?.signedFor ?? null })
      break
    case 'certified':
      turn.onCertified(event.link, event.entry, event.certificate)
      break
    case 'hand-over':
      turn.handOver()
      break
    case 'lost':
      turn.onLost(event.peer)
      break
    case 'alive':
      turn.onAlive(event.peer)
      break
    case 'ranked':
      assert(event.rank >= 0 && event.rank <= 1, 'a rank lies between 0 and 1', { rank: event.rank })
      turn.state = { ...state, rank: event.rank }
      break
    case 'distrust':
      turn.onDistrust(event.peer)
      break
    case 'forgot':
      turn.onForgot(event.peer)
      break
    default:
      assertNever(event)
  }
  turn.settleDoubt(state)
  return [turn.state, turn.effects]
}

class Turn<Entry extends LogEntry> extends OpenEntry<Entry> {
  // ── timers ──

  onElectionTimer(): void {
    if (!mayVote(this.state) || this.state.role === 'leader') return
    if (this.state.aggregator !== null) {
      this.setAggregator(null)
      this.awaitTurn(0)
      return
    }
    if (this.isBehind()) {
      this.awaitTurn(this.state.timing.electionTimeoutMs * 0.4)
      return
    }
    this.state = { ...this.shared(), role: 'pre-candidate', grants: new Set([this.state.self]) }
    // Asked again soon: whoever refused now may find the aggregator silent a moment later.
    this.awaitTurn(this.state.timing.electionTimeoutMs * 0.4)
    if (isAlone(this.state)) this.campaign()
    else this.toOthers({ type: 'pre-vote', term: this.state.term + 1, ...position(this.state) })
  }

  /** No need to wait for the silence. If the aggregator lives, its next heartbeat comes over a new connection and settles it. */
  onLost(peer: PeerName): void {
    if (peer !== this.state.aggregator || this.state.role === 'leader') return
    this.setAggregator(null)
    if (mayVote(this.state)) this.awaitTurn(0)
  }

  /** As good as its next heartbeat, or its answer to one; it says nothing of who leads. */
  onAlive(peer: PeerName): void {
    const { state } = this
    if (state.role === 'leader') {
      if (state.voters.includes(peer) && !state.heard.has(peer))
        this.state = { ...state, heard: new Set(state.heard).add(peer) }
    } else if (peer === state.aggregator) this.restElection()
  }

  onDistrust(peer: PeerName): void {
    this.state = { ...this.state, distrusted: new Set(this.state.distrusted).add(peer) }
    this.disbelieve(peer)
    this.onLost(peer)
  }

  onForgot(peer: PeerName): void {
    const { forgetful, voters } = this.state
    if (voters.includes(peer) && !forgetful.has(peer)) this.state = { ...this.state, forgetful: new Set(forgetful).add(peer) }
  }

  onHeartbeatTimer(): void {
    const { state } = this
    if (state.role !== 'leader') return
    if (state.beatsLeft <= 0) {
      // Raft dissertation §6.2: a leader without a majority in an election timeout steps down, so that its members are not left waiting.
      const alive = state.voters.filter(voter => voter === state.self || state.heard.has(voter))
      if (alive.length < majority(state.voters)) {
        this.follow(state.term, null)
        return
      }
      const looksRefused = isStuck(state) ? state.looksRefused + 1 : 0
      if (looksRefused >= looksRefusedMax) {
        this.giveUp()
        return
      }
      this.state = { ...state, heard: new Set(), refused: new Set(), looksRefused, beatsLeft: beatsPerLook(state.timing) }
    } else this.state = { ...state, beatsLeft: state.beatsLeft - 1 }
    this.beat()
  }

  protected beat(): void {
    this.toOthers({ type: 'heartbeat', term: this.state.term, commitIndex: this.state.commitIndex })
    this.effects.push({ do: 'start-timer', name: 'heartbeat', ms: this.state.timing.heartbeatMs, jitterMs: 0 })
    this.repropose()
  }

  // ── election ──

  campaign(): void {
    const term = this.state.term + 1
    this.state = { ...this.shared(), term, votedFor: this.state.self, role: 'candidate', grants: new Set([this.state.self]) }
    this.persist()
    this.restElection()
    this.toOthers({ type: 'vote', term, ...position(this.state) })
    this.countVotes()
  }

  protected countVotes(): void {
    const { state } = this
    if (state.role !== 'candidate' && state.role !== 'pre-candidate') return
    const granted = state.voters.filter(voter => state.grants.has(voter)).length
    if (granted < majority(state.voters)) return
    if (state.role === 'pre-candidate') this.campaign()
    else this.lead()
  }

  protected lead(): void {
    const beatsLeft = beatsPerLook(this.state.timing)
    const open = { signatures: new Map(), refused: new Set<PeerName>(), looksRefused: 0 }
    const { old } = this.state
    // A majority has just said what it knows.
    const remembers = { recall: null, old: false }
    this.state = { ...this.shared(), ...remembers, role: 'leader', ...open, heard: new Set(), positions: new Map(), beatsLeft }
    if (old) this.persist()
    this.effects.push({ do: 'stop-timer', name: 'election' }, { do: 'became-aggregator', term: this.state.term })
    this.setAggregator(this.state.self)
    const { accepted } = this.state
    if (accepted !== null) this.accept({ ...accepted, term: this.state.term })
    this.beat()
  }

  // ── messages ──

  onMessage(from: PeerName, message: ConsensusMessage<Entry>): void {
    if (this.state.distrusted.has(from)) return
    this.noteHeard(from)
    if (message.type === 'recall') {
      this.onRecall(from)
      return
    }
    // Who tells may have become a voter by an entry that is not here yet.
    if (message.type === 'recalled') {
      this.onRecalled(from, message)
      return
    }
    if (!this.state.voters.includes(from)) {
      // A stranger, or a voter of entries that are not here yet: what it says of its term is not believed, what it has is fetched.
      if (message.type === 'heartbeat') this.catchUp(from, message.commitIndex)
      if (message.type === 'propose') this.catchUp(from, message.entry.index - 1)
      return
    }
    // The term is settled before the role (etcd raft's `Step`); a pre-vote speaks of a term that nobody has begun.
    if (message.type !== 'pre-vote' && message.term > this.state.term) {
      this.follow(Math.min(message.term, this.state.term + termStepMax), null)
      if (message.term > this.state.term) return
    }
    switch (message.type) {
      case 'pre-vote':
      case 'vote':
        this.onVoteRequest(from, message)
        break
      case 'pre-vote-reply':
      case 'vote-reply':
        this.onVoteReply(from, message)
        break
      case 'heartbeat':
        this.onHeartbeat(from, message)
        break
      case 'heartbeat-reply':
        this.onHeartbeatReply(from, message)
        break
      case 'propose':
        this.onPropose(from, message)
        break
      case 'accept':
        this.onSignature(from, message)
        break
      case 'refuse':
        this.onRefuse(from, message.index, message.term, message.link)
        break
      case 'timeout-now':
        // Raft dissertation §3.10: the aggregator that hands over asks for it, so no pre-vote is needed.
        if (message.term === this.state.term && mayVote(this.state) && from === this.state.aggregator && !this.isBehind())
          this.campaign()
        break
      default:
        assertNever(message)
    }
  }

  protected onVoteRequest(from: PeerName, request: { type: 'pre-vote' | 'vote'; term: number } & LogPosition): void {
    const { state } = this
    this.catchUp(from, request.commitIndex)
    if (!mayVote(state)) {
      // Who has left may be the only one to hold the certificate of its own going: it tells so, and the asker fetches it.
      if (request.commitIndex < state.commitIndex) this.reply(from, `${request.type}-reply`, false)
      return
    }
    const good = isUpToDate(request, { ...position(state), acceptedTerm: acceptedTermKnown(state) })
    if (request.type === 'pre-vote') {
      // §9.6: whoever still hears its aggregator grants nothing, so that a peer that was cut off does not disturb the others.
      const granted = good && request.term > state.term && state.aggregator === null
      this.reply(from, 'pre-vote-reply', granted)
      return
    }
    const free =
      request.term === state.term && (state.votedFor === null || state.votedFor === from) && state.role === 'follower'
    const granted = good && free
    if (granted) {
      this.state = { ...state, votedFor: from }
      this.persist() // I2: not spoken before it is stored
      this.restElection()
    }
    this.reply(from, 'vote-reply', granted)
  }

  protected reply(to: PeerName, type: 'pre-vote-reply' | 'vote-reply', granted: boolean): void {
    const { term, commitIndex } = this.state
    this.effects.push({ do: 'send', to, message: { type, term, granted, commitIndex } })
  }

  protected onVoteReply(
    from: PeerName,
    reply: { type: 'pre-vote-reply' | 'vote-reply'; term: number; granted: boolean; commitIndex: number }
  ): void {
    const { state } = this
    this.catchUp(from, reply.commitIndex)
    const asked =
      reply.type === 'vote-reply' ? state.role === 'candidate' && reply.term === state.term : state.role === 'pre-candidate'
    if (!asked || !reply.granted || (state.role !== 'candidate' && state.role !== 'pre-candidate')) return
    this.state = { ...state, grants: new Set(state.grants).add(from) }
    this.countVotes()
  }

  protected onHeartbeat(from: PeerName, { term, commitIndex }: { term: number; commitIndex: number }): void {
    if (term < this.state.term) {
      // It learns the term from the answer and steps down.
      this.effects.push({
        do: 'send',
        to: from,
        message: { type: 'heartbeat-reply', term: this.state.term, commitIndex: this.state.commitIndex }
      })
      return
    }
    this.hear(from)
    this.effects.push({
      do: 'send',
      to: from,
      message: { type: 'heartbeat-reply', term: this.state.term, commitIndex: this.state.commitIndex }
    })
    this.catchUp(from, commitIndex)
  }

  protected onHeartbeatReply(from: PeerName, { term, commitIndex }: { term: number; commitIndex: number }): void {
    const { state } = this
    if (state.role !== 'leader' || term !== state.term) return
    // Heard since the last look already, from where it was: nothing is new.
    if (!state.heard.has(from) || state.positions.get(from) !== commitIndex)
      this.state = {
        ...state,
        heard: new Set(state.heard).add(from),
        positions: new Map(state.positions).set(from, commitIndex)
      }
    this.catchUp(from, commitIndex)
  }
}
