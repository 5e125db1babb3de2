/** Whom a peer that is let go waits for. */
import assert from 'node:assert/strict'
import { LettingGo } from '../../src/federation/letting-go.ts'
import { stateOf } from './states.ts'

describe('a peer that is let go', () => {
  it('waits for a majority of the voters that stay, and for those that answer and lack the entry', () => {
    const going = new LettingGo()
    const state = stateOf('z', ['a', 'b', 'c'])
    assert.deepEqual(going.waitsFor(state), ['a', 'b', 'c'])
    going.answered('a', 7)
    going.answered('b', 6)
    going.answered('c', null)
    assert.deepEqual(going.waitsFor(state), ['b', 'c'])
    going.answered('b', 8)
    assert.deepEqual(going.waitsFor(state), [], 'c is silent, and a and b can tell it')
    going.answered('c', 3)
    assert.deepEqual([going.waitsFor(state), going.toAsk(state)], [['c'], ['c']])
    going.answered('c', null)
    assert.deepEqual(going.waitsFor(state), [])
  })

  it('waits for the one voter that stays, however long that is silent, or until an entry after it is certified', () => {
    const going = new LettingGo()
    const state = stateOf('z', ['a'])
    going.answered('a', null)
    assert.deepEqual(going.waitsFor(state), ['a'])
    assert.deepEqual(going.waitsFor(stateOf('z', ['a'], { index: 8 })), [])
  })

  it('waits for nobody where nobody stays, or where it never had a vote that counted', () => {
    assert.deepEqual(new LettingGo().waitsFor(stateOf('z', ['a'], { nonce: 5 })), [])
    const empty = stateOf('z', ['a'])
    assert.deepEqual(new LettingGo().waitsFor({ ...empty, roster: { ...empty.roster, members: new Map() } }), [])
  })
})
