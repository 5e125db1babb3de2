/** A round as a value: what its aggregator has of it, phase by phase (round.ts). */
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import type { Ancestor, RoundEntry, Update } from './entry.ts'

/** An update whose blob was asked for or is here. */
export interface Received {
  link: Link
  update: Update
  /** Tokens, after the discount for staleness. */
  weight: number
  state: 'pulling' | 'accepted'
  /** ‖K_m − K_F‖ over all key layers; 0 until pulled. */
  keysDistance: number
}

/** What the aggregation made. */
export interface Aggregated {
  /** Blob with the federation's B and K. */
  model: Link
  modelBytes: number
  outer: Link | null
  /** Blob with ΔB against the parent's base and K; null where there is no parent, or where its newest model could not be had. */
  contribution: Link | null
  contributionBytes: number
  /** The parent's entry that ΔB in `contribution` is against, the parent's id before its first; null where no base is in it. */
  contributionBase: Link | null
  /** Of the change of the federation's K. */
  sketches: Uint8Array
  /** Per input (in the order asked) the attention of each group. */
  attention: number[][]
  measured: { bytesIn: number; bytesOut: number; transferSeconds: number; aggregateSeconds: number }
}

/** The newest certified round of the parent, as a delegate told it. */
export interface ParentHead {
  federation: FederationId
  path: string
  round: number
  entry: Link
  model: Link
  textBytes: number
  /** Above the parent. */
  ancestors: Ancestor[]
  /** Who can be asked for `model`. */
  holders: PeerName[]
}

/** An update that was not accepted; `final`: it never will be, however often it is announced. */
export interface Refused {
  link: Link
  reason: string
  final: boolean
}

export interface Open {
  round: number
  base: Link
}
export type RoundState =
  | { phase: 'idle' }
  | (Open & {
      phase: 'collecting'
      received: ReadonlyMap<MemberId, Received>
      refused: ReadonlyMap<MemberId, Refused>
      /** What was asked for of each peer that signs updates. */
      pulled: ReadonlyMap<PeerName, ReadonlySet<Link>>
      extensions: number
    })
  | (Open &
      Closed & {
        phase: 'aggregating'
        /** It is done once more, for the parent has gone on meanwhile. */
        again?: true
      })
  | (Open & Closed & { phase: 'waiting-for-parent'; result: Aggregated; parentRound: number })
  | (Open & Closed & { phase: 'combining'; result: Aggregated; parent: ParentHead })
  | (Open & Closed & { phase: 'proposing'; body: RoundBody })

/** What stays fixed once collecting ended. */
export interface Closed {
  /** Sorted by member: every replica adds floats in this order (I7). */
  inputs: Received[]
  excluded: { member: MemberId; reason: string }[]
}

/** A round entry without what only the log knows. */
export type RoundBody = Omit<RoundEntry, 'federation' | 'index' | 'prev' | 'term' | 'proposer'>
