/**
 * Who of a federation's peers is there: when each was heard of last (docs/protocol.md, "Discovery"). The daemon and the simulator
 * keep it alike. Is: pure; the time comes in, from any clock that goes evenly.
 */
import type { PeerName } from '../ids.ts'

/** A peer that was not heard of for so many presences is absent. */
export const presencesMissed = 4

/** A peer that was not heard of for so many presences has gone for long: a restart of its machine is over by then. */
export const presencesAway = 30

/** A map of names to times. */
export interface Times {
  get(peer: PeerName): number | undefined
  set(peer: PeerName, atMs: number): unknown
}

export class LastHeard {
  readonly #atMs: Times
  /** Since when this peer listens: who it never heard may have been there before. */
  #sinceMs: number | null = null

  constructor(times: Times = new Map<PeerName, number>()) {
    this.#atMs = times
  }

  /** Something was heard of `peer`; unless `fresh`, from another, which counts only for peers that are new. @returns whether it counts. */
  hear(peer: PeerName, nowMs: number, fresh = true): boolean {
    if (!fresh && this.#atMs.get(peer) !== undefined) return false
    this.#atMs.set(peer, nowMs)
    return true
  }

  at(peer: PeerName): number {
    return this.#atMs.get(peer) ?? Number.NEGATIVE_INFINITY
  }

  /** Whether something was heard of `peer` since then. */
  since(peer: PeerName, atMs: number): boolean {
    return this.at(peer) >= atMs
  }

  /** Those of `peers` that nothing was heard of for long. Asked regularly, from the start on. */
  away(peers: Iterable<PeerName>, nowMs: number, presenceMs: number): PeerName[] {
    this.#sinceMs ??= nowMs
    const oldest = nowMs - presenceMs * presencesAway
    const wasHere = this.#sinceMs < oldest
    const away: PeerName[] = []
    for (const peer of peers)
      if (!this.since(peer, oldest) && (wasHere || this.at(peer) > Number.NEGATIVE_INFINITY)) away.push(peer)
    return away
  }

  /** Those of `present` that nothing was heard of for too long. */
  silent(present: ReadonlySet<PeerName>, nowMs: number, presenceMs: number): PeerName[] {
    const oldest = nowMs - presenceMs * presencesMissed
    const silent: PeerName[] = []
    for (const peer of present) if (!this.since(peer, oldest)) silent.push(peer)
    return silent
  }
}

/** Place of `self` among the voters, the strongest first, 0 to 1; equal ones in the order of the list, so that no two have one place. */
export function rankAmong(voters: readonly PeerName[], self: PeerName, strengthOf: (peer: PeerName) => number): number {
  const order = voters
    .map((peer, place) => ({ peer, place, strength: strengthOf(peer) }))
    .sort((one, other) => other.strength - one.strength || one.place - other.place)
  const place = order.findIndex(({ peer }) => peer === self)
  return voters.length < 2 || place === -1 ? 0 : place / (voters.length - 1)
}
