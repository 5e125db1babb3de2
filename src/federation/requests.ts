/** What a peer has been asked for and whom it hears, as values that change by copies. */
import type { PeerName } from '../ids.ts'

/**
 * Requests that wait at once; past it the oldest is forgotten, for whoever still wants something asks again. Not the newest: strangers may ask for
 * what they never get, and nothing settles that, so over the months they would leave room for nobody.
 */
const askedMax = 1000

export function asked<Name, Value>(waiting: ReadonlyMap<Name, Value>, name: Name, value: Value): ReadonlyMap<Name, Value> {
  const next = new Map(waiting).set(name, value)
  if (next.size > askedMax) next.delete(next.keys().next().value!)
  return next
}

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
