/** When a voter that does not remember how it voted says that it waits. */
import assert from 'node:assert/strict'
import { EnrollWatch, enrollLongMs } from '../../src/federation/enroll-watch.ts'
import { stateOf } from './states.ts'

describe('a voter that does not remember how it voted', () => {
  const look = (watch: EnrollWatch, atMs: number, voters = ['a', 'b', 'c'], nonce: number | null = 5) =>
    watch.look(stateOf('a', voters, { nonce }), atMs)

  it('says after long that it waits, and how many voters wait for the same', () => {
    const watch = new EnrollWatch()
    assert.equal(look(watch, 1_000), null)
    watch.asked('b', stateOf('a', ['a', 'b', 'c']), 2_000)
    watch.asked('stranger', stateOf('a', ['a', 'b', 'c']), enrollLongMs)
    assert.equal(look(watch, enrollLongMs), null)
    watch.asked('b', stateOf('a', ['a', 'b', 'c']), enrollLongMs)
    assert.deepEqual(look(watch, 1_000 + enrollLongMs), { self: true, waiting: 2, voters: 3, lost: true })
    assert.equal(look(watch, 2_000 + enrollLongMs), null)
    assert.deepEqual(
      look(watch, 12 * enrollLongMs),
      { self: true, waiting: 1, voters: 3, lost: false },
      'again, of what it heard lately'
    )
  })

  it('asks every voter in turn when it has waited for half of that', () => {
    const watch = new EnrollWatch()
    const state = stateOf('a', ['a', 'b', 'c'], { nonce: 5 })
    const others = (atMs: number) => [0, 1, 2, 3].map(drawn => watch.other(state, atMs, count => drawn % count))
    look(watch, 0)
    assert.deepEqual(others(1_000), [null, null, null, null])
    assert.deepEqual(others(enrollLongMs / 2), ['b', 'c', null, null])
  })

  it('is counted by one that remembers too, which says so if it is one of too few', () => {
    const watch = new EnrollWatch()
    const state = stateOf('a', ['a', 'b', 'c'])
    for (let atMs = 0; atMs < 2 * enrollLongMs; atMs += 10_000) {
      for (const peer of atMs < enrollLongMs ? ['b'] : ['b', 'c']) watch.asked(peer, state, atMs)
      assert.equal(watch.look(state, atMs), null)
    }
    for (const peer of ['b', 'c']) watch.asked(peer, state, 2 * enrollLongMs)
    assert.deepEqual(watch.look(state, 2 * enrollLongMs), { self: false, waiting: 2, voters: 3, lost: true })
  })

  it('says nothing once it is enrolled, nor where it has no place yet', () => {
    const watch = new EnrollWatch()
    look(watch, 0)
    assert.equal(look(watch, 1_000, ['a', 'b', 'c'], null), null)
    assert.equal(look(watch, 2 * enrollLongMs), null, 'since then anew')
    const newcomer = new EnrollWatch()
    look(newcomer, 0, ['b', 'c'])
    assert.equal(look(newcomer, 2 * enrollLongMs, ['b', 'c']), null)
  })
})
