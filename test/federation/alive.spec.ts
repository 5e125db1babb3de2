/** What bytes of a blob say of a peer whose messages wait behind them on a slow line: that it is there, and no more. */
import assert from 'node:assert/strict'
import { beatsPerLook } from '../../src/federation/consensus-state.ts'
import { Peer, timing } from './consensus-bench.ts'

describe('a peer that sends a blob and is not heard meanwhile', () => {
  it('keeps its office, as by a heartbeat, where it leads; of who leads it says nothing', () => {
    const peer = new Peer({ term: 1 }).hears('b', { type: 'heartbeat', term: 1, commitIndex: 0 }).forget()
    peer.on({ type: 'alive', peer: 'c' })
    assert.deepEqual([peer.effects, peer.state.aggregator], [[], 'b'])
    peer.on({ type: 'alive', peer: 'b' })
    assert.deepEqual(peer.find('start-timer'), [
      { do: 'start-timer', name: 'election', ms: timing.electionTimeoutMs * 1.25, jitterMs: 0 }
    ])
    // Once it was silent for too long, its next heartbeat alone brings it back.
    peer.timer('election').forget()
    peer.on({ type: 'alive', peer: 'b' })
    assert.deepEqual([peer.effects, peer.state.aggregator], [[], null])
  })

  it('counts as an answer where it follows: its aggregator does not step down for it', () => {
    const looked = (...alive: string[]) => {
      const peer = new Peer().elected()
      for (let beat = 0; beat < 2 * beatsPerLook(timing) + 2; beat++) {
        for (const one of alive) peer.on({ type: 'alive', peer: one })
        peer.timer('heartbeat')
      }
      return peer.state.role
    }
    assert.deepEqual([looked('b', 'd'), looked('b'), looked('b', 'stranger')], ['leader', 'follower', 'follower'])
  })
})
