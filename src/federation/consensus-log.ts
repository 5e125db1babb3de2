/** The open entry of consensus (consensus.ts): proposed, checked, accepted, signed, and certified by a majority. */
import { assert } from '../errors.ts'
import type { Link, PeerName } from '../ids.ts'
import { Recalling } from './consensus-recall.ts'
import { type Accepted, beatsPerLook, type Checked, type LogEntry, majority, mayVote } from './consensus-state.ts'
import type { Certificate } from './entry.ts'
import { isBeyond, isKnownAccepted } from './recall.ts'

export class OpenEntry<Entry extends LogEntry> extends Recalling<Entry> {
  propose(link: Link, entry: Entry): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted !== null) return
    assert(entry.index === state.commitIndex + 1 && entry.prev === state.head, 'a proposal follows the head', {
      index: entry.index,
      commitIndex: state.commitIndex
    })
    this.accept({ index: entry.index, term: state.term, link, entry })
  }

  protected onPropose(from: PeerName, { term, link, entry }: { term: number; link: Link; entry: Entry }): void {
    const { state } = this
    if (term < state.term) return
    this.hear(from)
    if (entry.index > state.commitIndex + 1) this.catchUp(from, entry.index - 1)
    if (!mayVote(state) || entry.index !== state.commitIndex + 1 || entry.prev !== state.head) return
    const { accepted } = this.state
    if (accepted !== null && accepted.term === term) {
      // Again: the first answer was lost. Another entry in the same term is an aggregator's lie, and gets none (I2).
      if (accepted.link === link) this.effects.push({ do: 'sign', to: from, index: accepted.index, term, link })
      return
    }
    // An entry that was checked and accepted in an earlier term needs no second check, as it was then.
    if (accepted !== null && accepted.link === link) this.acceptFrom(from, { ...accepted, term })
    else if (this.state.givenUp === link) this.refuse(from, term, entry.index, link)
    else this.effects.push({ do: 'check', from, link, term, entry })
  }

  /** Of what it may have accepted and forgotten (recall.ts) it says nothing: who refuses an entry tells that it does not hold it. */
  protected refuse(to: PeerName, term: number, index: number, link: Link): void {
    if (this.isBehind()) return
    this.effects.push({ do: 'send', to, message: { type: 'refuse', term, index, link } })
  }

  onChecked({ from, link, term, entry, ok }: Checked<Entry>): void {
    const { state } = this
    const open = term === state.term && entry.index === state.commitIndex + 1 && entry.prev === state.head
    if (!open || !mayVote(state) || (state.accepted !== null && state.accepted.term >= term)) return
    // What it may have accepted before it forgot can be settled by nobody else, should others refuse it too.
    if (ok || (state.old && this.isBehind() && isKnownAccepted(state, link)))
      this.acceptFrom(from, { index: entry.index, term, link, entry })
    else this.refuse(from, term, entry.index, link)
  }

  protected acceptFrom(to: PeerName, accepted: Accepted<Entry>): void {
    assert(accepted.term === this.state.term, 'I2: accepted in the term in force', {
      accepted: accepted.term,
      term: this.state.term
    })
    assert((this.state.accepted?.term ?? 0) < accepted.term, 'I2: one acceptance a term', { term: accepted.term })
    this.state = { ...this.state, accepted, signed: { index: accepted.index, term: accepted.term } }
    this.persist() // I2: not spoken before it is stored
    this.effects.push({ do: 'sign', to, index: accepted.index, term: accepted.term, link: accepted.link })
  }

  /** The leader's own acceptance of what it proposes, under its term. */
  protected accept(accepted: Accepted<Entry>): void {
    assert(this.state.role === 'leader', 'only a leader proposes')
    const signed = { index: accepted.index, term: accepted.term }
    this.state = { ...this.state, accepted, signed, signatures: new Map(), refused: new Set(), looksRefused: 0 }
    this.persist()
    this.effects.push({ do: 'sign', to: this.state.self, index: accepted.index, term: accepted.term, link: accepted.link })
  }

  onSignature(from: PeerName, index: number, term: number, link: Link, signature: Uint8Array): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted === null || term !== state.term) return
    if (index !== state.accepted.index || link !== state.accepted.link || !state.voters.includes(from)) return
    const signatures = new Map(state.signatures).set(from, signature)
    this.state = { ...state, signatures, heard: new Set(state.heard).add(from) }
    if (from === state.self) this.repropose()
    if (signatures.size < majority(state.voters)) return
    const sorted = [...signatures].sort(([left], [right]) => (left < right ? -1 : 1))
    const certificate: Certificate = {
      federation: state.federation,
      index,
      term,
      entry: link,
      signatures: sorted.map(([voter, bytes]) => ({ voter, signature: bytes }))
    }
    const { entry } = state.accepted
    this.onCertified(link, entry, certificate)
    this.effects.push({ do: 'publish', link, entry, certificate })
  }

  onRefuse(from: PeerName, index: number, term: number, link: Link): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted === null || term !== state.term) return
    if (index !== state.accepted.index || link !== state.accepted.link) return
    this.state = { ...state, refused: new Set(state.refused).add(from) }
  }

  /**
   * Those that refused the open entry do not hold it, so none of them had accepted it when it entered this term, and the others are too few
   * to certify it. Nothing else was certified at its index either, or it would be what this aggregator had to propose; and a certificate
   * of this term could only be made here. So it is forgotten, and whoever is elected next is free. Held on to, it could block for good: one
   * voter holds it, another holds a second entry, and each refuses the other's.
   */
  protected giveUp(): void {
    this.state = { ...this.state, accepted: null, givenUp: this.state.accepted?.link ?? null }
    this.persist()
    // It may propose nothing else in its term; another aggregator may.
    this.handOver()
  }

  /** Moves the log on by one certified entry; a certificate of another index is late or early, and changes nothing. */
  onCertified(link: Link, entry: Entry, certificate: Certificate): void {
    if (certificate.index !== this.state.commitIndex + 1 || entry.index !== certificate.index) return
    if (certificate.term > this.state.term) this.follow(certificate.term, null)
    const { self, signed } = this.state
    const isSigned = this.state.nonce === null && certificate.signatures.some(({ voter }) => voter === self)
    if (isSigned && signed !== null && isBeyond(certificate, signed))
      this.proveOld({ index: certificate.index, term: certificate.term })
    const { state } = this
    assert(entry.prev === state.head, 'I1: the certified entry follows the certified head', { index: entry.index })
    const could = mayVote(state)
    const voters = entry.voters ?? state.voters
    const enrolled = entry.enrolled?.some(({ peer, nonce }) => peer === state.self && nonce === state.nonce) ?? false
    const nonce = enrolled ? null : state.nonce
    this.state = { ...state, commitIndex: certificate.index, head: link, voters, nonce, accepted: null, givenUp: null }
    // Whatever it signed in a life that it has forgotten concerns indices up to here.
    if (enrolled) this.state = { ...this.state, signed: { index: certificate.index, term: certificate.term }, old: false }
    this.effects.push({ do: 'commit', link, entry, certificate })
    // Who catches up, or has no vote, has accepted nothing: there is nothing to forget, and each write waits for the disk.
    if (state.accepted !== null || enrolled) this.persist()
    if (this.state.role === 'leader') {
      // A majority has just signed: it is looked for anew, and a new voter has as long to answer as the others.
      const look = { heard: new Set<PeerName>(), beatsLeft: beatsPerLook(this.state.timing) }
      this.state = { ...this.state, ...look, signatures: new Map(), refused: new Set(), looksRefused: 0 }
      if (!mayVote(this.state)) this.handOver()
      return
    }
    // The votes of a candidate were for the index before.
    if (this.state.role !== 'follower') this.follow(this.state.term, this.state.aggregator)
    else if (could !== mayVote(this.state)) this.restElection()
  }

  /** Messages get lost: the open entry goes again to whoever has not signed it. */
  protected repropose(): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted === null) return
    // Its own signature goes along: two of them on different entries prove that it lied (evidence.ts).
    const signature = state.signatures.get(state.self)
    if (signature === undefined) return
    for (const voter of state.voters) {
      if (voter === state.self || state.signatures.has(voter)) continue
      const { link, entry } = state.accepted
      this.effects.push({ do: 'send', to: voter, message: { type: 'propose', term: state.term, link, entry, signature } })
    }
  }
}
