/** Who may speak in a topic, found once for all replicas that have the same roster. */
import { type Roster, rosterPeers } from '../federation/membership.ts'
import type { Charter } from '../governance/charter.ts'
import type { PeerName } from '../ids.ts'

const peersOf = new WeakMap<Roster, ReadonlySet<PeerName>>()
/** Asked last: mostly one replica after another of one federation asks. */
let last: { roster: Roster; peers: ReadonlySet<PeerName> } | null = null

/** Replicas share their rosters (membership.ts), and so these sets. */
export function peersIn(roster: Roster, charter: Charter): ReadonlySet<PeerName> {
  if (last?.roster === roster) return last.peers
  let peers = peersOf.get(roster)
  if (peers === undefined) {
    peers = rosterPeers(roster, charter)
    peersOf.set(roster, peers)
  }
  last = { roster, peers }
  return peers
}
