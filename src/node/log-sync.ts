/** The certified log between peers: heads that are told, and what is fetched when something is missing. Each certificate is checked here. */
import type { FederationState } from '../federation/federation-state.ts'
import type { PeerName } from '../ids.ts'
import { extendLog, type LogState } from '../wire/certified-log.ts'
import { isMalformed } from '../wire/codec.ts'
import { limits } from '../wire/limits.ts'
import type { Answer, CertifiedBytes } from '../wire/messages.ts'
import { entryCodec } from '../wire/records.ts'
import type { FederationCore } from './federation-core.ts'

/** Peers that are asked in turn. */
const tellersMax = 16

export class LogSync {
  readonly #node: FederationCore
  #asking: PeerName | null = null
  /** Who tells of more than is here, and has not been asked since. */
  readonly #tellers = new Set<PeerName>()
  /** How far the logs of those go that it asks, as they say; 0 when it is done. */
  #toldIndex = 0
  /** Under way. */
  #questions = 0

  constructor(node: FederationCore) {
    this.#node = node
  }

  /** More is on its way: what is the newest here is not. Ends with the question that brings nothing, whatever was told. */
  get isBehind(): boolean {
    return this.#node.state.consensus.commitIndex < this.#toldIndex
  }

  /** @param fromIndex - 0: the charter, which is asked for of many at once, and no entries. */
  entriesFrom(fromIndex: number): Answer {
    const { log, options } = this.#node
    const bytesOf = ({ entry, certificate }: CertifiedBytes) => entry.length + certificate.length
    return {
      kind: 'entries',
      charter: fromIndex === 0 ? options.charterBytes : null,
      entries: fromIndex === 0 ? [] : partOf(log.from(fromIndex - 1), bytesOf, limits.fetchEntriesMax),
      headIndex: log.length
    }
  }

  onHead(from: PeerName, { entry, certificate }: { entry: Uint8Array; certificate: Uint8Array }): void {
    const record = entryCodec.decode(entry)
    if (isMalformed(record) || record.index <= this.#node.state.consensus.commitIndex) return
    if (record.index > this.#node.state.consensus.commitIndex + 1) void this.catchUp(from)
    else this.#certified(from, { entry, certificate })
  }

  /** @returns whether it was the next entry, and rightly certified. */
  #certified(from: PeerName, bytes: CertifiedBytes): boolean {
    const extended = extendLog(logStateOf(this.#node.state), bytes, this.#node.signedUpdates)
    // It came twice, or together with what catches up: neither is a fault.
    if ('code' in extended && extended.code === 'GAP') return false
    if ('code' in extended) {
      this.#node.options.services.events.emit({
        type: 'fault',
        federation: this.#node.path,
        peer: from,
        code: extended.code,
        detail: extended.detail
      })
      return false
    }
    const { entry, certificate, link } = extended
    this.#node.dispatch({ type: 'consensus', event: { type: 'certified', link, entry, certificate } })
    return true
  }

  /** Fetches what is certified and not here yet: one question at a time, and to each that tells of more in turn, for one may be slow, or lie. */
  async catchUp(from: PeerName): Promise<void> {
    if (from === this.#node.self || from === this.#asking || this.#tellers.size >= tellersMax) return
    this.#tellers.add(from)
    if (this.#asking !== null) return
    try {
      // Whoever is added meanwhile has its turn.
      for (const peer of this.#tellers) {
        this.#tellers.delete(peer)
        if (this.#node.stopped) return
        this.#asking = peer
        if (await this.#fetchFrom(peer)) this.#tellers.add(peer)
      }
    } finally {
      this.#asking = null
      this.#toldIndex = 0
    }
  }

  /** Whatever is asked of others meanwhile: who has little time waits for none that does not answer. */
  async askBeside(peer: PeerName): Promise<void> {
    if (await this.#fetchFrom(peer)) await this.catchUp(peer)
  }

  /** @returns whether it has more. */
  async #fetchFrom(peer: PeerName): Promise<boolean> {
    this.#questions++
    let hasMore = false
    try {
      hasMore = await this.#ask(peer)
    } finally {
      this.#questions--
      if (!hasMore && this.#questions === 0) this.#toldIndex = 0
    }
    return hasMore
  }

  async #ask(peer: PeerName): Promise<boolean> {
    const before = this.#node.state.consensus.commitIndex
    const answer = await this.#node.ask(peer, { kind: 'entries', federation: this.#node.id, fromIndex: before + 1 })
    const { entries, headIndex } = answer?.kind === 'entries' ? answer : { entries: [], headIndex: 0 }
    this.#toldIndex = Math.max(this.#toldIndex, headIndex)
    for (const bytes of entries) {
      if (!this.#certified(peer, bytes)) break
      await this.#node.settled()
    }
    const { commitIndex } = this.#node.state.consensus
    return commitIndex > before && headIndex > commitIndex
  }
}

/** What one answer carries of `all`: the first, and those after it that come in time. */
export function partOf<One>(all: Iterable<One>, bytesOf: (one: One) => number, most: number): One[] {
  const part: One[] = []
  let bytes = 0
  for (const one of all) {
    bytes += bytesOf(one)
    if (part.length > 0 && (part.length >= most || bytes > limits.fetchPartBytesMax)) break
    part.push(one)
  }
  return part
}

/** The certified log as far as this peer has it, as the offline check carries it. */
export function logStateOf({ id, charter, roster, consensus, head, bases, counted }: FederationState): LogState {
  return {
    id,
    charter,
    roster,
    index: consensus.commitIndex,
    head: consensus.head,
    rounds: head.round,
    bases: bases.map(({ link }) => link),
    counted
  }
}
