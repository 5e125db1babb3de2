/**
 * Who signed what of the newest entries, and the proof when somebody signed two (docs/protocol.md, "Members that leave, lie, or are gone").
 *
 * Acceptances come in with proposals, with answers to one's own, with what voters tell the topic of theirs, and with certificates.
 *
 * Is: what the daemon and the simulator do alike; signatures and proofs are the host's.
 * Is not: persisted. Whoever found a proof says it until it is in the log; all who heard it hold it too.
 */
import type { FederationId, Link, PeerName } from '../ids.ts'
import type { Certificate, Evicted, Update } from './entry.ts'
import type { FederationState } from './federation-state.ts'

/**
 * Of each peer over so many terms and indices; its oldest go. Whoever lies at an older index has long been outvoted. Each has room of its own:
 * one that signs what it likes pushes nobody else's out.
 */
const acceptancesMax = 128

/** That a voter accepts an entry, with its signature. */
export interface Acceptance {
  index: number
  term: number
  link: Link
  signature: Uint8Array
}

export type EvidenceMessage = { kind: 'accepts'; accepts: Certificate } | { kind: 'evidence'; evicted: Evicted }

export interface EvidenceHost {
  readonly state: FederationState
  /** Who may speak in the federation's topic. */
  speakers(): ReadonlySet<PeerName>
  isSigned(peer: PeerName, acceptance: Acceptance): boolean
  /** What a `members` entry carries to evict `peer`. */
  prove(peer: PeerName, one: Acceptance, other: Acceptance): Evicted
  /** @returns why it proves nothing, or null. */
  check(federation: FederationId, evicted: Evicted): string | null
  say(message: EvidenceMessage): void
  /** The machine's event `accuse`. */
  accuse(evicted: Evicted): void
  fault(peer: PeerName, code: 'TWO_ACCEPTANCES' | 'TWO_UPDATES' | 'BAD_EVIDENCE', detail: string): void
}

export class Evidence {
  readonly #host: EvidenceHost
  readonly #seen = new Map<PeerName, Map<string, Acceptance>>()
  /** Proofs found here, told until they are in the log. */
  readonly #found = new Map<PeerName, Evicted>()

  constructor(host: EvidenceHost) {
    this.#host = host
  }

  /** @returns whether `peer` did sign it. */
  see(peer: PeerName, acceptance: Acceptance): boolean {
    const { index, term, link, signature } = acceptance
    const key = `${index} ${term}`
    const known = this.#seen.get(peer)?.get(key)
    if (known !== undefined && known.link === link && isSame(known.signature, signature)) return true
    if (!this.#host.isSigned(peer, acceptance)) return false
    // A stranger's acceptances count for nothing, and would only push others out.
    if (!this.#host.speakers().has(peer)) return true
    if (known === undefined) this.#keep(peer, key, acceptance)
    else if (known.link !== link) this.#prove(peer, known, acceptance)
    return true
  }

  /** What this peer has just accepted from `proposer`, for all to see. */
  tell(acceptance: Acceptance, proposer: PeerName): void {
    const { self, id } = this.#host.state
    this.see(self, acceptance)
    const { index, term, link } = acceptance
    const theirs = this.#seen.get(proposer)?.get(`${index} ${term}`)
    const signatures = [{ voter: self, signature: acceptance.signature }]
    if (theirs?.link === link) signatures.push({ voter: proposer, signature: theirs.signature })
    this.#host.say({ kind: 'accepts', accepts: { federation: id, index, term, entry: link, signatures } })
  }

  /** Of a certificate, or of what a voter told. Names that are not in the roster count for nothing. */
  seeAll({ federation, index, term, entry, signatures }: Certificate): void {
    if (federation !== this.#host.state.id) return
    const peers = this.#host.speakers()
    for (const { voter, signature } of signatures)
      if (peers.has(voter)) this.see(voter, { index, term, link: entry, signature })
  }

  /** A proof that another found. */
  onEvidence(from: PeerName, evicted: Evicted): void {
    const { accused, roster, id } = this.#host.state
    if (accused.has(evicted.peer) || roster.evicted.has(evicted.peer)) return
    // Whoever has no place is to lose none, and anyone can make up peers that sign twice. Where its entry has not reached us, it is said again.
    if (!this.#host.speakers().has(evicted.peer)) return
    const why = this.#host.check(id, evicted)
    if (why === null) this.#host.accuse(evicted)
    else this.#host.fault(from, 'BAD_EVIDENCE', why)
  }

  /** Every `presenceMs`: gossip may lose a proof, and an aggregator may be new. */
  again(): void {
    const peers = this.#host.speakers()
    for (const peer of this.#seen.keys()) if (!peers.has(peer)) this.#seen.delete(peer)
    for (const [peer, evicted] of this.#found) {
      if (this.#host.state.roster.evicted.has(peer)) this.#found.delete(peer)
      else {
        this.#host.say({ kind: 'evidence', evicted })
        this.#host.accuse(evicted)
      }
    }
  }

  /** Two updates of one organization for one round: a fault, but no proof of a lie, for a restored disk does the same. */
  seeUpdate(link: Link, update: Update): void {
    const known = this.#host.state.known.get(update.member)
    const twice = known !== undefined && known.link !== link && known.update.by === update.by && update.member === update.by
    if (twice && known.update.round === update.round && known.update.base === update.base)
      this.#host.fault(update.by, 'TWO_UPDATES', `${known.link} and ${link} for round ${update.round}`)
  }

  #keep(peer: PeerName, key: string, acceptance: Acceptance): void {
    const mine = this.#seen.get(peer) ?? new Map<string, Acceptance>()
    this.#seen.set(peer, mine.set(key, acceptance))
    if (mine.size > acceptancesMax) mine.delete(mine.keys().next().value!)
  }

  #prove(peer: PeerName, one: Acceptance, other: Acceptance): void {
    if (this.#found.has(peer) || peer === this.#host.state.self) return
    this.#found.set(peer, this.#host.prove(peer, one, other))
    const { index, term } = one
    this.#host.fault(peer, 'TWO_ACCEPTANCES', `it signed ${one.link} and ${other.link} at index ${index}, term ${term}`)
    this.again()
  }
}

const isSame = (one: Uint8Array, other: Uint8Array): boolean =>
  one.length === other.length && one.every((byte, place) => byte === other[place])
