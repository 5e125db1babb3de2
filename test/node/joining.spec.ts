/** Whom a node asks for a place in a federation. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { initialFederation } from '../../src/federation/federation-start.ts'
import { Random } from '../../src/math/random.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Joining } from '../../src/node/joining.ts'
import { testCharter } from '../federation/charters.ts'

describe('a node that asks for a place', () => {
  it('asks anybody when its aggregator does not answer, and then its aggregator again', async () => {
    const start = { self: 'self', entries: [], persisted: { term: 1, votedFor: null, accepted: null }, rank: 0, nonce: 7 }
    const state = initialFederation({ ...start, id: 'bafyF', charter: testCharter() })
    const asked: string[] = []
    const node = {
      id: 'bafyF',
      self: 'self',
      topic: 'topic',
      leaving: false,
      // It has heard the aggregator's heartbeats, and none of what was certified; without a vote it is told by no election that it is gone.
      state: { ...state, consensus: { ...state.consensus, aggregator: 'gone' } },
      heard: { aggregator: null, term: 0 },
      options: {
        as: 'organization',
        name: 'Self',
        children: () => [],
        services: { gossip: { subscribers: () => ['there'] }, host: { sign: () => new Uint8Array(64) } }
      },
      ask: async (peer: string) => {
        asked.push(peer)
        return peer === 'gone' ? null : { kind: 'join', taken: false, aggregator: null }
      }
    }
    const caughtUp: string[] = []
    const joining = new Joining(
      node as unknown as FederationCore,
      new Random('joining'),
      async from => void caughtUp.push(from)
    )
    for (let time = 0; time < 3; time++) {
      await joining.join()
      await sleep(420)
    }
    assert.deepEqual(asked, ['gone', 'there', 'gone'])
    assert.deepEqual(caughtUp, asked)
  })
})
