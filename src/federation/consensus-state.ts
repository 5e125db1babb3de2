/** What consensus on one peer is made of: its state, the events that move it, the effects it asks for (consensus.ts). */
import type { Link, PeerName } from '../ids.ts'
import type { Certificate } from './entry.ts'
import { newRecall, type Recall, type Recalled, type SignedPlace, isAwaiting } from './recall.ts'

/** All that consensus itself knows of an entry. */
export interface LogEntry {
  index: number
  prev: Link
  /** New voters, in a `members` entry. */
  voters?: readonly PeerName[]
  /** Peers that may vote from here on, in a `members` entry. */
  enrolled?: readonly { peer: PeerName; nonce: number }[]
}

export interface Accepted<Entry> {
  index: number
  term: number
  link: Link
  entry: Entry
  /** Aggregators that were given this peer's signature of it, since it took it up; left out: there may be some that it has forgotten. */
  signedFor?: readonly PeerName[] | undefined
}

/** What a peer says of its own log when it stands, votes or answers. */
export interface LogPosition {
  commitIndex: number
  /** Term in which the entry at `commitIndex + 1` was accepted; 0 for none. */
  acceptedTerm: number
}

export type ConsensusMessage<Entry> =
  | ({ type: 'pre-vote' | 'vote'; term: number } & LogPosition)
  | { type: 'pre-vote-reply' | 'vote-reply'; term: number; granted: boolean; commitIndex: number }
  | { type: 'heartbeat'; term: number; commitIndex: number }
  | { type: 'heartbeat-reply'; term: number; commitIndex: number }
  /** `signature` over (federation, index, term, link), made and checked by who performs the effects: here the proposer's own. */
  | { type: 'propose'; term: number; link: Link; entry: Entry; signature: Uint8Array }
  /** `signedFor`: for whom else it has signed that (`Accepted`), null: it does not know. Left out: for nobody. */
  | {
      type: 'accept'
      term: number
      index: number
      link: Link
      signature: Uint8Array
      signedFor?: readonly PeerName[] | null | undefined
    }
  | { type: 'refuse'; term: number; index: number; link: Link }
  | { type: 'timeout-now'; term: number }
  /** Where do you stand? From a peer whose memory of its votes may be an old copy (recall.ts). */
  | { type: 'recall' }
  | ({ type: 'recalled' } & Recalled)

export interface Shared<Entry> {
  readonly self: PeerName
  readonly federation: Link
  readonly term: number
  readonly votedFor: PeerName | null
  /** Newest certified index; 0: the genesis charter. */
  readonly commitIndex: number
  /** Link of the newest certified entry, or of the genesis charter. */
  readonly head: Link
  /** Voters of the open index, `commitIndex + 1`. */
  readonly voters: readonly PeerName[]
  readonly accepted: Accepted<Entry> | null
  /** An entry of the open index that this peer proposed and gave up, for too many refused it: it does not take it from another. */
  readonly givenUp: Link | null
  /** Voters that wait to be enrolled, as far as this peer was told: before that they sign nothing. */
  readonly forgetful: ReadonlySet<PeerName>
  readonly aggregator: PeerName | null
  readonly timing: { electionTimeoutMs: number; heartbeatMs: number }
  /** Place in the order of strength, 0 (first) to 1: a stronger peer stands earlier. */
  readonly rank: number
  /**
   * null: this peer remembers how it voted. Else it has no memory of it (new here, or its disk was lost): it neither votes, nor stands,
   * nor accepts until an entry is certified that enrolls it with this number, drawn when its memory began, and kept in it (docs/protocol.md, "Lost votes").
   */
  readonly nonce: number | null
  /** Not null: this peer asks the others, or has asked them lately, what it may have forgotten (recall.ts). */
  readonly recall: Recall | null
  /** The newest entry that it has signed; null: a memory that does not tell. */
  readonly signed: SignedPlace | null
  /** It has met a signature of its own beyond that: its memory is an old copy, and it takes no part before all others have answered. */
  readonly old: boolean
  /** Peers that were seen to sign two entries for one (index, term): nothing they say counts here. */
  readonly distrusted: ReadonlySet<PeerName>
}
export type ConsensusState<Entry extends LogEntry> = Shared<Entry> &
  (
    | { readonly role: 'follower' }
    | { readonly role: 'pre-candidate'; readonly grants: ReadonlySet<PeerName> }
    | { readonly role: 'candidate'; readonly grants: ReadonlySet<PeerName> }
    | {
        readonly role: 'leader'
        /** Signatures of the open entry, and for whom their voters have signed it. */
        readonly signatures: ReadonlyMap<PeerName, Given>
        /** Voters that refused the open entry since the last look, and in how many looks too many of them did. */
        readonly refused: ReadonlySet<PeerName>
        readonly looksRefused: number
        /** Voters heard from since the last look. */
        readonly heard: ReadonlySet<PeerName>
        readonly positions: ReadonlyMap<PeerName, number>
        /** Heartbeats until the next look at `heard`. */
        readonly beatsLeft: number
      }
  )

interface Given extends Pick<Accepted<never>, 'signedFor'> {
  signature: Uint8Array
}

/** The answer to `check`, with what it asked. */
export interface Checked<Entry> {
  from: PeerName
  link: Link
  term: number
  entry: Entry
  ok: boolean
}

export type ConsensusTimer = 'election' | 'heartbeat' | 'recall'

export type ConsensusEvent<Entry> =
  | { type: 'start' }
  | { type: 'timer'; name: ConsensusTimer }
  | { type: 'message'; from: PeerName; message: ConsensusMessage<Entry> }
  | { type: 'propose'; link: Link; entry: Entry }
  | ({ type: 'checked' } & Checked<Entry>)
  /** This peer's own acceptance, signed. */
  | { type: 'signed'; index: number; term: number; link: Link; signature: Uint8Array }
  /** A certificate that was checked, from wherever it came. In order of index. */
  | { type: 'certified'; link: Link; entry: Entry; certificate: Certificate }
  | { type: 'hand-over' }
  /** The connection to `peer` broke: a killed process shows itself so at once, long before its silence does. */
  | { type: 'lost'; peer: PeerName }
  /** Bytes of a blob came from `peer`, behind which its messages wait: it is there, and says what it has to say later. */
  | { type: 'alive'; peer: PeerName }
  | { type: 'ranked'; rank: number }
  | { type: 'distrust'; peer: PeerName }
  /** It does not remember how it voted, and asks to be enrolled anew. */
  | { type: 'forgot'; peer: PeerName }

/** What outlives a restart. */
export interface Memory<Entry>
  extends Pick<Shared<Entry>, 'term' | 'votedFor' | 'accepted' | 'givenUp' | 'nonce' | 'signed' | 'old'> {}

/** Of who has never voted, and knows it. */
export const firstMemory: Memory<never> = {
  term: 0,
  votedFor: null,
  accepted: null,
  givenUp: null,
  nonce: null,
  signed: { index: 0, term: 0 },
  old: false
}

/** Whether a memory that was made `agoMs` ago, and never written to since, is no copy: a founder votes at once. A copy may be from any time. */
export const isNewMemory = (agoMs: number, newForMs: number): boolean => agoMs >= 0 && agoMs < newForMs

export type ConsensusEffect<Entry> =
  | ({ do: 'persist' } & Memory<Entry>)
  | { do: 'send'; to: PeerName; message: ConsensusMessage<Entry> }
  | { do: 'check'; from: PeerName; link: Link; term: number; entry: Entry }
  /** Sign the acceptance; answer `signed`, and send it to `to` unless that is this peer. */
  | { do: 'sign'; to: PeerName; index: number; term: number; link: Link; signedFor?: readonly PeerName[] | null | undefined }
  | { do: 'commit'; link: Link; entry: Entry; certificate: Certificate }
  /** Tell everybody of a certificate that this aggregator has just completed. */
  | { do: 'publish'; link: Link; entry: Entry; certificate: Certificate }
  | { do: 'fetch'; from: PeerName; fromIndex: number }
  | { do: 'start-timer'; name: ConsensusTimer; ms: number; jitterMs: number }
  | { do: 'stop-timer'; name: ConsensusTimer }
  | { do: 'became-aggregator'; term: number }
  | { do: 'stepped-down' }
  | { do: 'aggregator-changed'; peer: PeerName | null; term: number }
  /** A certificate holds a signature of this peer that it does not remember, of the entry at `index`. */
  | { do: 'memory-old'; index: number }

export interface ConsensusStart<Entry> {
  self: PeerName
  federation: Link
  term: number
  votedFor: PeerName | null
  commitIndex: number
  head: Link
  voters: readonly PeerName[]
  accepted: Accepted<Entry> | null
  timing: { electionTimeoutMs: number; heartbeatMs: number }
  rank: number
  givenUp?: Link | null
  /** See `Shared.nonce`; left out: it remembers. */
  nonce?: number | null
  signed?: SignedPlace | null
  old?: boolean
  /** Its memory comes from a disk, and may be an old copy. Not that of who has just founded the federation: there is nobody yet to listen to. */
  fromDisk?: boolean
}

/** A value, which nobody changes: one for all peers in one process. */
const nobody: ReadonlySet<PeerName> = new Set()

/** What was on the disk, as the state that it resumes. An acceptance at an index that is certified by now is dropped. */
export function initialConsensus<Entry extends LogEntry>(start: ConsensusStart<Entry>): ConsensusState<Entry> {
  const { nonce = null, signed = start.accepted, old = false, fromDisk = false, givenUp = null, ...rest } = start
  const open = start.accepted !== null && start.accepted.index === start.commitIndex + 1 ? start.accepted : null
  // An old copy has forgotten for whom it signed it since.
  const accepted = open !== null && old ? { ...open, signedFor: undefined } : open
  // It was given up at the index that this peer has signed last.
  const given = { givenUp: signed?.index === start.commitIndex + 1 ? givenUp : null }
  const memory = { nonce, accepted, ...given, signed: signed && { index: signed.index, term: signed.term }, old }
  const recall = fromDisk || old ? newRecall(start.timing) : null
  return { ...rest, ...memory, recall, forgetful: nobody, aggregator: null, distrusted: nobody, role: 'follower' }
}

/** Whether this peer has a vote and a memory of it, be it an old one. */
export const isVoter = <Entry extends LogEntry>({ voters, self, nonce }: ConsensusState<Entry>): boolean =>
  voters.includes(self) && nonce === null
/** Whether it has yet to be told what it may have forgotten. Who has the only vote listens as long as others would be asked: it may have been given more. */
export const inDoubt = <Entry extends LogEntry>(state: ConsensusState<Entry>): boolean =>
  state.recall !== null && isVoter(state) && (isAlone(state) || isAwaiting(state))
export const isAlone = <Entry extends LogEntry>({ voters }: ConsensusState<Entry>): boolean => voters.length === 1
/**
 * Whether this peer has the only vote by a memory that may be an old one: whom it was given as company since it does not know, and they are
 * in no roster that it has.
 */
export const mayHaveCompany = <Entry extends LogEntry>(state: ConsensusState<Entry>): boolean =>
  isAlone(state) && inDoubt(state)
/**
 * Whether this peer's log ends before what it has signed: it had that, and lost it (a damaged archive that was moved away, a torn end). A sole
 * voter would certify another entry in the place of one that it certified itself. One entry is missing for sure to a sole voter alone: others
 * give up what they have signed.
 */
export const hasLostEnd = <Entry extends LogEntry>(state: ConsensusState<Entry>): boolean => {
  const { signed, commitIndex, accepted } = state
  if (signed === null) return false
  return signed.index > commitIndex + 1 || (signed.index === commitIndex + 1 && accepted === null && isAlone(state))
}
/** Whether this peer has a vote and knows how it used it so far. */
export const mayVote = <Entry extends LogEntry>(state: ConsensusState<Entry>): boolean =>
  isVoter(state) && !inDoubt(state) && !hasLostEnd(state)
export const majority = (voters: readonly PeerName[]): number => Math.floor(voters.length / 2) + 1
export const position = <Entry extends LogEntry>({ commitIndex, accepted }: ConsensusState<Entry>): LogPosition => ({
  commitIndex,
  acceptedTerm: accepted?.term ?? 0
})

/**
 * How far a voter's word moves another's term at once. One that lies could tell of the last number that there is: whoever believed it had no
 * term left to stand in, and told others. Terms rise by one an election, so an honest one is seldom ahead by more; whoever is, is followed
 * by some of its messages.
 */
export const termStepMax = 10_000

/** Raft §5.4.1, with index before term (see above): is `theirs` at least as good as `ours`? */
export function isUpToDate(theirs: LogPosition, ours: LogPosition): boolean {
  if (theirs.commitIndex !== ours.commitIndex) return theirs.commitIndex > ours.commitIndex
  return theirs.acceptedTerm >= ours.acceptedTerm
}

/**
 * Looks in a row at which an entry cannot reach a majority because of refusals, until its aggregator hands over: what one peer does
 * not hold yet is fetched within that time; what the voters know better than their aggregator is not.
 */
export const looksRefusedMax = 3

/** Heartbeats in an election timeout: how often a leader looks whether a majority still answers. */
export const beatsPerLook = ({ electionTimeoutMs, heartbeatMs }: { electionTimeoutMs: number; heartbeatMs: number }): number =>
  Math.max(1, Math.ceil(electionTimeoutMs / heartbeatMs))
