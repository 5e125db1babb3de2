/** What one peer knows of one federation, and what it begins with. */
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import type { ConsensusState } from './consensus-state.ts'
import type { Enrolled, Entry, Evicted, Left, Member } from './entry.ts'
import type { Lateness } from './lateness.ts'
import type { KnownUpdates } from './known-updates.ts'
import type { Roster } from './membership.ts'
import type { Participation, RoundHead } from './participation.ts'
import type { ParentHead, RoundState } from './round-state.ts'

export interface FederationState {
  readonly id: FederationId
  readonly charter: Charter
  readonly self: PeerName
  readonly consensus: ConsensusState<Entry>
  readonly roster: Roster
  readonly head: RoundHead
  /** Newest bases, the current one last: what a late update may still name. */
  readonly bases: readonly { link: Link; round: number }[]
  /** The highest round of each member that a certified entry counts: an update for it or an earlier one is settled. */
  readonly counted: ReadonlyMap<MemberId, number>
  readonly late: Lateness
  readonly known: KnownUpdates
  /** What was asked for here, until a certified entry settles it. */
  readonly pending: ReadonlyMap<MemberId, Member>
  readonly leaving: ReadonlyMap<MemberId, Left>
  readonly accused: ReadonlyMap<PeerName, Evicted>
  readonly enrolling: ReadonlyMap<PeerName, Enrolled>
  readonly present: ReadonlySet<PeerName>
  /** Peers that this one has not heard for long. */
  readonly away: ReadonlySet<PeerName>
  /** Peers that are there and say that they remember how they voted; or were enrolled by the number by which they asked for it last. */
  readonly remembering: ReadonlySet<PeerName>
  /** By peer that this one hears: which voters have proposed, for the open index, that it is absent. */
  readonly vouched: ReadonlyMap<PeerName, ReadonlySet<PeerName>>
  readonly round: RoundState
  readonly participation: Participation
  readonly parentHead: ParentHead | null
  readonly startTimedOut: boolean
}

/** What is the same for every event; injected, because a link is a hash of bytes and this folder knows none. */
export interface Environment {
  linkOf: (entry: Entry) => Link
  /** Bytes of an update's sketches: groups × 512 × 2. */
  sketchBytes: number
  /** Tokens that one organization can train on in a round: steps × batch × context. */
  roundTokens: number
}
