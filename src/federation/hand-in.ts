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
import { look, type Repeat, saidTo } from './repeat.ts'

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
  /** Who leads (repeat.ts). */
  readonly office: string
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
  #outgoing: { contribution: Update; mine: SignedUpdate<Signed>; repeat: Repeat } | null = null
  /** What this node, as the aggregator, contributes to the parent, until the parent certifies the round. */
  #contribution: { made: SignedUpdate<Signed>; repeat: Repeat } | null = null

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
    this.#contribution = { made, repeat: saidTo(this.#delegates) }
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
    // Told once more by its aggregator: this delegate says it by its own clock.
    if (this.#outgoing !== null && isSame(this.#outgoing.contribution, update)) return
    const holders = [update.by, ...update.holders.filter(peer => peer !== update.by)].slice(0, holdersMax)
    const mine = this.#host.sign({ ...update, by: self, holders })
    this.#outgoing = { contribution: update, mine, repeat: saidTo(this.#host.office) }
    this.#host.say('update', mine.signed)
    this.#host.take(mine)
  }

  /** Every `handInMs`. */
  again(): void {
    this.#contributeAgain()
    if (this.#outgoing === null) return
    const { contribution, mine } = this.#outgoing
    if (contribution.round <= this.#host.state.head.round) {
      this.#outgoing = null
      return
    }
    const [repeat, due] = look(this.#outgoing.repeat, this.#host.office)
    this.#outgoing = { ...this.#outgoing, repeat }
    if (!due) return
    this.#host.say('update', mine.signed)
    this.#host.take(mine)
  }

  #contributeAgain(): void {
    if (this.#contribution === null) return
    const { state } = this.#host
    const { made } = this.#contribution
    const settled = (state.parentHead?.round ?? 0) >= made.update.round
    if (settled || state.round.phase !== 'waiting-for-parent') {
      this.#contribution = null
      return
    }
    const [repeat, due] = look(this.#contribution.repeat, this.#delegates)
    this.#contribution = { made, repeat }
    if (due) this.#host.say('contribution', made.signed)
    this.onContribution(state.self, made.update)
  }

  /** To whom a contribution is told. */
  get #delegates(): string {
    return this.#host.state.roster.delegates.join()
  }
}

const isSame = (one: Update, other: Update): boolean =>
  one.member === other.member &&
  one.round === other.round &&
  one.base === other.base &&
  one.term === other.term &&
  one.by === other.by &&
  one.blob === other.blob
