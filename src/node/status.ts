/**
 * What a node says of itself: its status, and the events that led there. The HTTP API, the terminal's tables and the testnet read
 * nothing else. Times of day are ISO 8601 for people; no decision is taken on them.
 */
import type { MemberResidual } from '../federation/entry.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'

export type NodePhase = 'starting' | 'joining' | 'training' | 'waiting' | 'applying' | 'finished' | 'stopping'

export interface MemberStatus {
  member: MemberId
  kind: 'organization' | 'federation' | 'witness'
  name: string
  peers: PeerName[]
  present: boolean
  /** Whether this round's update of the member is known here. */
  announced: boolean
}

export interface FederationStatus {
  id: FederationId
  path: string
  parent: FederationId | null
  /** How this node takes part; `joining` until the roster holds it, `observer` of a federation above. */
  role: 'organization' | 'delegate' | 'witness' | 'joining' | 'observer'
  /** It has been asked to leave, and has not gone yet: the others have not certified it, or … */
  leaving: boolean
  /** … these voters have not shown that they have what they certified. */
  leavingWaitsFor: PeerName[]
  term: number
  aggregator: PeerName | null
  /** The aggregator's step in its round; null on other nodes. */
  phase: 'collecting' | 'aggregating' | 'waiting-for-parent' | 'combining' | 'proposing' | null
  index: number
  head: Link
  /** Newest certified round; 0 before the first. */
  round: number
  /** Rounds in all; 0: no end. */
  rounds: number
  members: MemberStatus[]
  voters: PeerName[]
  delegates: PeerName[]
}

export interface NodeStatus {
  schema: 'worldlm.status/1'
  version: string
  pid: number
  peer: PeerName
  organization: { name: string; path: string }
  addresses: string[]
  startedAt: string
  phase: NodePhase
  training: { round: number; step: number; steps: number; loss: number; tokensPerSecond: number } | null
  /** Newest evaluation of each model on the fixed validation set. */
  evaluations: Partial<Record<ModelKind, Evaluation>>
  data: { trainBytes: number; validBytes: number }
  bytes: { in: number; out: number }
  federations: FederationStatus[]
}

export type ModelKind = 'personal' | 'aggregated' | 'federation'

export interface Evaluation {
  round: number
  perplexity: number
  bitsPerByte: number
}

/** A certified round, as `report.json` and `/v1/federations/:id/rounds` show it. */
export interface RoundSummary {
  /** Path, for people. */
  federation: string
  federationId: FederationId
  round: number
  index: number
  term: number
  aggregator: PeerName
  entry: Link
  included: { member: MemberId; name: string; weight: number; attention: Record<string, number> }[]
  excluded: { member: MemberId; name: string; reason: string }[]
  /** What organizations mixed in where they took the round before over. */
  residuals: { from: MemberId; via: PeerName; to: MemberId; similarity: number; weight: number }[]
  bytesIn: number
  bytesOut: number
  /** `commit` is 0 where the aggregator did not live to tell it. */
  seconds: { train: number; transfer: number; aggregate: number; commit: number }
  /** Why the parent's result is missing; null where it is there or there is no parent. */
  alone: string | null
  organizations: number
}

/** Where the time of one organization's round went, in seconds of wall clock. */
export interface RoundTimes {
  round: number
  total: number
  train: number
  /** Of what people see, on the validation set. */
  evaluate: number
  /** Of candidates and mixes, on the kept-back text. */
  judge: number
  /** Mixing, and what else a way down takes. */
  attend: number
  transfer: number
  /** Aggregation, commit, and waiting for messages. */
  wait: number
}

export type NodeEvent =
  | { type: 'phase'; phase: NodePhase }
  | { type: 'progress'; round: number; step: number; steps: number; loss: number; tokensPerSecond: number }
  | { type: 'evaluation'; path: string; round: number; model: ModelKind; perplexity: number; bitsPerByte: number }
  | { type: 'trained'; round: number; loss: number; tokens: number; seconds: number }
  | { type: 'times'; times: RoundTimes }
  | { type: 'round'; round: RoundSummary }
  /** What this node does as an aggregator; null: it makes no round. */
  | { type: 'round-phase'; federation: string; round: number; phase: FederationStatus['phase'] }
  | { type: 'aggregator'; federation: string; peer: PeerName | null; term: number }
  | {
      type: 'member'
      federation: string
      member: MemberId
      name: string
      change: 'joined' | 'left' | 'absent' | 'back'
      reason?: string
    }
  | { type: 'attention'; round: number; candidates: { name: string; weight: number; nllPerByte: number }[] }
  /** Used in taking `round` over, with the weight that it got; `path` is its source's. */
  | ({ type: 'residual'; round: number; path: string } & MemberResidual)
  /** `times`, here and of a warning: so many at once, that were not told one by one (fault-meter.ts). */
  | { type: 'fault'; federation: string; peer: PeerName; code: string; detail: string; times?: number }
  | { type: 'warning'; code: string; message: string; times?: number }
  | { type: 'finished'; round: number }

/** Numbered from 1 without gaps since the node started. */
export type NumberedEvent = NodeEvent & { seq: number; at: string }

/**
 * `records.jsonl` in the node's folder: what the invariants are checked on afterwards. Durable before what it tells of is spoken of.
 */
export type NodeRecord =
  | { record: 'accept'; federation: FederationId; index: number; term: number; entry: Link }
  | {
      record: 'receipt'
      federation: FederationId
      round: number
      member: MemberId
      update: Link
      aggregator: PeerName
      verdict: string
    }
  /** Used by this node's organization in taking `round` over (I6). */
  | { record: 'residual'; federation: FederationId; round: number; from: MemberId; via: PeerName; model: Link }
  | { record: 'applied'; federation: FederationId; index: number; round: number; entry: Link; model: Link; digest: string }

/** What the API and the command line need of a running node. */
export interface NodeView {
  status(): NodeStatus
  peers(): { peer: PeerName; addresses: string[]; connected: boolean; federations: string[] }[]
  /** The newest `last` certified rounds before round `before`, oldest first. */
  rounds(federation: FederationId, pick: { last: number; before: number }): RoundSummary[]
  /** Events after `seq`; the newest 10,000 are kept. */
  eventsSince(seq: number): NumberedEvent[]
  /** @returns a function that ends the subscription. */
  subscribe(listener: (event: NumberedEvent) => void): () => void
  /** Prometheus text. */
  metrics(): Promise<string>
  /**
   * Asks to be no member any more, until that is certified and those that stay know it. @param now - without waiting for the latter.
   * @throws {WorldlmError} NOT_JOINED
   */
  leave(federation: FederationId, now: boolean): void
  /** Stops cleanly: hands leadership over, closes files and connections. Resolves when done. */
  stop(): Promise<void>
}
