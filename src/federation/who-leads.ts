/**
 * Who leads a federation, as those tell that vote in it: whoever has no vote hears no heartbeats, and every member may say in its presence that
 * it leads, in whatever term. What most of the voters tell counts, as each told it last; of as many, what is known already, or the later term. That nobody leads is no news. Is: pure.
 */
import type { PeerName } from '../ids.ts'

export interface Leads {
  aggregator: PeerName | null
  term: number
}

export class WhoLeads {
  /** Of voters. */
  readonly #told = new Map<PeerName, Leads>()

  /** @param known - as far as was known before. @returns who leads, now that `from` has told it. */
  hear(from: PeerName, told: Leads, voters: readonly PeerName[], known: Leads): Leads {
    for (const peer of this.#told.keys()) if (!voters.includes(peer)) this.#told.delete(peer)
    if (voters.includes(from)) this.#told.set(from, told)
    const most = this.#most(known)
    if (most !== null) return most.aggregator === null ? known : most
    // By a log that ends long ago nobody votes who is there.
    return told.aggregator !== null && told.term >= known.term ? told : known
  }

  /** Nobody follows it any more, or will tell so soon. */
  lost(peer: PeerName): void {
    for (const [voter, { aggregator }] of this.#told) if (voter === peer || aggregator === peer) this.#told.delete(voter)
  }

  #most(known: Leads): Leads | null {
    const counts = new Map<string, { leads: Leads; count: number }>()
    for (const leads of this.#told.values()) {
      const key = leads.aggregator === null ? '' : `${leads.aggregator} ${leads.term}`
      counts.set(key, { leads, count: (counts.get(key)?.count ?? 0) + 1 })
    }
    const rank = ({ aggregator, term }: Leads) => {
      if (aggregator === known.aggregator && term === known.term) return Number.POSITIVE_INFINITY
      return aggregator === null ? -1 : term
    }
    const [most] = [...counts.values()].sort((one, other) => other.count - one.count || rank(other.leads) - rank(one.leads))
    return most?.leads ?? null
  }
}
