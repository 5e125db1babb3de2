/** What a peer has been asked for and whom it hears, as values that change by copies. */
import type { PeerName } from '../ids.ts'
import type { Enrolled } from './entry.ts'
import type { FederationState } from './federation-state.ts'

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

type There = Pick<FederationState, 'present' | 'away' | 'remembering'>

/** Something of a peer, or nothing for a while. */
export function heardOf(
  { present, away, remembering }: There,
  { peer, present: isPresent, remembers }: { peer: PeerName; present: boolean; remembers?: boolean }
): There {
  const says = isPresent ? remembers : false
  return {
    present: withPeer(present, peer, isPresent),
    away: isPresent ? withPeer(away, peer, false) : away,
    remembering: says === undefined ? remembering : withPeer(remembering, peer, says)
  }
}

type Enrolling = Pick<FederationState, 'enrolling' | 'remembering'>
type People = Pick<FederationState, 'roster' | 'present'>

/** Whether it asks by another number than it is enrolled by. */
export const hasForgotten = ({ roster }: Pick<FederationState, 'roster'>, { peer, nonce }: Enrolled): boolean =>
  roster.enrolled.get(peer) !== nonce

export const enrolling = (state: Enrolling & People, enrolled: Enrolled): Enrolling => ({
  enrolling: asked(state.enrolling, enrolled.peer, enrolled),
  remembering: hasForgotten(state, enrolled) ? withPeer(state.remembering, enrolled.peer, false) : state.remembering
})

/** They are enrolled. One that has drawn another number since has forgotten again. */
export function enrolledBy(state: Enrolling & People, { enrolled }: { enrolled: readonly Enrolled[] }): Enrolling {
  const settled = enrolled.filter(({ peer, nonce }) => (state.enrolling.get(peer)?.nonce ?? nonce) === nonce)
  const peers = settled.map(({ peer }) => peer)
  return {
    enrolling: without(state.enrolling, peers),
    remembering: new Set([...state.remembering, ...peers.filter(peer => state.present.has(peer))])
  }
}
