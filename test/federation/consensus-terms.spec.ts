/** What a voter can make of others' terms by its word alone. */
import assert from 'node:assert/strict'
import { termStepMax } from '../../src/federation/consensus-state.ts'
import { Peer } from './consensus-bench.ts'

const last = Number.MAX_SAFE_INTEGER
const others = ['b', 'c', 'd', 'e']

describe('consensus: a voter that tells of a term far ahead', () => {
  it('is believed a step at a time: a term is left to stand in', () => {
    const peer = new Peer({ term: 4 })
    for (const type of ['vote', 'pre-vote'] as const) peer.hears('b', { type, term: last, commitIndex: 9, acceptedTerm: 9 })
    peer.hears('b', { type: 'heartbeat-reply', term: last, commitIndex: 0 })
    assert.equal(peer.state.term, 4 + 2 * termStepMax)
    assert.deepEqual([peer.state.votedFor, peer.sent('vote-reply')], [null, []])
    assert.equal(peer.forget().timer('election').sent('pre-vote')[0]?.message.term, 5 + 2 * termStepMax)
  })

  it('is followed by its heartbeats, if it leads', () => {
    const peer = new Peer({ term: 4 })
    const term = 4 + 3 * termStepMax
    const heard = [1, 2, 3].map(() => peer.hears('b', { type: 'heartbeat', term, commitIndex: 0 }).state.aggregator)
    assert.deepEqual([heard, peer.state.term], [[null, null, 'b'], term])
  })

  it('is believed no more by who asks what it may have forgotten', () => {
    const peer = new Peer({ term: 4, fromDisk: true }).on({ type: 'start' })
    for (const from of others)
      peer.hears(from, {
        type: 'recalled',
        term: last,
        commitIndex: 0,
        acceptedTerm: 0,
        accepted: null,
        voters: ['a', ...others]
      })
    assert.deepEqual([peer.state.term, peer.state.votedFor], [4 + termStepMax, 'a'])
  })
})
