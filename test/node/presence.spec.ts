/** Whom a node remembers to have heard. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FederationEvent } from '../../src/federation/federation.ts'
import { withPeer } from '../../src/federation/requests.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Presence } from '../../src/node/presence.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

describe('who was heard', () => {
  it('is remembered for as long as it is in the roster, or speaks: strangers are forgotten', async () => {
    const builder = new LogBuilder({ timings: { presenceMs: 100 } }).admit('a', 'b')
    const { roster, charter } = builder
    const [self, member] = [peerOf('a').peer, peerOf('b').peer]
    const consensus = { commitIndex: 3, term: 1, aggregator: self, rank: 0 }
    const state = {
      self,
      roster,
      consensus,
      participation: { phase: 'away' },
      present: new Set<string>(),
      away: new Set<string>()
    }
    // What is asked of a node, and no more.
    const node = {
      self,
      state,
      path: 'prose',
      options: { charter, services: { host: { addresses: () => [] }, events: { emit: () => undefined } } },
      say: () => undefined,
      dispatch: (event: FederationEvent) => {
        if (event.type === 'presence') Object.assign(state, { present: withPeer(state.present, event.peer, event.present) })
      }
    }
    const heardAtMs = new Map<string, number>()
    const presence = new Presence(node as unknown as FederationCore, heardAtMs)
    presence.seen(member)
    for (let place = 0; place < 1_000; place++) presence.seen(`stranger ${place}`)
    assert.equal(heardAtMs.size, 1_001)
    await sleep(600)
    presence.seen('another stranger')
    presence.tick(true)
    assert.deepEqual([...heardAtMs.keys()], [member, 'another stranger'])
    assert.deepEqual([...state.present], ['another stranger'])
  })
})
