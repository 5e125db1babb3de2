/**
 * Updates that were said to all at once (announced.ts), as one replica gets them: not when they come, but before something happens to it
 * that may depend on them, in the order in which they came, each as of its moment. What a round has settled by then is not looked at.
 */
import type { FederationEvent } from '../federation/federation.ts'
import type { PeerCore, ReplicaCore, SignedRecord } from './core.ts'

interface Letter {
  atMs: number
  from: PeerCore
  signed: SignedRecord
  kept: boolean
}

export class Mail {
  readonly #replica: ReplicaCore
  readonly #take: (from: PeerCore, signed: SignedRecord) => void
  /** Looked at, and not yet here. In the order in which they come. */
  #letters: Letter[] = []
  /** Place among the topic's announcements up to which it has looked. */
  #place = 0
  #reading = false

  constructor(replica: ReplicaCore, take: (from: PeerCore, signed: SignedRecord) => void) {
    this.#replica = replica
    this.#take = take
  }

  /** What was said until now is not for this replica. */
  skip(): void {
    this.#place = this.#replica.topic.announced.end
  }

  /** Takes what has come by now. */
  read(): void {
    const { services, alive, participates, busy, topic, peer } = this.#replica
    if (this.#reading || busy || !participates || !alive) return
    this.#collect()
    const { clock } = services
    const [next] = this.#letters
    if (next === undefined || next.atMs > clock.nowMs) return
    this.#reading = true
    try {
      const later = this.#letters.findIndex(({ atMs }) => atMs > clock.nowMs)
      for (const { atMs, from, signed } of this.#letters.splice(0, later < 0 ? this.#letters.length : later))
        clock.asOf(atMs, () => this.#take(from, signed))
    } catch (error) {
      peer.fail(topic, error)
    } finally {
      this.#reading = false
    }
  }

  /** Keeps what has come by now, and leaves it to be read. What is settled needs no reading any more. */
  glance(): void {
    const replica = this.#replica
    if (this.#reading || replica.busy || !replica.participates || !replica.alive) return
    this.#collect()
    const { nowMs } = replica.services.clock
    const { counted } = replica.state
    this.#letters = this.#letters.filter(({ signed }) => signed.update.round > (counted.get(signed.update.member) ?? 0))
    const speakers = replica.rosterPeers()
    for (const letter of this.#letters) {
      if (letter.atMs > nowMs) break
      if (letter.kept || !speakers.has(letter.from.name)) continue
      letter.kept = true
      replica.keepUpdate(letter.signed)
    }
  }

  /** What is still on its way comes as messages. */
  deliver(): void {
    const { topic, services } = this.#replica
    this.#collect()
    for (const { atMs, from, signed } of this.#letters.splice(0))
      services.network.deliver(from, this.#replica, { kind: 'update', topic, signed }, atMs - services.clock.nowMs, 0)
  }

  #collect(): void {
    const { topic, peer, services } = this.#replica
    const before = this.#letters.length
    for (const { atMs, from, signed, nth, bytes, listeners } of topic.announced.since(this.#place)) {
      const delayMs = from === peer ? 0 : services.network.gossipDelayMs(from, peer, bytes, listeners, nth)
      if (delayMs >= 0) this.#letters.push({ atMs: atMs + delayMs, from, signed, kept: false })
    }
    this.#place = topic.announced.end
    if (this.#letters.length > before) this.#letters.sort((one, other) => one.atMs - other.atMs)
  }
}

const ignoring = new Set<FederationEvent['type']>(['participation', 'parent-head', 'timer', 'verified'])

/**
 * Whether an update that was announced makes no difference to what follows from the event. It does where a round may be opened, which
 * begins with the known ones; where members change, for theirs go with them; and where another update comes, for only one of two counts.
 */
export function ignoresUpdates(event: FederationEvent): boolean {
  if (ignoring.has(event.type)) return true
  if (event.type !== 'consensus') return false
  const { event: inner } = event
  if (inner.type === 'certified') return inner.entry.kind === 'round'
  if (inner.type !== 'message') return inner.type === 'ranked'
  const { type } = inner.message
  return type !== 'vote-reply' && type !== 'pre-vote-reply' && type !== 'timeout-now'
}
