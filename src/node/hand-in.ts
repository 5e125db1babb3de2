/**
 * Contributions between levels (docs/protocol.md, "The log"): a federation's aggregator tells its own topic of its contribution, and every
 * delegate hands it in above under its own name. Said again until it is settled: gossip may lose it, and a delegate may be new.
 */
import type { Update } from '../federation/entry.ts'
import type { MemberId, PeerName } from '../ids.ts'
import { readUpdate } from '../wire/certified-log.ts'
import { limits } from '../wire/limits.ts'
import { type Signed, signedCodec } from '../wire/messages.ts'
import type { FederationCore } from './federation-core.ts'
import { readSigned, signUpdate } from './signed.ts'

export class HandIn {
  readonly #node: FederationCore
  /** What this node, as a delegate, hands in here for its child federation, until the round is certified. */
  #outgoing: { round: number; signed: Uint8Array } | null = null
  /** What this node, as the aggregator, contributes to the parent, until the parent certifies the round. */
  #contribution: { parentRound: number; signed: Uint8Array } | null = null

  constructor(node: FederationCore) {
    this.#node = node
  }

  contribute({ parentRound, signed, record }: { parentRound: number; signed: Uint8Array; record: Signed }): void {
    this.#contribution = { signed, parentRound }
    this.#node.say({ kind: 'contribution', signed: record })
    this.onContribution(this.#node.self, record)
  }

  /** Told by the aggregator; a delegate hands it in above. */
  onContribution(from: PeerName, signed: Signed): void {
    const { charter, sibling } = this.#node.options
    const read = readUpdate(signedCodec.encode(signed))
    if (read === null || read.update.by !== from || charter.parent === null) return
    sibling(charter.parent)?.handInFor(this.#node.id, read.update)
  }

  handInFor(member: MemberId, update: Update): void {
    const node = this.#node
    const known = node.state.roster.members.get(member)
    if (known === undefined || !known.peers.includes(node.self) || update.member !== member) return
    if (update.round <= node.state.head.round) return
    const mine = {
      ...update,
      by: node.self,
      holders: [update.by, ...update.holders.filter(peer => peer !== update.by)].slice(0, limits.votersMax)
    }
    const { host } = node.options.services
    const { link, bytes, signed } = signUpdate(host.sign.bind(host), mine)
    this.#outgoing = { round: update.round, signed: bytes }
    node.keepUpdate(link, bytes)
    node.say({ kind: 'update', signed })
    node.dispatch({ type: 'update', link, update: mine })
  }

  again(): void {
    const node = this.#node
    if (this.#contribution !== null) {
      const settled = (node.state.parentHead?.round ?? 0) >= this.#contribution.parentRound
      if (settled || node.state.round.phase !== 'waiting-for-parent') this.#contribution = null
      else {
        const signed = readSigned(this.#contribution.signed)
        node.say({ kind: 'contribution', signed })
        this.onContribution(node.self, signed)
      }
    }
    if (this.#outgoing === null) return
    if (this.#outgoing.round <= node.state.head.round) this.#outgoing = null
    else node.say({ kind: 'update', signed: readSigned(this.#outgoing.signed) })
  }
}
