/** Who may speak in a topic, found once for all replicas that have the same roster. */
import { type Roster, rosterPeers } from '../federation/membership.ts'
import type { Charter } from '../governance/charter.ts'
import type { PeerName } from '../ids.ts'

const peersOf = new WeakMap<Roster, ReadonlySet<PeerName>>()

/** Replicas share their rosters (membership.ts), and so these sets. */
export function peersIn(roster: Roster, charter: Charter): ReadonlySet<PeerName> {
  let peers = peersOf.get(roster)
  if (peers === undefined) {
    peers = rosterPeers(roster, charter)
    peersOf.set(roster, peers)
  }
  return peers
}
