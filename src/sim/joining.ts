/** Asking for a place in a federation's roster, for a vote, or to be let go (node/joining.ts). Proofs are taken as good. */
import { mayHaveCompany } from '../federation/consensus-state.ts'
import { EnrollWatch } from '../federation/enroll-watch.ts'
import type { Member } from '../federation/entry.ts'
import { LettingGo, seenPollMs } from '../federation/letting-go.ts'
import { placeToAsk } from '../federation/levels.ts'
import { hasLeft, knowsPlace, letsGo } from '../federation/membership.ts'
import { PlaceAsking } from '../federation/place-asking.ts'
import type { PeerName } from '../ids.ts'
import type { Random } from '../math/random.ts'
import type { Answer, ReplicaCore, Wish } from './core.ts'
import type { LogSync } from './log-sync.ts'
import { Ticker } from './timers.ts'

const joinRetryMs = 400
const proof = new Uint8Array()

export class Joining {
  readonly #replica: ReplicaCore & { readonly sync: LogSync }
  readonly #random: Random
  readonly #ticker: Ticker
  readonly #lettingGo = new LettingGo()
  readonly #enrollWatch = new EnrollWatch()
  #askSeenAtMs = 0
  #knowsPlace = false
  readonly #asking = new PlaceAsking()

  constructor(replica: ReplicaCore & { readonly sync: LogSync }, random: Random) {
    this.#replica = replica
    this.#random = random
    this.#ticker = new Ticker(replica, joinRetryMs, () => {
      this.#join()
      this.#lookWhoWaits()
      this.#askStrangers()
      return this.isBusy(this.wanted())
    })
  }

  /** Whether it is out, if it wants to leave. */
  get hasLeft(): boolean {
    return this.#knows() && hasLeft(this.#replica.state.roster, this.#replica.peer.name)
  }

  /** Whether it may go: it is out, and those that stay have shown that they know. Looked at regularly. */
  mayGo(): boolean {
    if (!this.hasLeft) return false
    const { state, peer } = this.#replica
    const nowMs = peer.localMs()
    if (nowMs >= this.#askSeenAtMs) {
      this.#askSeenAtMs = nowMs + seenPollMs
      for (const voter of this.#lettingGo.toAsk(state))
        this.#replica.ask(voter, { kind: 'entries', fromIndex: state.consensus.commitIndex + 1 }, answer =>
          this.#lettingGo.answered(voter, answer?.kind === 'entries' ? answer.headIndex : null)
        )
    }
    return this.#lettingGo.waitsFor(state).length === 0
  }

  #knows(): boolean {
    const { state, peer } = this.#replica
    this.#knowsPlace ||= knowsPlace(state.roster, peer.name, state.consensus.nonce)
    return this.#knowsPlace
  }

  wanted(): boolean {
    return this.#wanted() !== null
  }

  /** Whether there is somebody to ask, for a place or for what it may have missed. */
  isBusy(wants: boolean): boolean {
    return wants || mayHaveCompany(this.#replica.state.consensus)
  }

  wake(): void {
    this.#ticker.wake()
  }

  /** Whoever may have more: by a log from when this peer was alone they are strangers, whose presence is not heard. */
  #askStrangers(): void {
    const { state, topic, peer: own } = this.#replica
    if (!mayHaveCompany(state.consensus)) return
    const others = [...topic.participants, ...topic.observers].filter(({ peer, alive }) => alive && peer !== own)
    const other = others[this.#random.below(others.length || 1)]?.peer.name
    if (other !== undefined) this.#replica.sync.askBeside(other)
  }

  #lookWhoWaits(): void {
    const { state, peer, services, topic } = this.#replica
    if (this.#enrollWatch.look(state, peer.localMs()) !== null) services.measures.told(topic, 'ENROLL_WAITS')
  }

  /** As its aggregator; others say who it is. */
  onJoin(from: PeerName, { member, enrolled, left }: Wish): Answer {
    const replica = this.#replica
    const { consensus } = replica.state
    if (enrolled?.peer === from) this.#enrollWatch.asked(from, replica.state, replica.peer.localMs())
    this.#lookWhoWaits()
    if (consensus.role !== 'leader')
      return { kind: 'join', taken: false, aggregator: consensus.aggregator ?? replica.heard.aggregator }
    const another = (member !== null && !member.peers.includes(from)) || (left !== null && left.member !== from)
    if (another) return { kind: 'join', taken: false, aggregator: replica.peer.name }
    for (const peer of member?.peers ?? []) if (peer !== replica.peer.name) replica.seen(peer, peer === from)
    const taken = left === null || letsGo(replica.state.roster, left.member, consensus.accepted !== null)
    this.#take({ member, enrolled, left })
    return { kind: 'join', taken, aggregator: replica.peer.name }
  }

  /** Asks for a place in the roster, until it has the one that it should have. */
  #join(): void {
    const replica = this.#replica
    const wish = this.#wanted()
    if (wish === null) {
      this.#asking.rest()
      return
    }
    const { consensus } = replica.state
    if (consensus.role === 'leader') {
      this.#take(wish)
      return
    }
    const aggregator = consensus.aggregator ?? replica.heard.aggregator
    const draw = (count: number) => this.#random.below(count)
    const late = this.#enrollWatch.other(replica.state, replica.peer.localMs(), draw)
    const asked = late ?? this.#asking.whom(replica.state, aggregator, () => this.#reached(), draw)
    if (asked === null) return
    const question = this.#asking.asked(asked, aggregator)
    replica.ask(asked, { kind: 'join', ...wish }, answer => {
      if (wish.left !== null && answer?.kind === 'join' && answer.taken) this.#knowsPlace = true
      const heard = this.#asking.answered(question, answer?.kind === 'join' ? answer.aggregator : undefined)
      if (heard !== undefined) replica.heard = { aggregator: heard, term: replica.heard.term }
      // All that it knew may have left while it was away: whoever is not in its roster would be heard by it no more.
      replica.sync.catchUp(asked)
    })
  }

  /** The enrollment first: it is of no use before its member is known, so one entry takes both. */
  #take({ member, enrolled, left }: Wish): void {
    const replica = this.#replica
    if (enrolled !== null) replica.dispatch({ type: 'enroll', enrolled })
    if (member !== null) replica.dispatch({ type: 'join', member })
    if (left !== null) replica.dispatch({ type: 'leave', left })
  }

  #wanted(): Wish | null {
    const { state, leaving, peer } = this.#replica
    const { roster, consensus } = state
    const none = { member: null, enrolled: null, left: null }
    if (leaving)
      return roster.members.has(peer.name) || !this.#knows()
        ? { ...none, left: { member: peer.name, reason: 'by its own word', proof } }
        : null
    const member = this.#wantedMember()
    if (consensus.nonce === null) return member === null ? null : { ...none, member }
    const belongs = member !== null || this.#replica.rosterPeers().has(peer.name)
    return belongs ? { ...none, member, enrolled: { peer: peer.name, nonce: consensus.nonce, signature: proof } } : null
  }

  /** Those in the topic, as the directory and gossip would tell. */
  #reached(): PeerName[] {
    const { topic, services, peer: own } = this.#replica
    return topic.participants
      .filter(other => other !== this.#replica && other.alive && services.network.reaches(other.peer, own))
      .map(({ peer }) => peer.name)
  }

  #wantedMember(): Member | null {
    const replica = this.#replica
    const children = replica.peer.below(replica.topic).map(({ state }) => state)
    const place = placeToAsk(replica.state, replica.as, children)
    if (place === null) return null
    if ('own' in place) {
      const { name } = replica.peer
      return { member: name, kind: place.own, name, peers: [name], proof }
    }
    const { id, charter, roster } = place.child
    return { member: id, kind: 'federation', name: charter.name, peers: [...roster.delegates], proof }
  }
}
