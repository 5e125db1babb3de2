/**
 * Whether a memory of votes that was read from a disk is the newest that there was, or an old copy of it: a restored backup, an earlier
 * snapshot (docs/protocol.md, "Old memories"). The peer asks all who vote with it where they stand, and takes no part until they have told.
 *
 * What it may have forgotten is safe with whoever helped it to do it: an entry that it helped to certify was accepted by the others of that
 * majority too; an aggregator that it voted for is in its term, and so are those that voted alike. So it takes over from the answers the
 * highest term, with the vote in it spent, and votes as if it had accepted whatever any of them has. Nobody is asked what *this* peer did:
 * most would not know.
 *
 * Is: pure; what a peer knows of it. The moves are in consensus-recall.ts.
 * Is not: of use against a majority of voters that have all forgotten the same, nor, after `recallBeats`, for those that are away.
 */
import type { Link, PeerName } from '../ids.ts'

/** Where a voter stands. */
export interface Recalled {
  term: number
  commitIndex: number
  /** Term in which it accepted an entry at `commitIndex + 1`, itself, and not by hearsay; 0: none. */
  acceptedTerm: number
  /** That entry. */
  accepted: Link | null
  /** For whom it has signed that (`Accepted` in consensus-state.ts); null: it does not know. Left out: for nobody. */
  signedFor?: readonly PeerName[] | null | undefined
  /** Voters after the entry that it has accepted, else of its open index: if that one was certified, the asker may have gone on with these. */
  voters: readonly PeerName[]
}

/** As long as somebody's answer may matter. */
export interface Recall {
  readonly answers: ReadonlyMap<PeerName, Recalled>
  /** Until the peer takes its memory for the newest, whoever has not answered. Counted while it has a vote, and has heard a voter. */
  readonly beatsLeft: number
  /** A node that has just started finds the others only after a while; until then its vote is of no use to anybody. */
  readonly heard: boolean
}

/** Place in the log of what a peer signed, and in which term. */
export interface SignedPlace {
  index: number
  term: number
}

/** What of consensus's state this is about. */
interface Standing {
  readonly self: PeerName
  readonly voters: readonly PeerName[]
  readonly commitIndex: number
  readonly accepted: { readonly term: number } | null
  readonly recall: Recall | null
}

/** Heartbeats in three election timeouts: a restart of all takes one and a half of them, a voter that is slow to come up is waited for. */
export const recallBeats = ({ electionTimeoutMs, heartbeatMs }: { electionTimeoutMs: number; heartbeatMs: number }): number =>
  Math.max(1, Math.ceil((3 * electionTimeoutMs) / heartbeatMs))

export const newRecall = (timing: { electionTimeoutMs: number; heartbeatMs: number }): Recall => ({
  answers: new Map(),
  beatsLeft: recallBeats(timing),
  heard: false
})

/** Answers of those whose logs end where this one does. */
const besides = ({ recall, commitIndex }: Pick<Standing, 'recall' | 'commitIndex'>): Recalled[] =>
  [...(recall?.answers.values() ?? [])].filter(answer => answer.commitIndex === commitIndex)

/** Who has to answer: the voters of the open index, and of the next one if somebody has accepted an entry that changes them. */
export function askedFor(standing: Standing): Set<PeerName> {
  const asked = new Set([...standing.voters, ...besides(standing).flatMap(({ voters }) => voters)])
  asked.delete(standing.self)
  return asked
}

/** Those of them whose answer does not count yet: it has not come, or its entries have not. */
export function unanswered(standing: Standing): PeerName[] {
  const { recall, commitIndex } = standing
  if (recall === null) return []
  return [...askedFor(standing)].filter(peer => {
    const answer = recall.answers.get(peer)
    return answer === undefined || answer.commitIndex > commitIndex
  })
}

/** Whether `unanswered` names anybody. Asked at nearly each event of a peer that listens, so it makes no lists. */
export function isAwaiting({ recall, commitIndex, voters, self }: Standing): boolean {
  if (recall === null) return false
  const counts = (peer: PeerName) => peer === self || (recall.answers.get(peer)?.commitIndex ?? commitIndex + 1) <= commitIndex
  if (!voters.every(counts)) return true
  for (const answer of recall.answers.values())
    if (answer.commitIndex === commitIndex && !answer.voters.every(counts)) return true
  return false
}

/** The newest term in which anybody, this peer included, is known to have accepted an entry at the open index; 0: nobody. */
export const acceptedTermKnown = (standing: Standing): number =>
  Math.max(standing.accepted?.term ?? 0, ...besides(standing).map(({ acceptedTerm }) => acceptedTerm))

/** Whether `link` is what somebody accepted in that term. */
export const isKnownAccepted = (standing: Standing, link: Link): boolean =>
  besides(standing).some(({ acceptedTerm, accepted }) => accepted === link && acceptedTerm === acceptedTermKnown(standing))

/**
 * For whom this peer may have signed `link`: for those that it remembers, and for those that the others, who tell that they hold it, know
 * that they have signed it for. Undefined: it does not know. One that the others have signed it for, and that does not remember that, has forgotten more.
 * @param remembered - undefined: it does not know.
 */
export function maySignedFor(
  standing: Standing,
  link: Link,
  remembered: readonly PeerName[] | undefined
): readonly PeerName[] | undefined {
  const holding = [...(standing.recall?.answers.values() ?? [])].filter(({ accepted }) => accepted === link)
  const isKnown = acceptedTermKnown(standing) <= (standing.accepted?.term ?? 0) || isKnownAccepted(standing, link)
  if (remembered === undefined || !isKnown) return undefined
  const told = holding.flatMap(({ signedFor }) => signedFor ?? [])
  return told.includes(standing.self) && !remembered.includes(standing.self) ? undefined : [...remembered, ...told]
}

/** The highest term that a voter told. */
export const termTold = ({ voters }: Pick<Standing, 'voters'>, { answers }: Recall): number =>
  Math.max(0, ...voters.map(voter => answers.get(voter)?.term ?? 0))

export const isBeyond = (one: SignedPlace, other: SignedPlace): boolean =>
  one.index > other.index || (one.index === other.index && one.term > other.term)
