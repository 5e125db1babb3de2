/** What federations above and below each other tell, as every peer that follows both decides it alike. Is: pure. */
import type { Link, PeerName } from '../ids.ts'
import type { RoundEntry, Update } from './entry.ts'
import type { FederationState } from './federation-state.ts'
import type { ParentHead } from './round-state.ts'

/** A certified round of `state`'s federation, as a parent tells its children. */
export function parentHeadOf({ id, charter, roster }: FederationState, entry: RoundEntry, link: Link): ParentHead {
  return {
    federation: id,
    path: charter.path,
    round: entry.round,
    entry: link,
    model: entry.model,
    textBytes: entry.textBytes,
    ancestors: entry.ancestors,
    holders: [entry.proposer, ...roster.voters.filter(peer => peer !== entry.proposer)]
  }
}

/** Who is likely to hold the federation's newest model, the likeliest first. */
export function holdersOf({ head, roster, present }: FederationState): PeerName[] {
  const proposer = head.entry?.proposer
  return [...new Set([...(proposer === undefined ? [] : [proposer]), ...roster.voters, ...present])]
}

/** Who is likely to hold an update's blob, the likeliest first: whom it names, then whoever may have led, and fetched it, before. */
export function holdersOfUpdate({ roster }: Pick<FederationState, 'roster'>, { holders, by }: Update): PeerName[] {
  return [...new Set([...holders, by, ...roster.voters])]
}

/**
 * Whether this peer keeps the aggregator's own update beside the aggregator. All others are on two disks as soon as they are pulled; were
 * that one on one, it would be lost to its round with its aggregator. One voter, the first that is there: a copy costs a transfer, and
 * the aggregator's line out is idle while it collects.
 */
export function isDeputy({ self, consensus: { aggregator, voters }, present }: FederationState): boolean {
  if (aggregator === null || aggregator === self) return false
  return voters.find(voter => voter !== aggregator && (voter === self || present.has(voter))) === self
}

export const isForDeputy = (state: FederationState, { by, member }: Update): boolean =>
  by === state.consensus.aggregator && member === by && isDeputy(state)

/**
 * The place in the roster of `state`'s federation that this peer should ask for: its own, else that of a child federation which it
 * stands for and whose delegates here are not those that its own log names.
 * @param children - federations below that this peer follows.
 */
export function placeToAsk(
  { roster, self }: FederationState,
  as: 'organization' | 'witness' | null,
  children: Iterable<FederationState>
): { own: 'organization' | 'witness' } | { child: FederationState } | null {
  if (as !== null && !roster.members.has(self)) return { own: as }
  for (const child of children) {
    const { delegates } = child.roster
    const known = roster.members.get(child.id)
    if (delegates.includes(self) && known?.peers.join() !== delegates.join()) return { child }
  }
  return null
}
