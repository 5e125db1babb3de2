/**
 * Whether a peer that has forgotten how it voted (docs/protocol.md, "Lost votes") waits for long to be enrolled anew, and how many voters
 * wait for the same: each asks whomever it reaches for it. The daemon and the simulator keep it alike. Is: pure, the time comes in.
 */
import type { PeerName } from '../ids.ts'
import { majority } from './consensus-state.ts'
import type { FederationState } from './federation-state.ts'

/** With a majority that remembers it takes seconds; a restart of them all, a minute. */
export const enrollLongMs = 60_000
const againMs = 10 * enrollLongMs
/** Who waits that long asks all voters in turn, so that each knows of all that wait; and who asked before that long waits no more. */
const lateMs = enrollLongMs / 2

export interface EnrollWaits {
  /** Whether this peer waits itself; else it is one of too few voters that remember. */
  self: boolean
  /** Voters that wait, as far as it has heard lately. */
  waiting: number
  voters: number
  /** The others are no majority: unless a memory comes back, nobody can be enrolled. */
  lost: boolean
}

export class EnrollWatch {
  #sinceMs: number | null = null
  #toldMs = Number.NEGATIVE_INFINITY
  readonly #askedMs = new Map<PeerName, number>()

  /** `peer` asks to be enrolled. */
  asked(peer: PeerName, { roster }: Pick<FederationState, 'roster'>, nowMs: number): void {
    if (roster.voters.includes(peer)) this.#askedMs.set(peer, nowMs)
  }

  /** Whom to ask, where it waits for long; the aggregator, if any is known, may be one only by hearsay. @param draw - of so many. */
  other({ roster, consensus, self }: FederationState, nowMs: number, draw: (count: number) => number): PeerName | null {
    if (consensus.nonce === null || this.#sinceMs === null || nowMs - this.#sinceMs < lateMs) return null
    const others = roster.voters.filter(peer => peer !== self)
    // Every other time, for there may be an aggregator, or somebody else who knows more.
    return others[draw(2 * others.length || 1)] ?? null
  }

  /** Asked regularly. @returns what is to be said now, the first time after long, and then seldom. */
  look({ roster, consensus, self }: FederationState, nowMs: number): EnrollWaits | null {
    const { voters } = roster
    const isSelf = consensus.nonce !== null
    const isWaiting = (peer: PeerName) =>
      peer === self ? isSelf : (this.#askedMs.get(peer) ?? Number.NEGATIVE_INFINITY) > nowMs - lateMs
    const waiting = voters.filter(isWaiting).length
    const lost = voters.length - waiting < majority(voters)
    if (!(isSelf ? voters.includes(self) || roster.members.has(self) : lost && voters.includes(self))) {
      this.#sinceMs = null
      return null
    }
    this.#sinceMs ??= nowMs
    if (nowMs - this.#sinceMs < enrollLongMs || nowMs - this.#toldMs < againMs) return null
    this.#toldMs = nowMs
    return { self: isSelf, waiting, voters: voters.length, lost }
  }
}
