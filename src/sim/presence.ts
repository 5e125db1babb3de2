/**
 * Who is there: the daemon's node/presence.ts over the same bookkeeping (federation/presence.ts), and made cheap for thousands (voice.ts).
 *
 * Peers that only follow a federation are not told presences one by one (a root has thousands of them): at each of their own ticks they
 * look at what one participant, drawn at random, said last. That is what they would know from gossip, at a thousandth of the cost.
 */
import { LastHeard, rankAmong, type Times } from '../federation/presence.ts'
import type { PeerName } from '../ids.ts'
import type { Happening } from './clock.ts'
import type { ReplicaCore, Topic } from './core.ts'
import type { LogSync } from './log-sync.ts'
import { saidOf } from './said.ts'
import { economy } from './voice.ts'

const nobody: ReadonlySet<PeerName> = new Set()

type Host = ReplicaCore & { readonly sync: LogSync }

/** Times by the place of a peer among those that ever spoke in a topic: one look at one array, where a map would be three. */
class SpeakerTimes implements Times {
  readonly #topic: Topic
  /** NaN: never. */
  readonly #atMs: number[] = []

  constructor(topic: Topic) {
    this.#topic = topic
  }

  get(peer: PeerName): number | undefined {
    const place = this.#topic.said.get(peer)?.place
    // A place that the array does not have is looked up by name, among the object's properties.
    if (place === undefined || place >= this.#atMs.length) return undefined
    const atMs = this.#atMs[place]!
    return Number.isNaN(atMs) ? undefined : atMs
  }

  set(peer: PeerName, atMs: number): void {
    const { place } = saidOf(this.#topic.said, peer)
    while (this.#atMs.length < place) this.#atMs.push(Number.NaN)
    this.#atMs[place] = atMs
  }
}

/** What was said to all at once is heard too. */
class Heard extends LastHeard {
  readonly #replica: Host

  constructor(replica: Host) {
    super(new SpeakerTimes(replica.topic))
    this.#replica = replica
  }

  override at(peer: PeerName): number {
    const { topic, services, peer: self, sinceMs } = this.#replica
    const [from, said] = [services.peers.get(peer), topic.said.get(peer)]
    const noted = super.at(peer)
    if (from === undefined || said === undefined) return noted
    return Math.max(noted, said.heardMs(services.network, from, self, sinceMs) * self.rate)
  }

  /** Mostly what was noted says so already. Not in a weather that holds messages back: there a look at one draws how long. */
  override since(peer: PeerName, localMs: number): boolean {
    const mayDraw = this.#replica.services.network.weather.reordering > 0
    return (!mayDraw && super.at(peer) >= localMs) || this.at(peer) >= localMs
  }

  /** Whether it was heard of after that, or will have been. */
  after(peer: PeerName, localMs: number): boolean {
    return super.at(peer) > localMs || this.at(peer) > localMs
  }
}

export class Presence implements Happening {
  readonly #replica: Host
  readonly #last: Heard
  #rankedVoters: readonly PeerName[] | null = null
  /** Version of the topic at which all that are looked for were there, and speaking. */
  #allThereAt = -1
  /** What `#askMemories` depended on when all that are present had told it. */
  #asked = { version: -1, moves: -1, remembering: nobody }

  constructor(replica: Host) {
    this.#replica = replica
    this.#last = new Heard(replica)
  }

  /** @param phase - 0 to 1: when in a period its first tick is. */
  start(phase: number): void {
    this.#wait(phase * this.#replica.topic.charter.timings.presenceMs)
  }

  #wait(localMs: number): void {
    const { services, peer } = this.#replica
    services.clock.at(services.clock.nowMs + peer.worldMs(localMs), this)
  }

  fire(): void {
    if (this.#replica.alive) this.#tick()
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

  /** It counts as present, and cannot be found silent before the message comes. */
  expects(peer: PeerName, delayMs: number): boolean {
    const { state, peer: self, topic } = this.#replica
    if (!economy.on || !state.present.has(peer) || !this.#replica.rosterPeers().has(peer)) return false
    return this.#last.after(peer, self.localMs() + delayMs - topic.charter.timings.presenceMs * 3)
  }

  touch(peer: PeerName, delayMs: number): boolean {
    const expected = this.expects(peer, delayMs)
    if (expected) this.#last.hear(peer, this.#replica.peer.localMs() + delayMs)
    return expected
  }

  #tick(): void {
    const replica = this.#replica
    const { presenceMs } = replica.topic.charter.timings
    this.#wait(presenceMs)
    this.#rank()
    if (replica.state.consensus.role === 'leader') this.#askMemories()
    if (replica.rosterPeers().has(replica.peer.name)) replica.voice.presence()
    else if (!replica.participates) this.#listen()
    if (this.#allThere(presenceMs)) return
    const nowMs = replica.peer.localMs()
    for (const peer of this.#last.silent(replica.state.present, nowMs, presenceMs))
      replica.dispatch({ type: 'presence', peer, present: false })
    if (!replica.participates) return
    for (const peer of this.#last.away(replica.rosterPeers(), nowMs, presenceMs))
      if (peer !== replica.peer.name && !replica.state.away.has(peer)) replica.dispatch({ type: 'away', peer })
    this.#allThereAt = this.#speak() ? replica.topic.version : -1
  }

  /** Nothing has changed since all were there, and each of them has spoken lately: nobody can be silent. */
  #allThere(presenceMs: number): boolean {
    const { topic, services, participates } = this.#replica
    if (this.#allThereAt !== topic.version || !participates || !economy.on || !services.network.calm) return false
    return haveSpoken(topic, services.clock.nowMs - presenceMs * 2)
  }

  /** Whether everybody that is or should be present takes part, and has said so. */
  #speak(): boolean {
    const { state, topic, peer: self, services } = this.#replica
    const speaks = (peer: PeerName) => {
      const spoke = topic.said.get(peer)?.presenceMs ?? Number.NEGATIVE_INFINITY
      return spoke > Number.NEGATIVE_INFINITY && (services.peers.get(peer)?.replicas.get(topic.id)?.participates ?? false)
    }
    for (const peer of state.present) if (!speaks(peer)) return false
    for (const peer of this.#replica.rosterPeers())
      if (peer !== self.name && !state.away.has(peer) && !speaks(peer)) return false
    return true
  }

  /** What the voters say of their strength has come with their presences. */
  #rank(): void {
    const { services, peer, state } = this.#replica
    const { voters } = state.consensus
    // A peer's strength stays the same.
    if (voters === this.#rankedVoters) return
    this.#rankedVoters = voters
    if (!voters.includes(peer.name)) return
    const rank = rankAmong(voters, peer.name, name => services.peers.get(name)?.strength ?? 0)
    if (rank !== state.consensus.rank) this.#replica.dispatch({ type: 'consensus', event: { type: 'ranked', rank } })
  }

  /** Whether they remember how they voted has come with their presences. It matters where voters are chosen. */
  #askMemories(): void {
    const { state, topic, services } = this.#replica
    const { version, moves } = topic
    const { remembering } = state
    const asked = this.#asked
    if (asked.version === version && asked.moves === moves && asked.remembering === remembering) return
    let allKnown = true
    for (const peer of state.present) {
      const spoke = topic.said.get(peer)?.presenceMs ?? Number.NEGATIVE_INFINITY
      const other = services.peers.get(peer)?.replicas.get(topic.id)
      const told = other !== undefined && spoke > Number.NEGATIVE_INFINITY
      const remembers = told && other.state.consensus.nonce === null
      if (told && state.remembering.has(peer) === remembers) continue
      allKnown = false
      if (told) this.#replica.dispatch({ type: 'presence', peer, present: true, remembers })
    }
    if (allKnown) this.#asked = { version, moves, remembering }
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

/** Whether each participant that ever spoke has said a presence since `sinceMs`. */
function haveSpoken(topic: Topic, sinceMs: number): boolean {
  if (topic.presentSinceMs >= sinceMs) return true
  let first = Number.POSITIVE_INFINITY
  for (const { peer } of topic.participants) {
    const spoke = topic.said.get(peer.name)?.presenceMs ?? Number.NEGATIVE_INFINITY
    if (spoke > Number.NEGATIVE_INFINITY) first = Math.min(first, spoke)
  }
  topic.presentSinceMs = first
  return first >= sinceMs
}
