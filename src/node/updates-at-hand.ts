/** Which signed update records a node keeps at hand: those that something it knows may need, and the newest others. */
import type { FederationState } from '../federation/federation-state.ts'
import type { Link } from '../ids.ts'
import { limits } from '../wire/limits.ts'

/**
 * Makes room. A member can say as many as it likes: without those that the open round counts nobody could verify it, and one that its
 * member pushed out itself would have it refused.
 */
export function dropOldest(updates: Map<Link, Uint8Array>, state: FederationState): void {
  if (updates.size <= limits.updatesKeptMax) return
  const used = inUse(state)
  for (const oldest of updates.keys()) {
    if (updates.size <= limits.updatesKeptMax) return
    if (!used.has(oldest)) updates.delete(oldest)
  }
}

function inUse({ known, round, consensus, head }: FederationState): Set<Link> {
  const used = new Set([...known.values()].map(({ link }) => link))
  if (round.phase === 'collecting') for (const { link } of round.received.values()) used.add(link)
  else if (round.phase !== 'idle') for (const { link } of round.inputs) used.add(link)
  for (const entry of [consensus.accepted?.entry, head.entry])
    if (entry?.kind === 'round') for (const { update } of entry.inputs) used.add(update)
  return used
}
