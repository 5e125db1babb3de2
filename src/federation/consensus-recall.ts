/** The moves of a peer that asks whether its memory of its votes is the newest (recall.ts), and of those that it asks. */
import type { PeerName } from '../ids.ts'
import { ConsensusMoves } from './consensus-moves.ts'
import { type ConsensusState, inDoubt, isAlone, isVoter, type LogEntry, position, termStepMax } from './consensus-state.ts'
import { acceptedTermKnown, askedFor, newRecall, type Recalled, type SignedPlace, termTold, unanswered } from './recall.ts'

export class Recalling<Entry extends LogEntry> extends ConsensusMoves<Entry> {
  beginRecall(): void {
    if (inDoubt(this.state)) this.#ask(unanswered(this.state))
    this.#nextBeat()
  }

  onRecall(from: PeerName): void {
    const { term, accepted, voters } = this.state
    const told = { term, ...position(this.state), accepted: accepted?.link ?? null, voters: accepted?.entry.voters ?? voters }
    const signedFor = accepted === null ? {} : { signedFor: accepted.signedFor ?? null }
    this.effects.push({ do: 'send', to: from, message: { type: 'recalled', ...told, ...signedFor } })
  }

  /** Anything of another voter. */
  protected noteHeard(from: PeerName): void {
    const { recall, voters } = this.state
    if (recall === null || recall.heard || !voters.includes(from)) return
    this.state = { ...this.state, recall: { ...recall, heard: true } }
  }

  /** Its term is taken over with all the others: until then this peer may be the only one that it is news to. */
  onRecalled(from: PeerName, { term, commitIndex, acceptedTerm, accepted, voters, signedFor }: Recalled): void {
    const { recall } = this.state
    if (recall === null || !askedFor(this.state).has(from)) return
    const answers = new Map(recall.answers).set(from, { term, commitIndex, acceptedTerm, accepted, voters, signedFor })
    this.state = { ...this.state, recall: { ...recall, answers } }
    this.catchUp(from, commitIndex)
  }

  protected disbelieve(peer: PeerName): void {
    const { recall } = this.state
    if (recall === null || !recall.answers.has(peer)) return
    const answers = new Map(recall.answers)
    answers.delete(peer)
    this.state = { ...this.state, recall: { ...recall, answers } }
  }

  onRecallTimer(): void {
    const { recall, old } = this.state
    if (recall === null || !isVoter(this.state)) return
    const beatsLeft = Math.max(0, recall.beatsLeft - (recall.heard || isAlone(this.state) ? 1 : 0))
    // A proven old memory waits for all, and until what somebody had accepted when it asked is settled.
    const isOver = beatsLeft === 0 && !(old && (unanswered(this.state).length > 0 || this.isBehind()))
    this.state = { ...this.state, recall: isOver ? null : { ...recall, beatsLeft }, old: old && !isOver }
    if (isOver && old) this.persist()
    if (isOver) return
    // What was told a while ago may be forgotten by now, and would be waited for in vain.
    this.#ask(old ? [...askedFor(this.state)] : unanswered(this.state))
    this.#nextBeat()
  }

  /** Whether somebody is known to have accepted what this peer has not: it must not be elected. */
  protected isBehind(): boolean {
    return acceptedTermKnown(this.state) > (this.state.accepted?.term ?? 0)
  }

  /** It meets a signature of its own that it does not remember. */
  protected proveOld(signed: SignedPlace): void {
    const { old, recall, timing } = this.state
    this.state = { ...this.state, signed, old: true, recall: recall ?? newRecall(timing) }
    if (old) return
    this.persist()
    this.effects.push({ do: 'memory-old', index: signed.index })
  }

  /** After each event: voters may have changed, or all have answered. @param before - the state that met the event. */
  settleDoubt(before: ConsensusState<Entry>): void {
    const recall = this.state.recall ?? before.recall
    if (recall === null || before === this.state) return
    const [was, is] = [inDoubt(before), inDoubt(this.state)]
    if (was && !is) this.#trust(recall)
    // Made a voter when all had answered already: its beats begin now, and what somebody had accepted does not hold it back for good.
    if (!is && isVoter(this.state) && !isVoter(before)) this.#nextBeat()
    if (!is) return
    const asked = was ? askedFor(before) : new Set<PeerName>()
    this.#ask(unanswered(this.state).filter(peer => !asked.has(peer)))
    if (was) return
    this.follow(this.state.term, this.state.role === 'leader' ? null : this.state.aggregator)
    this.#nextBeat()
  }

  /** What it may have forgotten of its votes: the one in the highest term that any of the others knows. */
  #trust(recall: NonNullable<ConsensusState<Entry>['recall']>): void {
    const { term, votedFor, self } = this.state
    const told = Math.min(termTold(this.state, recall), term + termStepMax)
    if (told > term || votedFor === null) {
      this.state = { ...this.state, term: Math.max(term, told), votedFor: self }
      this.persist()
    }
    if (told > term) this.setAggregator(null)
    // Who was not in doubt stands first: it has been here, and heard what was announced meanwhile.
    if (isAlone(this.state)) this.awaitTurn(0)
    else this.restElection()
  }

  #ask(peers: readonly PeerName[]): void {
    for (const to of peers) this.effects.push({ do: 'send', to, message: { type: 'recall' } })
  }

  #nextBeat(): void {
    if (this.state.recall === null || !isVoter(this.state)) return
    this.effects.push({ do: 'start-timer', name: 'recall', ms: this.state.timing.heartbeatMs, jitterMs: 0 })
  }
}
