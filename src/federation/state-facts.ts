/** What a round's decisions depend on (round.ts), as its federation's state says when it is asked. Is: pure. */
import type { MemberId } from '../ids.ts'
import type { Member } from './entry.ts'
import type { FederationState } from './federation-state.ts'
import { isAwaited } from './lateness.ts'
import { contributors } from './membership.ts'
import type { RoundFacts } from './round.ts'

export class StateFacts implements RoundFacts {
  readonly #state: FederationState
  #contributors: RoundFacts['contributors'] | null = null

  constructor(state: FederationState) {
    this.#state = state
  }

  get id() {
    return this.#state.id
  }
  get charter() {
    return this.#state.charter
  }
  get self() {
    return this.#state.self
  }
  get term() {
    return this.#state.consensus.term
  }
  get parentHead() {
    return this.#state.parentHead
  }
  get startTimedOut() {
    return this.#state.startTimedOut
  }

  /** An update that is taken asks for none of them. */
  get contributors() {
    const { roster, self, present, late } = this.#state
    const isPresent = (member: Member) => member.peers.some(peer => peer === self || present.has(peer))
    this.#contributors ??= contributors(roster).map(member => ({
      member,
      present: isPresent(member),
      awaited: isPresent(member) && isAwaited(late.get(member.member) ?? 0)
    }))
    return this.#contributors
  }

  evicted(member: MemberId): boolean {
    return this.#state.roster.evicted.has(member)
  }
}
