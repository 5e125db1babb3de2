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

/** How often `again` is due. */
export const handInMs = 2_000
/** Peers named as holders of a handed-in contribution, at most. */
const holdersMax = 9

/** An update with what its host needs to say it. */
export interface SignedUpdate<Signed> {
  link: Link
  update: Update
  signed: Signed
}

export interface HandInHost<Signed> {
  readonly state: FederationState
  /** The same of a federation above that this peer follows. */
  above(parent: FederationId): HandIn<Signed> | null
  /** Signs as this peer and keeps it: others may ask for it. */
  sign(update: Update): SignedUpdate<Signed>
  say(kind: 'contribution' | 'update', signed: Signed): void
  /** The machine's event `update`. */
  take(signed: SignedUpdate<Signed>): void
}

export class HandIn<Signed> {
  readonly #host: HandInHost<Signed>
  /** What this node, as a delegate, hands in here for its child federation, until the round is certified. */
  #outgoing: { round: number; signed: Signed } | null = null
  /** What this node, as the aggregator, contributes to the parent, until the parent certifies the round. */
  #contribution: SignedUpdate<Signed> | null = null

  constructor(host: HandInHost<Signed>) {
    this.#host = host
  }

  /** Whether `again` has nothing to say. */
  get idle(): boolean {
    return this.#contribution === null && this.#outgoing === null
  }

  /** As its aggregator: effect `contribute`. */
  contribute(update: Update): void {
    const made = this.#host.sign(update)
    this.#contribution = made
    this.#host.say('contribution', made.signed)
    this.onContribution(this.#host.state.self, update)
  }

  /** Told by the aggregator; a delegate hands it in above. @param update - its signature is good. */
  onContribution(from: PeerName, update: Update): void {
    const { charter, id } = this.#host.state
    if (update.by !== from || charter.parent === null) return
    this.#host.above(charter.parent)?.handInFor(id, update)
  }

  /** For the child federation `member`, if this peer is its delegate here. */
  handInFor(member: MemberId, update: Update): void {
    const { roster, head, self } = this.#host.state
    const known = roster.members.get(member)
    if (known === undefined || !known.peers.includes(self) || update.member !== member) return
    if (update.round <= head.round) return
    const holders = [update.by, ...update.holders.filter(peer => peer !== update.by)].slice(0, holdersMax)
    const mine = this.#host.sign({ ...update, by: self, holders })
    this.#outgoing = { round: update.round, signed: mine.signed }
    this.#host.say('update', mine.signed)
    this.#host.take(mine)
  }

  /** Every `handInMs`. */
  again(): void {
    const { state } = this.#host
    if (this.#contribution !== null) {
      const settled = (state.parentHead?.round ?? 0) >= this.#contribution.update.round
      if (settled || state.round.phase !== 'waiting-for-parent') this.#contribution = null
      else {
        this.#host.say('contribution', this.#contribution.signed)
        this.onContribution(state.self, this.#contribution.update)
      }
    }
    if (this.#outgoing === null) return
    if (this.#outgoing.round <= state.head.round) this.#outgoing = null
    else this.#host.say('update', this.#outgoing.signed)
  }
}
