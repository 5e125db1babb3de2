/** The state that a peer of a federation begins with, from nothing or from its disk. Is: pure; reading the disk is the caller's. */
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, PeerName } from '../ids.ts'
import { countInputs, nothingCounted } from './checks.ts'
import { type ConsensusStart, initialConsensus } from './consensus-state.ts'
import type { Entry } from './entry.ts'
import type { FederationState } from './federation-state.ts'
import { countLate, nobodyLate } from './lateness.ts'
import { KnownUpdates } from './known-updates.ts'
import { applyMembers, genesisRoster, type Roster } from './membership.ts'
import { staleRoundsMax } from './participation.ts'

/** What a certified log comes to. */
export interface FoldedLog extends Pick<FederationState, 'head' | 'bases' | 'counted' | 'late'> {
  roster: Roster
  tip: { index: number; link: Link }
}

export const emptyLog = (id: FederationId, charter: Charter): FoldedLog => ({
  roster: genesisRoster(charter),
  head: { round: 0, link: id, entry: null },
  bases: [{ link: id, round: 0 }],
  counted: nothingCounted,
  late: nobodyLate,
  tip: { index: 0, link: id }
})

/** @param certified - the entry that follows, checked. */
export function foldEntry(log: FoldedLog, { link, entry }: { link: Link; entry: Entry }): FoldedLog {
  const tip = { index: entry.index, link }
  if (entry.kind === 'members') return { ...log, tip, roster: applyMembers(log.roster, entry) }
  const bases = [...log.bases, { link, round: entry.round }].slice(-(staleRoundsMax + 1))
  const [counted, late] = [countInputs(log.counted, entry), countLate(log.late, entry)]
  return { ...log, tip, head: { round: entry.round, link, entry }, bases, counted, late }
}

/** What was on the disk: the certified log, and consensus's own state. */
export interface FederationStart {
  id: FederationId
  charter: Charter
  self: PeerName
  entries: Iterable<{ link: Link; entry: Entry }>
  persisted: Pick<ConsensusStart<Entry>, 'term' | 'votedFor' | 'accepted' | 'givenUp' | 'signed' | 'old' | 'fromDisk'>
  /** See `ConsensusState.rank`. */
  rank: number
  /** See `ConsensusState.nonce`; left out: this peer remembers how it voted. */
  nonce?: number | null
}

export const nobodyVouched: FederationState['vouched'] = new Map()

/** Values, which nobody changes: one of each for all peers in one process. */
const nothingAsked: Pick<FederationState, 'pending' | 'leaving' | 'accused' | 'enrolling'> = {
  pending: new Map(),
  leaving: new Map(),
  accused: new Map(),
  enrolling: new Map()
}
const nobody: ReadonlySet<PeerName> = new Set()

/** @returns the state as of the last of `entries`; a vote and an acceptance on disk are taken up again. */
export function initialFederation({ entries, ...start }: FederationStart): FederationState {
  let log = emptyLog(start.id, start.charter)
  for (const one of entries) log = foldEntry(log, one)
  return resumeFederation(start, log)
}

/** The same of a log that was folded before. */
export function resumeFederation(
  { id, charter, self, persisted, rank, nonce }: Omit<FederationStart, 'entries'>,
  { roster, head, bases, counted, late, tip }: FoldedLog
): FederationState {
  const consensus = initialConsensus<Entry>({
    self,
    federation: id,
    ...persisted,
    commitIndex: tip.index,
    head: tip.link,
    voters: roster.voters,
    timing: charter.timings,
    rank,
    // It may have died between storing the entry that enrolls it and noting that it is enrolled.
    nonce: nonce === undefined || roster.enrolled.get(self) === nonce ? null : nonce
  })
  const heard = { present: nobody, away: nobody, remembering: nobody, vouched: nobodyVouched }
  const empty = { known: KnownUpdates.none, ...nothingAsked, ...heard }
  const idle = { round: { phase: 'idle' }, participation: { phase: 'away' }, parentHead: null, startTimedOut: false } as const
  return { id, charter, self, consensus, roster, head, bases, counted, late, ...empty, ...idle }
}
