/**
 * Who signed what of the newest entries, and the proof when somebody signed two (docs/protocol.md, "Members that leave, lie, or are gone").
 *
 * Acceptances come in with proposals, with answers to one's own, with what voters tell the topic of theirs, and with certificates. All
 * are checked before they count, here, for nothing behind checks a signature again.
 */
import type { Certificate, Evicted, Update } from '../federation/entry.ts'
import { rosterPeers } from '../federation/membership.ts'
import type { Link, PeerName } from '../ids.ts'
import { checkEvidence, evidenceOf } from '../wire/member-proofs.ts'
import { acceptBytes, verifyPeerSignature } from '../wire/signature.ts'
import type { Acceptance, FederationCore } from './federation-core.ts'

/** Nine voters over a hundred terms and indices; the oldest go. Whoever lies at an older index has long been outvoted. */
const acceptancesMax = 1024

export class Evidence {
  readonly #node: FederationCore
  readonly #seen = new Map<string, Acceptance>()
  /** Proofs found here, told until they are in the log. */
  readonly #found = new Map<PeerName, Evicted>()

  constructor(node: FederationCore) {
    this.#node = node
  }

  /** @returns whether `peer` did sign it. */
  see(peer: PeerName, acceptance: Acceptance): boolean {
    const { index, term, link, signature } = acceptance
    const key = `${peer} ${index} ${term}`
    const known = this.#seen.get(key)
    if (known !== undefined && known.link === link && Buffer.compare(known.signature, signature) === 0) return true
    if (!verifyPeerSignature(peer, acceptBytes(this.#node.id, index, term, link), signature)) return false
    // A stranger's acceptances count for nothing, and would only push others out.
    if (!rosterPeers(this.#node.state.roster, this.#node.options.charter).has(peer)) return true
    if (known === undefined) this.#keep(key, acceptance)
    else if (known.link !== link) this.#prove(peer, known, acceptance)
    return true
  }

  /** What this peer has just accepted from `proposer`, for all to see. */
  tell(acceptance: Acceptance, proposer: PeerName): void {
    const { self, id } = this.#node
    this.see(self, acceptance)
    const { index, term, link } = acceptance
    const theirs = this.#seen.get(`${proposer} ${index} ${term}`)
    const signatures = [{ voter: self, signature: acceptance.signature }]
    if (theirs?.link === link) signatures.push({ voter: proposer, signature: theirs.signature })
    this.#node.say({ kind: 'accepts', accepts: { federation: id, index, term, entry: link, signatures } })
  }

  /** Of a certificate, or of what a voter told. Names that are not in the roster count for nothing. */
  seeAll(peers: ReadonlySet<PeerName>, { federation, index, term, entry, signatures }: Certificate): void {
    if (federation !== this.#node.id) return
    for (const { voter, signature } of signatures)
      if (peers.has(voter)) this.see(voter, { index, term, link: entry, signature })
  }

  /** A proof that another found. */
  onEvidence(from: PeerName, evicted: Evicted): void {
    const { accused, roster } = this.#node.state
    if (accused.has(evicted.peer) || roster.evicted.has(evicted.peer)) return
    const why = checkEvidence(this.#node.id, evicted)
    if (why === null) this.#node.dispatch({ type: 'accuse', evicted })
    else this.#fault(from, 'BAD_EVIDENCE', why)
  }

  /** Gossip may lose a proof, and an aggregator may be new. */
  again(): void {
    for (const [peer, evicted] of this.#found) {
      if (this.#node.state.roster.evicted.has(peer)) this.#found.delete(peer)
      else {
        this.#node.say({ kind: 'evidence', evicted })
        this.#node.dispatch({ type: 'accuse', evicted })
      }
    }
  }

  /** Two updates of one organization for one round: a fault, but no proof of a lie, for a restored disk does the same. */
  seeUpdate(link: Link, update: Update): void {
    const known = this.#node.state.known.get(update.member)
    const twice = known !== undefined && known.link !== link && known.update.by === update.by && update.member === update.by
    if (twice && known.update.round === update.round && known.update.base === update.base)
      this.#fault(update.by, 'TWO_UPDATES', `${known.link} and ${link} for round ${update.round}`)
  }

  #keep(key: string, acceptance: Acceptance): void {
    this.#seen.set(key, acceptance)
    const surplus = this.#seen.size - acceptancesMax
    if (surplus > 0) for (const old of [...this.#seen.keys()].slice(0, surplus)) this.#seen.delete(old)
  }

  #prove(peer: PeerName, one: Acceptance, other: Acceptance): void {
    if (this.#found.has(peer) || peer === this.#node.self) return
    const { index, term } = one
    const evicted = evidenceOf(peer, {
      index,
      term,
      entries: [one.link, other.link],
      signatures: [one.signature, other.signature]
    })
    this.#found.set(peer, evicted)
    this.#fault(peer, 'TWO_ACCEPTANCES', `it signed ${one.link} and ${other.link} at index ${index}, term ${term}`)
    this.again()
  }

  #fault(peer: PeerName, code: string, detail: string): void {
    this.#node.options.services.events.emit({ type: 'fault', federation: this.#node.path, peer, code, detail })
  }
}
