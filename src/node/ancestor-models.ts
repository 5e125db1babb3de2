/**
 * Models of the federations above, which a certified round names and its aggregator alone vouches for: candidates that an organization can do
 * without. So nobody waits for them without end: whoever named a blob that it holds itself, and gave a chunk of it now and then, would keep
 * every member from its next round.
 */
import type { FederationId, Link, PeerName } from '../ids.ts'

interface Fetching {
  pull(blob: Link, holders: PeerName[], signal: AbortSignal): Promise<unknown>
  holders(federation: FederationId): PeerName[]
  /** For all together. */
  patienceMs: number
  onAway(name: string, error: Error): void
}

/** @returns those that came. */
export async function fetchAncestors<Model extends { name: string; federation: FederationId; model: Link }>(
  models: readonly Model[],
  { pull, holders, patienceMs, onAway }: Fetching
): Promise<Model[]> {
  const signal = AbortSignal.timeout(patienceMs)
  const reached: Model[] = []
  for (const one of models) {
    try {
      await pull(one.model, holders(one.federation), signal)
      reached.push(one)
    } catch (error) {
      onAway(one.name, error as Error)
    }
  }
  return reached
}
