/**
 * Whom a peer asks for a place in a federation's roster, for a vote, or to be let go: its aggregator, as long as that comes to something.
 * One that does not answer may have left for good, and whoever has no vote finds nobody else by an election; and every member may say in
 * its presence that it leads, in whatever term. The daemon and the simulator ask alike. Is: pure.
 */
import type { PeerName } from '../ids.ts'
import type { FederationState } from './federation-state.ts'

/** Questions to one peer that came to nothing: past them it may only say that it leads, and each second goes to another. */
const vainMax = 5
/** Peers whose questions are counted: whoever makes peers up fills no memory. */
const countedMax = 1_000

/** One question. */
export interface Asked {
  peer: PeerName
  /** As it was known then. */
  aggregator: PeerName | null
  nth: number
}

export class PlaceAsking {
  /** Whom it asked last, where no answer came. */
  #silent: PeerName | null = null
  /** How often each was asked since there was nothing to ask for. */
  readonly #vain = new Map<PeerName, number>()
  /** Who leads, as one says that was asked in the place of a peer that was asked in vain. */
  #named: PeerName | null = null
  #questions = 0
  /** The newest question that was answered. */
  #answered = 0

  /**
   * @param aggregator - as far as it is known. @param peers - all that listen to the topic. @param draw - of so many.
   * @returns null: nobody is there.
   */
  whom(
    { self }: Pick<FederationState, 'self'>,
    aggregator: PeerName | null,
    peers: () => readonly PeerName[],
    draw: (count: number) => number
  ): PeerName | null {
    if (this.#named !== null && this.#named !== self) return this.#named
    const isVain = this.#isVain(aggregator)
    const isKnown = aggregator !== null && aggregator !== self && aggregator !== this.#silent
    if (isKnown && !isVain) return aggregator
    const all = peers()
    const others = isVain && all.length > 1 ? all.filter(one => one !== aggregator) : all
    return others[draw(others.length || 1)] ?? null
  }

  /** `peer` is asked, whoever chose it. */
  asked(peer: PeerName, aggregator: PeerName | null): Asked {
    if (this.#vain.size >= countedMax) this.#vain.clear()
    this.#vain.set(peer, (this.#vain.get(peer) ?? 0) + 1)
    return { peer, aggregator, nth: ++this.#questions }
  }

  /**
   * @param names - who leads, as the peer answers; undefined: it did not answer, which says nothing where a later question was answered.
   * @returns who leads from now on, as far as was heard; undefined: whoever did.
   */
  answered({ peer, aggregator, nth }: Asked, names: PeerName | null | undefined): PeerName | null | undefined {
    if (names !== undefined) this.#answered = Math.max(this.#answered, nth)
    else if (nth < this.#answered) return undefined
    this.#silent = names === undefined ? peer : null
    const other = names === undefined || names === peer ? null : names
    this.#named = this.#isVain(aggregator) ? other : null
    if (names === undefined) return null
    return other ?? undefined
  }

  /** There is nothing to ask for. */
  rest(): void {
    this.#vain.clear()
  }

  #isVain(peer: PeerName | null): boolean {
    return peer !== null && (this.#vain.get(peer) ?? 0) >= vainMax
  }
}
