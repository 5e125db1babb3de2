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
    this.#contributors ??= contributors(this.#state.roster)
    return this.#contributors
  }

  isPresent({ peers }: Member): boolean {
    const { self, present } = this.#state
    return peers.some(peer => peer === self || present.has(peer))
  }

  isAwaited(member: Member): boolean {
    return this.isPresent(member) && isAwaited(this.#state.late.get(member.member) ?? 0)
  }

  evicted(member: MemberId): boolean {
    return this.#state.roster.evicted.has(member)
  }
}
