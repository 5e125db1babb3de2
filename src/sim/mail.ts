/**
 * Updates on their way to a replica that has nothing to do with them but to keep them (voice.ts). They are taken in the order in which they
 * come, each as of its moment, before anything else happens to the replica; once an update may have consequences there, the rest is delivered.
 */
import type { PeerCore, ReplicaCore, SignedRecord } from './core.ts'

interface Letter {
  atMs: number
  from: PeerCore
  signed: SignedRecord
}

export class Mail {
  readonly #replica: ReplicaCore
  readonly #take: (from: PeerCore, signed: SignedRecord) => void
  #letters: Letter[] = []
  /** Those before it are read. */
  #first = 0
  #reading = false

  constructor(replica: ReplicaCore, take: (from: PeerCore, signed: SignedRecord) => void) {
    this.#replica = replica
    this.#take = take
  }

  /** Behind those that come at the same moment. */
  post(letter: Letter): void {
    const letters = this.#letters
    let place = letters.length
    for (; place > this.#first && letters[place - 1]!.atMs > letter.atMs; place--) letters[place] = letters[place - 1]!
    letters[place] = letter
  }

  /** Takes what has come by now. */
  read(): void {
    const { clock } = this.#replica.services
    if (this.#nextMs > clock.nowMs || this.#reading || !this.#replica.alive) return
    this.#reading = true
    try {
      while (this.#nextMs <= clock.nowMs) {
        const { atMs, from, signed } = this.#next()
        clock.asOf(atMs, () => this.#take(from, signed))
      }
    } catch (error) {
      this.#replica.peer.fail(this.#replica.topic, error)
    } finally {
      this.#reading = false
    }
  }

  /** What is still on its way comes as messages. */
  deliver(): void {
    const { topic, peer, services } = this.#replica
    while (this.#nextMs < Number.POSITIVE_INFINITY) {
      const { atMs, from, signed } = this.#next()
      services.network.deliver(from, peer, { kind: 'update', topic, signed }, atMs - services.clock.nowMs, 0)
    }
  }

  get #nextMs(): number {
    return this.#letters[this.#first]?.atMs ?? Number.POSITIVE_INFINITY
  }

  #next(): Letter {
    const letter = this.#letters[this.#first++]!
    if (this.#first === this.#letters.length) {
      this.#letters = []
      this.#first = 0
    }
    return letter
  }
}
