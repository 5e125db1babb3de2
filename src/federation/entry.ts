/**
 * The certified log of a federation (docs/protocol.md, "The log"): entries, and the certificates that make them final.
 *
 *   genesis charter ← entry 1 ← entry 2 ← …        `prev` is the link of the one before; index 0 is the genesis charter
 *
 * A certificate is signed by a majority of the voters in force *before* its entry. One entry is open at a time, so the voters of an
 * index are always known (docs/protocol.md, "Why one open entry").
 */
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'

interface EntryHead {
  federation: FederationId
  /** ≥ 1. */
  index: number
  prev: Link
  /** Term in which it was first proposed; the certificate's may be higher. */
  term: number
  proposer: PeerName
}

export interface Member {
  member: MemberId
  /** A witness votes and contributes nothing: it keeps a federation of two able to decide. */
  kind: 'organization' | 'federation' | 'witness'
  /** Last segment of its path, for people. */
  name: string
  /** An organization's or witness's own peer; a child federation's delegates. */
  peers: PeerName[]
  /** What it showed when it asked to join: signed join record, or a child's certified entries. */
  proof: Uint8Array
  /** Of a child federation that is a member already: the last of its entries that it has shown. `proof` holds those that follow it. */
  follows?: Link
}

/** A member that went by its own word: `proof` is its signed leave record. */
export interface Left {
  member: MemberId
  reason: string
  proof: Uint8Array
}

/** A peer that signed two entries for one (index, term), with both signatures: it is out for good. */
export interface Evicted {
  peer: PeerName
  proof: Uint8Array
}

/** A peer's word that from now on it remembers how it votes; `nonce` is drawn anew whenever it has lost that memory. */
export interface Enrolled {
  peer: PeerName
  nonce: number
  signature: Uint8Array
}

export interface MembersEntry extends EntryHead {
  kind: 'members'
  /** New members, and those whose record changed. */
  joined: Member[]
  left: Left[]
  evicted: Evicted[]
  enrolled: Enrolled[]
  /** Peers, sorted, that have been silent for long: until they are heard again they hold no vote and stand for nobody. */
  absent: PeerName[]
  /** Voters after this entry; differs from those before by one peer at most. */
  voters: PeerName[]
  /** Who stands for this federation in its parent, after this entry. */
  delegates: PeerName[]
}

export interface RoundInput {
  member: MemberId
  /** Round that the update was made for. Each certified input of a member has a higher one than the last: nothing counts twice. */
  round: number
  /** Link of the member's signed update record. */
  update: Link
  /** Tokens, after discounts. */
  weight: number
  /** Weight in the attention of each group, in the layout's order of groups; empty without key layers. */
  attention: number[]
}

/** A federation above, as a candidate for its organizations' attention. */
export interface Ancestor {
  federation: FederationId
  path: string
  /** The entry that holds `model`. */
  entry: Link
  model: Link
  /** Mean training bytes of the organizations below, t. */
  textBytes: number
}

/** A residual in an organization's attention, once a round (I6). */
export interface MemberResidual {
  /** The organization whose key layers they were. */
  from: MemberId
  /** The bridge that brought it. */
  via: PeerName
  /** Blob with K. */
  model: Link
  /** Cosine of the two fingerprints, −1 to 1. */
  similarity: number
  /** In the attention, 0 to 1. */
  weight: number
}

export interface RoundResidual extends MemberResidual {
  to: MemberId
}

export interface RoundEntry extends EntryHead {
  kind: 'round'
  /** Counts this federation's rounds, from 1. */
  round: number
  /** The round entry that members trained from; the federation's id (genesis) in round 1. */
  base: Link
  inputs: RoundInput[]
  excluded: { member: MemberId; reason: string }[]
  /** Blob with the federation's backbone and key layers, f32. */
  model: Link
  modelBytes: number
  /** Blob with the outer optimizer's state; null where it has none. */
  outer: Link | null
  /** Σ tokens of all organizations below. */
  weight: number
  organizations: number
  textBytes: number
  /** The federations above, the parent first, the root last; empty at the root or when the parent was away. */
  ancestors: Ancestor[]
  /** Why the parent's result of this round is missing; null where it is there or where there is no parent. */
  alone: string | null
  /** What its members' organizations mixed in when they took the round before over, as their updates tell. */
  residuals: RoundResidual[]
  charterVersion: number
  /** What the aggregator measured; declared, not verified. */
  measured: { bytesIn: number; bytesOut: number; trainSeconds: number; transferSeconds: number; aggregateSeconds: number }
}

export type Entry = MembersEntry | RoundEntry

export interface Certificate {
  federation: FederationId
  index: number
  term: number
  entry: Link
  /** Sorted by voter. */
  signatures: { voter: PeerName; signature: Uint8Array }[]
}

/**
 * A member's contribution to a round: an organization's trained model, or a child federation's aggregate. Signed by `by`.
 * The blob holds ΔB (change of the backbone against `base`) and K (key layers, absolute).
 */
export interface Update {
  federation: FederationId
  round: number
  base: Link
  member: MemberId
  by: PeerName
  /** Of the child federation that hands it in; 0 for an organization. The highest term wins. */
  term: number
  blob: Link
  blobBytes: number
  /** Who can be asked for the blob, the likeliest first. */
  holders: PeerName[]
  /** Tokens trained on. */
  weight: number
  organizations: number
  textBytes: number
  /** Count sketches of the change of K, group after group: 512 bf16 numbers each, little-endian. */
  sketches: Uint8Array
  /** Residuals in the start that this was trained from; left out where there were none. */
  residuals?: MemberResidual[]
  /** Mean training loss in nats a token; null for a federation. */
  loss: number | null
  trainSeconds: number
}
