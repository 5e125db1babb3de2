/** A federation’s state for tests of what depends on its voters alone. */
import type { Member } from '../../src/federation/entry.ts'
import { initialFederation } from '../../src/federation/federation-start.ts'
import type { FederationState } from '../../src/federation/federation-state.ts'
import { testCharter } from './charters.ts'

/** Of a peer in a federation whose members are its voters. */
export function stateOf(self: string, voters: string[], { nonce = null as number | null, index = 7 } = {}): FederationState {
  const start = { self, entries: [], persisted: { term: 1, votedFor: null, accepted: null }, rank: 0, nonce }
  const state = initialFederation({ ...start, id: 'bafyF', charter: testCharter() })
  const member = (peer: string): [string, Member] => {
    return [peer, { member: peer, kind: 'organization', name: peer, peers: [peer], proof: new Uint8Array() }]
  }
  const roster = { ...state.roster, voters, members: new Map(voters.map(member)) }
  return { ...state, roster, consensus: { ...state.consensus, voters, commitIndex: index } }
}
