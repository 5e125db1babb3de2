/** Receipts that a run waits to see settled (I4). */
import assert from 'node:assert/strict'
import { Receipts } from '../../src/sim/receipts.ts'
import { updateOf } from '../federation/federation-bench.ts'

describe('receipts', () => {
  const receipt = (peer: string, atMs: number, due = 5) => ({ update: updateOf(peer), peer, due, atMs })

  it('are named once, in the round that they are due in, unless they are settled', () => {
    const receipts = new Receipts()
    for (const peer of ['a', 'b']) receipts.add(`u-${peer}`, receipt(peer, 0))
    assert.deepEqual(
      receipts.take(4, () => false),
      []
    )
    const isSettled = (link: string) => link === 'u-a'
    assert.deepEqual(
      receipts.take(5, isSettled).map(({ peer }) => peer),
      ['b']
    )
    assert.deepEqual(
      receipts.take(6, () => false),
      []
    )
  })

  it('are forgotten by whose disk is as it was before, and by no other, nor older ones', () => {
    const receipts = new Receipts()
    receipts.add('old', receipt('a', 10))
    receipts.add('new', receipt('a', 20))
    receipts.add('other', receipt('b', 20))
    receipts.add('old', receipt('a', 30))
    receipts.forget('a', 15)
    const forgotten: string[] = []
    receipts.take(4, (link, one) => {
      if (one.forgotten) forgotten.push(link)
      return false
    })
    assert.deepEqual(forgotten, ['new'])
  })
})
