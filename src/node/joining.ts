/** Asking for a place in a federation's roster, and being asked for one. */
import type { Member } from '../federation/entry.ts'
import { placeToAsk } from '../federation/levels.ts'
import type { PeerName } from '../ids.ts'
import type { Random } from '../math/random.ts'
import { checkProof, encodeChildProof, joinBytes } from '../wire/certified-log.ts'
import { isMalformed } from '../wire/codec.ts'
import type { Answer } from '../wire/messages.ts'
import { entryCodec } from '../wire/records.ts'
import type { FederationCore } from './federation-core.ts'

export class Joining {
  readonly #node: FederationCore
  readonly #random: Random
  readonly #catchUp: (from: PeerName) => Promise<void>

  constructor(node: FederationCore, random: Random, catchUp: (from: PeerName) => Promise<void>) {
    this.#node = node
    this.#random = random
    this.#catchUp = catchUp
  }

  /** As its aggregator; others say who it is. */
  onJoin(from: PeerName, member: Member): Answer {
    const { consensus } = this.#node.state
    if (consensus.role !== 'leader')
      return { kind: 'join', taken: false, aggregator: consensus.aggregator ?? this.#node.heard.aggregator }
    const why = checkProof(this.#node.id, member)
    if (why !== null || !member.peers.includes(from)) {
      this.#node.options.services.events.emit({
        type: 'fault',
        federation: this.#node.path,
        peer: from,
        code: 'JOIN_REFUSED',
        detail: why ?? 'it asks for another'
      })
      return { kind: 'join', taken: false, aggregator: this.#node.self }
    }
    for (const peer of member.peers) if (peer !== this.#node.self) this.#node.seen(peer, peer === from)
    this.#node.dispatch({ type: 'join', member })
    return { kind: 'join', taken: true, aggregator: this.#node.self }
  }

  /** Asks for a place in the roster, until it has the one that it should have. */
  async join(): Promise<void> {
    const member = this.#wantedMember()
    if (member === null) return
    const { services } = this.#node.options
    if (this.#node.state.consensus.role === 'leader') {
      this.#node.dispatch({ type: 'join', member })
      return
    }
    const aggregator = this.#node.state.consensus.aggregator ?? this.#node.heard.aggregator
    const others = services.gossip.subscribers(this.#node.topic)
    const asked =
      aggregator !== null && aggregator !== this.#node.self
        ? aggregator
        : others[Math.floor(this.#random.float() * others.length)]
    if (asked === undefined) return
    const answer = await this.#node.ask(asked, { kind: 'join', federation: this.#node.id, member })
    if (answer?.kind === 'join' && answer.aggregator !== null && answer.aggregator !== asked)
      this.#node.heard = { aggregator: answer.aggregator, term: this.#node.heard.term }
    else if (answer === null) this.#node.heard = { aggregator: null, term: this.#node.heard.term }
    if (this.#node.state.consensus.commitIndex === 0 || answer?.kind !== 'join') void this.#catchUp(asked)
  }

  #wantedMember(): Member | null {
    const { as, name, services } = this.#node.options
    const children = this.#node.options.children(this.#node.id)
    const place = placeToAsk(
      this.#node.state,
      as,
      children.map(({ state }) => state)
    )
    if (place === null) return null
    if ('own' in place) {
      const asked = { member: this.#node.self, kind: place.own, name } as const
      return { ...asked, peers: [this.#node.self], proof: services.host.sign(joinBytes(this.#node.id, asked)) }
    }
    const { id, charter, roster } = place.child
    const proof = childProof(children.find(child => child.id === id)!)
    return { member: id, kind: 'federation', name: charter.name, peers: [...roster.delegates], proof }
  }
}

/** A child federation's proof for its parent: its charter and its `members` entries. */
function childProof(child: FederationCore): Uint8Array {
  const members = child.log.filter(({ entry }) => {
    const record = entryCodec.decode(entry)
    return !isMalformed(record) && record.kind === 'members'
  })
  return encodeChildProof(child.options.charterBytes, members)
}
