/**
 * Who is there: the daemon's node/presence.ts over the same bookkeeping (federation/presence.ts), and made cheap for thousands.
 *
 * A presence that tells its listener nothing new only moves "heard of last" on; that is noted when it is said, with the moment at which
 * it would have come, and no event is made of it. `touch` says when that gives the same: the speaker counts as present, and cannot be
 * found silent before the message comes. A test runs both ways and compares the logs (test/sim/simulation.spec.ts).
 *
 * Peers that only follow a federation are not told presences one by one (a root has thousands of them): at each of their own ticks they
 * look at what one participant, drawn at random, said last. That is what they would know from gossip, at a thousandth of the cost.
 */
import { LastHeard, rankAmong } from '../federation/presence.ts'
import type { PeerName } from '../ids.ts'
import type { Message, ReplicaCore } from './core.ts'
import type { LogSync } from './log-sync.ts'
import { presenceBytes } from './sizes.ts'

/** For the test that compares: with `false`, every presence is delivered. */
export const economy = { presences: true }

export class Presence {
  readonly #replica: ReplicaCore & { readonly sync: LogSync }
  readonly #last = new LastHeard()

  constructor(replica: ReplicaCore & { readonly sync: LogSync }) {
    this.#replica = replica
  }

  /** @param phase - 0 to 1: when in a period its first tick is. */
  start(phase: number): void {
    this.#replica.later(phase * this.#replica.topic.charter.timings.presenceMs, () => this.#tick())
  }

  seen(peer: PeerName, fresh = true): void {
    const { state, peer: self } = this.#replica
    if (peer === self.name) return
    if (!this.#last.hear(peer, self.localMs(), fresh) || state.present.has(peer)) return
    this.#replica.dispatch({ type: 'presence', peer, present: true })
  }

  /** The connection to it broke, and it cannot be reached again. */
  lost(peer: PeerName): void {
    const replica = this.#replica
    replica.dispatch({ type: 'consensus', event: { type: 'lost', peer } })
    if (replica.heard.aggregator === peer) replica.heard = { aggregator: null, term: replica.heard.term }
    if (replica.state.present.has(peer)) replica.dispatch({ type: 'presence', peer, present: false })
  }

  touch(peer: PeerName, delayMs: number): boolean {
    const { state, peer: self, topic } = this.#replica
    const atMs = self.localMs() + delayMs
    if (atMs - this.#last.at(peer) >= topic.charter.timings.presenceMs * 3) return false
    if (!economy.presences || !state.present.has(peer) || !this.#replica.rosterPeers().has(peer)) return false
    this.#last.hear(peer, atMs)
    return true
  }

  #tick(): void {
    const replica = this.#replica
    const { presenceMs } = replica.topic.charter.timings
    replica.later(presenceMs, () => this.#tick())
    this.#rank()
    if (replica.rosterPeers().has(replica.peer.name)) this.#say()
    else if (!replica.participates) this.#listen()
    const nowMs = replica.peer.localMs()
    for (const peer of this.#last.silent(replica.state.present, nowMs, presenceMs))
      replica.dispatch({ type: 'presence', peer, present: false })
    if (!replica.participates) return
    for (const peer of this.#last.away(replica.rosterPeers(), nowMs, presenceMs))
      if (peer !== replica.peer.name && !replica.state.away.has(peer)) replica.dispatch({ type: 'away', peer })
  }

  /** What the voters say of their strength has come with their presences. */
  #rank(): void {
    const { services, peer, state } = this.#replica
    const { voters } = state.consensus
    if (!voters.includes(peer.name)) return
    const rank = rankAmong(voters, peer.name, name => services.peers.get(name)?.strength ?? 0)
    if (rank !== state.consensus.rank) this.#replica.dispatch({ type: 'consensus', event: { type: 'ranked', rank } })
  }

  #say(): void {
    const { peer, topic, services, state } = this.#replica
    const { commitIndex: index, term, aggregator } = state.consensus
    const message: Message = { kind: 'presence', topic, index, term, aggregator }
    const { participants } = topic
    const { network } = services
    for (const other of participants) {
      if (other === this.#replica || !other.alive) continue
      const delay = network.gossipDelayMs(peer, other.peer, presenceBytes, participants.length, topic.level)
      if (delay < 0 || (tellsNothing(other, index, term, aggregator) && other.touch(peer.name, delay))) continue
      // Without a drawn tie, so that the other draws are the same whether it is delivered or noted.
      network.deliver(peer, other.peer, message, delay, 0)
    }
  }

  /** Of one participant, as far as it can be heard here. */
  #listen(): void {
    const { peer, topic, services } = this.#replica
    const other = topic.participants[services.random.below(topic.participants.length || 1)]
    if (other === undefined || !other.alive || !services.network.reaches(other.peer, peer)) return
    const { commitIndex, term, aggregator } = other.state.consensus
    if (term >= this.#replica.heard.term && aggregator !== null) this.#replica.heard = { aggregator, term }
    if (commitIndex > this.#replica.state.consensus.commitIndex) this.#replica.sync.catchUp(other.peer.name)
  }
}

function tellsNothing(
  { state, heard, asking }: ReplicaCore,
  index: number,
  term: number,
  aggregator: PeerName | null
): boolean {
  if (asking || index > state.consensus.commitIndex) return false
  return aggregator === null || term < heard.term || (heard.aggregator === aggregator && heard.term === term)
}
