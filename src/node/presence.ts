/** Who of a federation's peers is there: what each said last, and this peer's own regular word. */
import { memberOf, rosterPeers } from '../federation/membership.ts'
import type { PeerName } from '../ids.ts'
import { LastHeard } from '../federation/presence.ts'
import type { FederationCore } from './federation-core.ts'

export class Presence {
  readonly #node: FederationCore
  readonly #lastHeard = new LastHeard()

  constructor(node: FederationCore) {
    this.#node = node
  }

  /** Something was heard of `peer`; unless `fresh`, from another, which counts only for peers that are new. */
  seen(peer: PeerName, fresh = true): void {
    if (peer === this.#node.self) return
    if (!this.#lastHeard.hear(peer, performance.now(), fresh) || this.#node.state.present.has(peer)) return
    this.#node.dispatch({ type: 'presence', peer, present: true })
  }

  tick(ready: boolean): void {
    const { services, charter } = this.#node.options
    const { consensus, participation } = this.#node.state
    if (rosterPeers(this.#node.state.roster, charter).has(this.#node.self)) {
      this.#node.say({
        kind: 'presence',
        index: consensus.commitIndex,
        term: consensus.term,
        aggregator: consensus.aggregator,
        addresses: services.host.addresses().slice(0, 16),
        phase: participation.phase,
        starting: !ready
      })
    }
    for (const peer of this.#lastHeard.silent(this.#node.state.present, performance.now(), charter.timings.presenceMs)) {
      this.#node.dispatch({ type: 'presence', peer, present: false })
      const member = memberOf(this.#node.state.roster, peer)
      if (member !== null && rosterPeers(this.#node.state.roster, charter).has(this.#node.self)) {
        services.events.emit({
          type: 'member',
          federation: this.#node.path,
          member: member.member,
          name: member.name,
          change: 'absent',
          reason: `nothing heard of ${peer}`
        })
      }
    }
  }
}
