/** Who of a federation's peers is there: what each said last, and this peer's own regular word. */
import { memberOf, rosterPeers } from '../federation/membership.ts'
import type { PeerName } from '../ids.ts'
import { LastHeard, rankAmong } from '../federation/presence.ts'
import { type Leads, WhoLeads } from '../federation/who-leads.ts'
import type { FederationCore } from './federation-core.ts'
import { strength } from './strength.ts'

/** Two chunks take no longer on a line that can carry models. */
const aliveMs = 30_000

export class Presence {
  readonly #node: FederationCore
  readonly #heardAtMs: Map<PeerName, number>
  readonly #lastHeard: LastHeard
  readonly #saidAtMs = new Map<PeerName, number>()
  readonly #strengths = new Map<PeerName, number>()
  readonly #whoLeads = new WhoLeads()

  /** @param heardAtMs - when each was heard last; for tests. */
  constructor(node: FederationCore, heardAtMs = new Map<PeerName, number>()) {
    this.#node = node
    this.#heardAtMs = heardAtMs
    this.#lastHeard = new LastHeard(heardAtMs)
  }

  /** Something was heard of `peer`; unless `fresh`, from another, which counts only for peers that are new. */
  seen(peer: PeerName, fresh = true): void {
    if (peer === this.#node.self) return
    if (fresh) this.#saidAtMs.set(peer, performance.now())
    this.#hear(peer, fresh)
  }

  /**
   * Bytes of a blob came from `peer`. On a slow line what it says waits behind them, for as long as they take: it is no more silent for that
   * than it is dead. Believed for a while, for who sends blobs and says nothing may have lost its office long ago.
   */
  alive(peer: PeerName): void {
    if (performance.now() - (this.#saidAtMs.get(peer) ?? Number.NEGATIVE_INFINITY) > aliveMs) return
    this.#hear(peer, true)
    this.#node.dispatch({ type: 'consensus', event: { type: 'alive', peer } })
  }

  #hear(peer: PeerName, fresh: boolean): void {
    if (!this.#lastHeard.hear(peer, performance.now(), fresh) || this.#node.state.present.has(peer)) return
    this.#node.dispatch({ type: 'presence', peer, present: true })
  }

  strengthOf(peer: PeerName, said: number): void {
    this.#strengths.set(peer, said)
  }

  /** As `peer` says. */
  leads(peer: PeerName, told: Leads): void {
    const { state, heard } = this.#node
    const leads = this.#whoLeads.hear(peer, told, state.roster.voters, heard)
    if (leads.aggregator !== heard.aggregator || leads.term !== heard.term) this.#node.heard = leads
  }

  /** The connection to it broke. Who cannot be reached again is gone, long before its silence would tell. */
  async lost(peer: PeerName): Promise<void> {
    const node = this.#node
    node.dispatch({ type: 'consensus', event: { type: 'lost', peer } })
    this.#whoLeads.lost(peer)
    if (node.heard.aggregator === peer) node.heard = { aggregator: null, term: node.heard.term }
    if (!node.state.present.has(peer)) return
    try {
      await node.options.services.host.dial(peer)
    } catch {
      // It came by itself, or its silence has told meanwhile.
      if (node.stopped || node.options.services.host.connected(peer) || !node.state.present.has(peer)) return
      this.#gone(peer, `${peer} cannot be reached any more`)
    }
  }

  tick(): void {
    const { services, charter } = this.#node.options
    const { consensus, participation, roster, away } = this.#node.state
    const peers = rosterPeers(roster, charter)
    this.#rank()
    if (peers.has(this.#node.self)) {
      this.#node.say({
        kind: 'presence',
        index: consensus.commitIndex,
        term: consensus.term,
        aggregator: consensus.aggregator,
        addresses: services.host.addresses().slice(0, 16),
        phase: participation.phase,
        starting: consensus.nonce !== null,
        strength: strength()
      })
    }
    const now = performance.now()
    for (const peer of this.#lastHeard.silent(this.#node.state.present, now, charter.timings.presenceMs))
      this.#gone(peer, `nothing heard of ${peer}`)
    peers.delete(this.#node.self)
    for (const peer of this.#lastHeard.away(peers, now, charter.timings.presenceMs))
      if (!away.has(peer)) this.#node.dispatch({ type: 'away', peer })
  }

  #gone(peer: PeerName, reason: string): void {
    const { services, charter } = this.#node.options
    const { roster } = this.#node.state
    this.#node.dispatch({ type: 'presence', peer, present: false })
    const peers = rosterPeers(roster, charter)
    if (!peers.has(peer)) {
      // A stranger, or who has left: over the months there are many.
      this.#heardAtMs.delete(peer)
      this.#saidAtMs.delete(peer)
      this.#strengths.delete(peer)
    }
    const member = memberOf(roster, peer)
    if (member === null || !peers.has(this.#node.self)) return
    const { path } = this.#node
    services.events.emit({
      type: 'member',
      federation: path,
      member: member.member,
      name: member.name,
      change: 'absent',
      reason
    })
  }

  #rank(): void {
    const { roster, consensus, self } = this.#node.state
    const rank = rankAmong(roster.voters, self, peer => (peer === self ? strength() : (this.#strengths.get(peer) ?? 0)))
    if (rank !== consensus.rank) this.#node.dispatch({ type: 'consensus', event: { type: 'ranked', rank } })
  }
}
