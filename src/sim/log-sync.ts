/** The certified log between peers: node/log-sync.ts, with the checks of stand-ins.ts. */
import type { PeerName } from '../ids.ts'
import type { Answer, FollowedCore } from './core.ts'
import { type Certified, checkNext } from './stand-ins.ts'

const fetchEntriesMax = 256

export class LogSync {
  readonly #replica: FollowedCore
  #catchingUp = false

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

  /** Fetches what is certified and not here yet. One at a time. */
  catchUp(from: PeerName): void {
    if (this.#catchingUp || from === this.#replica.peer.name || !this.#replica.alive) return
    this.#catchingUp = true
    this.#ask(from)
  }

  #ask(from: PeerName): void {
    const replica = this.#replica
    const before = replica.state.consensus.commitIndex
    replica.ask(from, { kind: 'entries', fromIndex: before + 1 }, answer => {
      if (answer?.kind === 'entries') {
        for (const certified of answer.entries) if (!this.#take(certified)) break
        const { commitIndex } = replica.state.consensus
        if (commitIndex > before && answer.headIndex > commitIndex) {
          this.#ask(from)
          return
        }
      }
      this.#catchingUp = false
    })
  }
}
