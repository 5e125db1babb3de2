/** The certified log between peers: node/log-sync.ts, with the checks of stand-ins.ts. */
import type { PeerName } from '../ids.ts'
import type { Answer, FollowedCore } from './core.ts'
import { type Certified, checkNext } from './stand-ins.ts'

const fetchEntriesMax = 256
const tellersMax = 16

export class LogSync {
  readonly #replica: FollowedCore
  #asking: PeerName | null = null
  readonly #tellers = new Set<PeerName>()

  constructor(replica: FollowedCore) {
    this.#replica = replica
  }

  entriesFrom(fromIndex: number): Answer {
    const { log } = this.#replica
    const begin = Math.max(0, fromIndex - 1)
    return { kind: 'entries', entries: log.slice(begin, begin + fetchEntriesMax), headIndex: log.length }
  }

  onHead(from: PeerName, certified: Certified): void {
    const { commitIndex } = this.#replica.state.consensus
    if (certified.entry.index <= commitIndex) return
    if (certified.entry.index > commitIndex + 1) this.catchUp(from)
    else this.#take(certified)
  }

  /** @returns whether it was the next entry, and rightly certified. */
  #take(certified: Certified): boolean {
    if (checkNext(this.#replica.state, certified) !== null) return false
    this.#replica.dispatch({ type: 'consensus', event: { type: 'certified', ...certified } })
    return true
  }

  /** Fetches what is certified and not here yet: one question at a time, and to each that tells of more in turn. */
  catchUp(from: PeerName): void {
    if (from === this.#replica.peer.name || from === this.#asking || !this.#replica.alive || this.#tellers.size >= tellersMax)
      return
    this.#tellers.add(from)
    if (this.#asking === null) this.#next()
  }

  #next(): void {
    const [peer] = this.#tellers
    this.#asking = peer ?? null
    if (peer === undefined) return
    this.#tellers.delete(peer)
    this.#ask(peer)
  }

  #ask(from: PeerName): void {
    this.#askFor(from, hasMore => {
      if (hasMore) this.#tellers.add(from)
      this.#next()
    })
  }

  /** Whatever is asked of others meanwhile. */
  askBeside(from: PeerName): void {
    this.#askFor(from, hasMore => {
      if (hasMore) this.catchUp(from)
    })
  }

  #askFor(from: PeerName, done: (hasMore: boolean) => void): void {
    const replica = this.#replica
    const before = replica.state.consensus.commitIndex
    replica.ask(from, { kind: 'entries', fromIndex: before + 1 }, answer => {
      if (answer?.kind !== 'entries') {
        done(false)
        return
      }
      for (const certified of answer.entries) if (!this.#take(certified)) break
      const { commitIndex } = replica.state.consensus
      done(commitIndex > before && answer.headIndex > commitIndex)
    })
  }
}
