/**
 * The end of a leave: who was a voter may be the only one to hold the certificate that lets it go, and those that stay, who count it as a
 * voter until they have that, could wait for its vote for ever. So it stays until they show that they have it; each is asked how far its
 * log goes. The daemon and the simulator keep it alike. Is: bookkeeping alone; who asks stands in their joining.ts.
 */
import type { PeerName } from '../ids.ts'
import { majority } from './consensus-state.ts'
import type { FederationState } from './federation-state.ts'

/** Between two questions to one that has not shown it yet. */
export const seenPollMs = 1_000

export class LettingGo {
  /** Newest index here when this peer was out. */
  #index: number | null = null
  readonly #have = new Set<PeerName>()
  /** They answer, and do not have it yet. */
  readonly #lacking = new Set<PeerName>()

  /** Voters that have not shown yet that they have the entry. @param state - of a peer that is out. */
  toAsk({ roster, consensus, self }: FederationState): PeerName[] {
    this.#index ??= consensus.commitIndex
    // Nobody stays whom it could hold up, or it never had a vote that counted: others have signed that it may go.
    if (roster.members.size === 0 || consensus.nonce !== null) return []
    return roster.voters.filter(peer => peer !== self && !this.#have.has(peer))
  }

  /** @param headIndex - how far the log of `peer` goes, by its own word; null: no answer. */
  answered(peer: PeerName, headIndex: number | null): void {
    const has = headIndex !== null && this.#index !== null && headIndex >= this.#index
    if (has) this.#have.add(peer)
    if (has || headIndex === null) this.#lacking.delete(peer)
    else this.#lacking.add(peer)
  }

  /**
   * Whom it waits for: until a majority of the voters has the entry, for all the others; then for those that answer and lack it. The others
   * have a majority that can tell them.
   */
  waitsFor(state: FederationState): PeerName[] {
    const missing = this.toAsk(state)
    const { voters } = state.roster
    // An entry after it, too, is signed by a majority that has it.
    const told = state.consensus.commitIndex > this.#index! || voters.length - missing.length >= majority(voters)
    return told ? missing.filter(peer => this.#lacking.has(peer)) : missing
  }
}
