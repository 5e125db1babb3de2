/** What a turn of consensus is made of: the moves that elections (consensus.ts) and the open entry (consensus-log.ts) share. */
import type { PeerName } from '../ids.ts'
import {
  type ConsensusEffect,
  type ConsensusMessage,
  type ConsensusState,
  type LogEntry,
  majority,
  mayVote,
  type Shared
} from './consensus-state.ts'

/** One event: collects effects while the state moves on. Lives for a single step. */
export class ConsensusMoves<Entry extends LogEntry> {
  state: ConsensusState<Entry>
  readonly effects: ConsensusEffect<Entry>[] = []

  constructor(state: ConsensusState<Entry>) {
    this.state = state
  }

  /**
   * First the aggregator must be silent for an election timeout and a quarter (as all find that out at one moment, there is no spread
   * that forgives a late heartbeat; killed ones are noticed by their connections anyway); from then on this peer grants pre-votes. Then each peer waits for
   * its turn: the strongest stands first, and finds the others ready to grant. One timer with a random length for both (Raft §9.3)
   * would let the first to stand fail at those that still wait.
   */
  restElection(): void {
    if (!mayVote(this.state)) {
      this.effects.push({ do: 'stop-timer', name: 'election' })
      return
    }
    const { timing, aggregator } = this.state
    const silenceMs = timing.electionTimeoutMs * 1.25
    if (aggregator === null) this.awaitTurn(timing.electionTimeoutMs)
    else this.effects.push({ do: 'start-timer', name: 'election', ms: silenceMs, jitterMs: 0 })
  }

  /** Turns lie within half an election timeout; the jitter parts peers that hold themselves equally strong. */
  protected awaitTurn(ms: number): void {
    const { timing, rank } = this.state
    const turnMs = (timing.electionTimeoutMs / 2) * rank
    this.effects.push({ do: 'start-timer', name: 'election', ms: ms + turnMs, jitterMs: timing.electionTimeoutMs / 8 })
  }

  /** `from` leads in this term. */
  protected hear(from: PeerName): void {
    if (this.state.role === 'leader') return
    if (this.state.role !== 'follower') this.follow(this.state.term, from)
    this.setAggregator(from)
    this.restElection()
  }

  handOver(): void {
    const { state } = this
    if (state.role !== 'leader') return
    // From oneself on, round: what two voters cannot get certified must not go to and fro between them.
    const place = state.voters.indexOf(state.self)
    const others = [...state.voters.slice(place + 1), ...state.voters.slice(0, Math.max(0, place))]
    // Whoever refused the open entry does not hold it: a majority of those elects one of them, with this peer's vote too where it has given
    // the entry up; fewer do not win against those that hold it.
    const outvoted = state.refused.size + (state.accepted === null ? 1 : 0) >= majority(state.voters)
    const refused = (voter: PeerName) => Number(state.refused.has(voter) !== outvoted)
    const best = others
      .filter(voter => (state.heard.has(voter) || state.positions.has(voter)) && !state.forgetful.has(voter))
      .sort(
        (left, right) => refused(left) - refused(right) || (state.positions.get(right) ?? 0) - (state.positions.get(left) ?? 0)
      )[0]
    if (best !== undefined) this.effects.push({ do: 'send', to: best, message: { type: 'timeout-now', term: state.term } })
    this.follow(state.term, null)
  }

  protected catchUp(from: PeerName, commitIndex: number): void {
    if (commitIndex > this.state.commitIndex) this.effects.push({ do: 'fetch', from, fromIndex: this.state.commitIndex + 1 })
  }

  protected follow(term: number, aggregator: PeerName | null): void {
    const { state } = this
    const wasLeader = state.role === 'leader'
    const votedFor = term === state.term ? state.votedFor : null
    this.state = { ...this.shared(), term, votedFor, role: 'follower' }
    if (term !== state.term) this.persist()
    if (wasLeader) this.effects.push({ do: 'stop-timer', name: 'heartbeat' }, { do: 'stepped-down' })
    this.setAggregator(aggregator)
    this.restElection()
  }

  protected setAggregator(peer: PeerName | null): void {
    if (this.state.aggregator === peer) return
    this.state = { ...this.state, aggregator: peer }
    this.effects.push({ do: 'aggregator-changed', peer, term: this.state.term })
  }

  protected persist(): void {
    const { term, votedFor, accepted, givenUp, nonce, signed, old } = this.state
    this.effects.push({ do: 'persist', term, votedFor, accepted, givenUp, nonce, signed, old })
  }

  protected toOthers(message: ConsensusMessage<Entry>): void {
    for (const voter of this.state.voters) if (voter !== this.state.self) this.effects.push({ do: 'send', to: voter, message })
  }

  /** The fields that every role has. */
  protected shared(): Shared<Entry> {
    const { self, federation, term, votedFor, commitIndex, head, voters, accepted, aggregator, timing, rank } = this.state
    const { nonce, recall, signed, old, distrusted, givenUp, forgetful } = this.state
    return {
      self,
      federation,
      term,
      votedFor,
      commitIndex,
      head,
      voters,
      accepted,
      givenUp,
      forgetful,
      aggregator,
      timing,
      rank,
      nonce,
      recall,
      signed,
      old,
      distrusted
    }
  }
}
