/** What a peer has been asked for and whom it hears, as values that change by copies. */
import type { PeerName } from '../ids.ts'

/** Requests that wait at once; past it new ones are not heard, for everybody asks again. */
const askedMax = 1000

export const asked = <Name, Value>(waiting: ReadonlyMap<Name, Value>, name: Name, value: Value): ReadonlyMap<Name, Value> =>
  waiting.size >= askedMax && !waiting.has(name) ? waiting : new Map(waiting).set(name, value)

export function without<Name, Value>(waiting: ReadonlyMap<Name, Value>, settled: readonly Name[]): ReadonlyMap<Name, Value> {
  if (!settled.some(name => waiting.has(name))) return waiting
  const next = new Map(waiting)
  for (const name of settled) next.delete(name)
  return next
}

export function withPeer(peers: ReadonlySet<PeerName>, peer: PeerName, present: boolean): ReadonlySet<PeerName> {
  const next = new Set(peers)
  if (present) next.add(peer)
  else next.delete(peer)
  return next
}
