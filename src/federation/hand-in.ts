/**
 * Contributions between levels (docs/protocol.md, "The log"): a federation's aggregator tells its own topic of its contribution, and every
 * delegate hands it in above under its own name. Said again until it is settled: gossip may lose it, and a delegate may be new.
 *
 * Is: what the daemon and the simulator do alike; signing and saying are the host's.
 * Is not: a check of signatures; who hands a contribution over has checked it.
 */
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import type { Update } from './entry.ts'
import type { FederationState } from './federation-state.ts'
import { longer, repeatMs } from './repeat.ts'

/** Peers named as holders of a handed-in contribution, at most. */
const holdersMax = 9

/** An update with what its host needs to say it. */
export interface SignedUpdate<Signed> {
  link: Link
  update: Update
  signed: Signed
}

/** A contribution of the host's federation to its parent; one of a child, handed in as its delegate. */
export type Waiting = 'contribution' | 'handed-in'

export interface HandInHost<Signed> {
  readonly state: FederationState
  /** The same of a federation above that this peer follows. */
  above(parent: FederationId): HandIn<Signed> | null
  /** Signs as this peer and keeps it: others may ask for it. */
  sign(update: Update): SignedUpdate<Signed>
  say(kind: 'contribution' | 'update', signed: Signed): void
  /** Calls `again` so late, and not when it was to before. */
  wait(what: Waiting, ms: number): void
  /** The machine's event `update`. */
  take(signed: SignedUpdate<Signed>): void
}

export class HandIn<Signed> {
  readonly #host: HandInHost<Signed>
  /** What this node, as a delegate, hands in here for its child federation, until the round is certified. */
  #outgoing: { contribution: Update; mine: SignedUpdate<Signed>; pauseMs: number } | null = null
  /** What this node, as the aggregator, contributes to the parent, until the parent certifies the round. */
  #contribution: { made: SignedUpdate<Signed>; pauseMs: number } | null = null

  constructor(host: HandInHost<Signed>) {
    this.#host = host
  }

  /** As its aggregator: effect `contribute`. */
  contribute(update: Update): void {
    const made = this.#host.sign(update)
    this.#contribution = { made, pauseMs: repeatMs }
    this.#host.say('contribution', made.signed)
    this.#host.wait('contribution', repeatMs)
    this.onContribution(this.#host.state.self, update)
  }

  /** Told by the aggregator; a delegate hands it in above. @param update - its signature is good. */
  onContribution(from: PeerName, update: Update): void {
    const { charter, id } = this.#host.state
    if (update.by !== from || charter.parent === null || !this.#mayContribute(update)) return
    this.#host.above(charter.parent)?.handInFor(id, update)
  }

  /**
   * Above, the contribution of the highest term is the federation's, and a member could put its own there. A delegate that votes knows who leads;
   * one that does not knows who might. Who is refused for an election's sake says it again.
   */
  #mayContribute({ by, term }: Update): boolean {
    const { self, consensus } = this.#host.state
    if (by === self) return true
    if (!consensus.voters.includes(self)) return consensus.voters.includes(by)
    return consensus.aggregator === by && term <= consensus.term
  }

  /** For the child federation `member`, if this peer is its delegate here. */
  handInFor(member: MemberId, update: Update): void {
    const { roster, head, self } = this.#host.state
    const known = roster.members.get(member)
    if (known === undefined || !known.peers.includes(self) || update.member !== member) return
    if (update.round <= head.round) return
    // Told once more by its aggregator.
    if (this.#outgoing !== null && isSame(this.#outgoing.contribution, update)) return
    const holders = [update.by, ...update.holders.filter(peer => peer !== update.by)].slice(0, holdersMax)
    const mine = this.#host.sign({ ...update, by: self, holders })
    this.#outgoing = { contribution: update, mine, pauseMs: repeatMs }
    this.#host.say('update', mine.signed)
    this.#host.wait('handed-in', repeatMs)
    this.#host.take(mine)
  }

  again(what: Waiting): void {
    if (what === 'contribution') this.#contributeAgain(longer)
    else this.#handInAgain(longer)
  }

  /** There are other listeners (listeners.ts). */
  anew(): void {
    this.#contributeAgain(() => repeatMs)
    this.#handInAgain(() => repeatMs)
  }

  /** @param next - the pause that follows, of the one before. */
  #contributeAgain(next: (ms: number) => number): void {
    if (this.#contribution === null) return
    const { state } = this.#host
    const { made } = this.#contribution
    const pauseMs = next(this.#contribution.pauseMs)
    const settled = (state.parentHead?.round ?? 0) >= made.update.round
    if (settled || state.round.phase !== 'waiting-for-parent') {
      this.#contribution = null
      return
    }
    this.#contribution = { made, pauseMs }
    this.#host.say('contribution', made.signed)
    this.#host.wait('contribution', pauseMs)
    this.onContribution(state.self, made.update)
  }

  #handInAgain(next: (ms: number) => number): void {
    if (this.#outgoing === null) return
    const { contribution, mine } = this.#outgoing
    const pauseMs = next(this.#outgoing.pauseMs)
    if (contribution.round <= this.#host.state.head.round) {
      this.#outgoing = null
      return
    }
    this.#outgoing = { contribution, mine, pauseMs }
    this.#host.say('update', mine.signed)
    this.#host.wait('handed-in', pauseMs)
    this.#host.take(mine)
  }
}

const isSame = (one: Update, other: Update): boolean =>
  one.member === other.member &&
  one.round === other.round &&
  one.base === other.base &&
  one.term === other.term &&
  one.by === other.by &&
  one.blob === other.blob
