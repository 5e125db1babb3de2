/** The certified log between peers: heads that are told, and what is fetched when something is missing. Each certificate is checked here. */
import type { FederationState } from '../federation/federation-state.ts'
import type { PeerName } from '../ids.ts'
import { extendLog, type LogState } from '../wire/certified-log.ts'
import { isMalformed } from '../wire/codec.ts'
import { limits } from '../wire/limits.ts'
import type { Answer, CertifiedBytes } from '../wire/messages.ts'
import { entryCodec } from '../wire/records.ts'
import type { FederationCore } from './federation-core.ts'

export class LogSync {
  readonly #node: FederationCore
  #catchingUp = false
  /** How far the log of whom it catches up from goes, as that peer says; 0 when it is done. */
  #toldIndex = 0

  constructor(node: FederationCore) {
    this.#node = node
  }

  /** More is on its way: what is the newest here is not. Ends with the question that brings nothing, whatever was told. */
  get isBehind(): boolean {
    return this.#node.state.consensus.commitIndex < this.#toldIndex
  }

  entriesFrom(fromIndex: number): Answer {
    const entries: CertifiedBytes[] = []
    let bytes = 0
    for (const one of this.#node.log.from(fromIndex - 1)) {
      bytes += one.entry.length + one.certificate.length
      if (entries.length >= limits.fetchEntriesMax || bytes > limits.fetchAnswerBytesMax / 2) break
      entries.push(one)
    }
    return {
      kind: 'entries',
      charter: fromIndex === 0 ? this.#node.options.charterBytes : null,
      entries,
      headIndex: this.#node.log.length
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

  /** Fetches what is certified and not here yet. One at a time. */
  async catchUp(from: PeerName): Promise<void> {
    if (this.#catchingUp || from === this.#node.self || this.#node.stopped) return
    this.#catchingUp = true
    try {
      for (let more = true; more && !this.#node.stopped; ) {
        const before = this.#node.state.consensus.commitIndex
        const answer = await this.#node.ask(from, { kind: 'entries', federation: this.#node.id, fromIndex: before + 1 })
        if (answer?.kind !== 'entries') return
        this.#toldIndex = answer.headIndex
        for (const bytes of answer.entries) {
          if (!this.#certified(from, bytes)) break
          await this.#node.settled()
        }
        more = this.#node.state.consensus.commitIndex > before && answer.headIndex > this.#node.state.consensus.commitIndex
      }
    } finally {
      this.#catchingUp = false
      this.#toldIndex = 0
    }
  }
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
