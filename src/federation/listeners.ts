/** Whether what a peer has said in its federation has new listeners, and is to be said again at once (repeat.ts). */
import type { PeerName } from '../ids.ts'
import type { FederationEvent } from './federation.ts'
import type { FederationState } from './federation-state.ts'

interface Speaker {
  state: FederationState
  handIn: { anew(): void }
  dispatch(event: FederationEvent): void
}

/** To whom a peer says what it has: who leads its federation, and who stands for it above. */
export class Listeners {
  #aggregator: PeerName | null = null
  #term = 0
  #delegates = ''
  /** Made anew with each entry that changes members. */
  #roster: FederationState['roster'] | null = null

  /** @param heard - who leads, from presences: who does not vote hears of it by them alone. @returns whether there are others since it was asked last. */
  areNew({ consensus, roster }: FederationState, heard: { aggregator: PeerName | null; term: number }): boolean {
    const { aggregator, term } = consensus.aggregator === null ? heard : consensus
    if (aggregator === this.#aggregator && term === this.#term && roster === this.#roster) return false
    const delegates = roster.delegates.join()
    const areNew = aggregator !== this.#aggregator || term !== this.#term || delegates !== this.#delegates
    this.#roster = roster
    this.#aggregator = aggregator
    this.#term = term
    this.#delegates = delegates
    return areNew && aggregator !== null
  }
}

/** What a peer has said in its federation, and nobody has settled, it says again at once: `Listeners` are new. */
export function sayAnew(speaker: Speaker): void {
  if (speaker.state.participation.phase === 'announced')
    speaker.dispatch({ type: 'participation', event: { type: 'led-anew' } })
  speaker.handIn.anew()
}
