/** How often a peer may have its place changed; and that its aggregator holds it to that. */
import assert from 'node:assert/strict'
import type { FederationEvent } from '../../src/federation/federation.ts'
import { Random } from '../../src/math/random.ts'
import { ChangeBudget } from '../../src/node/change-budget.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Joining } from '../../src/node/joining.ts'
import { enrollRecord } from '../../src/wire/member-proofs.ts'
import { stateOf } from '../federation/states.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

describe('a budget of changes', () => {
  it('lets a peer ask for one thing as often as it likes, for others at first, and then for one in ten seconds', () => {
    const budget = new ChangeBudget()
    const count = (peer: string, wishes: number, nowMs: number) =>
      Array.from({ length: wishes }, (_, nth) => budget.allows(peer, `${nowMs} ${nth}`, nowMs)).filter(Boolean).length
    for (let nth = 0; nth < 100; nth++) assert.ok(budget.allows('a', 'a place', nth))
    assert.deepEqual([count('a', 50, 1000), count('b', 50, 1000)], [9, 10])
    assert.deepEqual([count('a', 50, 31_001), count('a', 50, 500_000)], [3, 10])
  })

  it('is kept by an aggregator: who draws numbers to enroll by without end fills no log', () => {
    const { id } = new LogBuilder()
    const [self, liar] = [peerOf('a'), peerOf('b')]
    const state = stateOf(self.peer, [self.peer])
    const events: FederationEvent[] = []
    const node = {
      id,
      self: self.peer,
      state: { ...state, consensus: { ...state.consensus, role: 'leader' } },
      dispatch: (event: FederationEvent) => void events.push(event)
    }
    const joining = new Joining(node as unknown as FederationCore, new Random(''), {
      catchUp: async () => undefined,
      askBeside: async () => undefined
    })
    const ask = (nonce: number) => {
      const enrolled = enrollRecord(liar.sign, id, liar.peer, nonce)
      return joining.onJoin(liar.peer, { member: null, enrolled, left: null })
    }
    for (let nonce = 1; nonce <= 100; nonce++) assert.equal(ask(nonce).kind, 'join')
    assert.equal(events.length, 10)
  })
})
