/** The open entry of consensus (consensus.ts): proposed, checked, accepted, signed, and certified by a majority. */
import { assert } from '../errors.ts'
import type { Link, PeerName } from '../ids.ts'
import { Recalling } from './consensus-recall.ts'
import {
  type Accepted,
  beatsPerLook,
  type Checked,
  type ConsensusMessage,
  type LogEntry,
  majority,
  mayVote
} from './consensus-state.ts'
import type { Certificate } from './entry.ts'
import { isBeyond, isKnownAccepted, maySignedFor } from './recall.ts'

type Signature = Omit<Extract<ConsensusMessage<never>, { type: 'accept' }>, 'type'>

/** @param before - for whom it was signed before; undefined: that is not known. */
function signedAlsoFor<Entry>(
  aggregator: PeerName,
  before: readonly PeerName[] | undefined,
  { index, term, link, entry }: Accepted<Entry>
): Accepted<Entry> {
  const signedFor = before === undefined ? {} : { signedFor: [...new Set([...before, aggregator])] }
  return { index, term, link, entry, ...signedFor }
}

function forgetfulAfter(forgetful: ReadonlySet<PeerName>, { enrolled = [] }: LogEntry): ReadonlySet<PeerName> {
  if (!enrolled.some(({ peer }) => forgetful.has(peer))) return forgetful
  return new Set([...forgetful].filter(one => !enrolled.some(({ peer }) => peer === one)))
}

export class OpenEntry<Entry extends LogEntry> extends Recalling<Entry> {
  propose(link: Link, entry: Entry): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted !== null) return
    assert(entry.index === state.commitIndex + 1 && entry.prev === state.head, 'a proposal follows the head', {
      index: entry.index,
      commitIndex: state.commitIndex
    })
    this.accept({ index: entry.index, term: state.term, link, entry, signedFor: [] })
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
      if (accepted.link === link) this.sign(from, accepted)
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
      this.acceptFrom(from, {
        index: entry.index,
        term,
        link,
        entry,
        signedFor: this.hasSignedNone(entry.index) ? [] : undefined
      })
    else this.refuse(from, term, entry.index, link)
  }

  /**
   * Whether this peer knows that it has not signed, for the open index, what it does not hold. Who has signed something there, and neither
   * holds it nor gave it up, has lost the end of its log, and with it maybe a certificate.
   */
  protected hasSignedNone(index: number): boolean {
    const { old, signed, accepted, givenUp } = this.state
    if (old || signed === null) return false
    return signed.index < index || accepted !== null || givenUp !== null
  }

  protected acceptFrom(to: PeerName, accepted: Accepted<Entry>): void {
    assert(accepted.term === this.state.term, 'I2: accepted in the term in force', {
      accepted: accepted.term,
      term: this.state.term
    })
    assert((this.state.accepted?.term ?? 0) < accepted.term, 'I2: one acceptance a term', { term: accepted.term })
    const mine = signedAlsoFor(to, maySignedFor(this.state, accepted.link, accepted.signedFor), accepted)
    this.state = { ...this.state, accepted: mine, signed: { index: accepted.index, term: accepted.term } }
    this.persist() // I2: not spoken before it is stored
    this.sign(to, mine)
  }

  protected sign(to: PeerName, { index, term, link, signedFor }: Accepted<Entry>): void {
    const others = signedFor?.filter(peer => peer !== to) ?? null
    this.effects.push({ do: 'sign', to, index, term, link, ...(others?.length === 0 ? {} : { signedFor: others }) })
  }

  /** The leader's own acceptance of what it proposes, under its term. */
  protected accept(accepted: Accepted<Entry>): void {
    assert(this.state.role === 'leader', 'only a leader proposes')
    const mine = signedAlsoFor(this.state.self, accepted.signedFor, accepted)
    const signed = { index: accepted.index, term: accepted.term }
    this.state = { ...this.state, accepted: mine, signed, signatures: new Map(), refused: new Set(), looksRefused: 0 }
    this.persist()
    this.sign(this.state.self, mine)
  }

  onSignature(from: PeerName, { index, term, link, signature, signedFor = [] }: Signature): void {
    const { state } = this
    if (state.role !== 'leader' || state.accepted === null || term !== state.term) return
    if (index !== state.accepted.index || link !== state.accepted.link || !state.voters.includes(from)) return
    // Whether it has signed it for this aggregator in an earlier term, too, it need not say.
    const given = { signature, signedFor: signedFor === null ? undefined : [...signedFor, state.self] }
    const signatures = new Map(state.signatures).set(from, given)
    this.state = { ...state, signatures, heard: new Set(state.heard).add(from) }
    if (from === state.self) this.repropose()
    if (signatures.size < majority(state.voters)) return
    const sorted = [...signatures].sort(([left], [right]) => (left < right ? -1 : 1))
    const certificate: Certificate = {
      federation: state.federation,
      index,
      term,
      entry: link,
      signatures: sorted.map(([voter, given]) => ({ voter, signature: given.signature }))
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
   * Nobody has certified the open entry (giving-up.ts). Nothing else was certified at its index either, or it would be what this aggregator
   * had to propose; and a certificate of this term could only be made here. So it is forgotten, and whoever is elected next is free. Held on
   * to, it could block for good: one voter holds it, another holds a second entry, and each refuses the other's.
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
    const settled = { accepted: null, givenUp: null, forgetful: forgetfulAfter(state.forgetful, entry) }
    this.state = { ...state, commitIndex: certificate.index, head: link, voters, nonce, ...settled }
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
    const own = state.signatures.get(state.self)
    if (own === undefined) return
    for (const voter of state.voters) {
      if (voter === state.self || state.signatures.has(voter)) continue
      const { link, entry } = state.accepted
      this.effects.push({
        do: 'send',
        to: voter,
        message: { type: 'propose', term: state.term, link, entry, signature: own.signature }
      })
    }
  }
}
