import assert from 'node:assert/strict'
import { type Leads, WhoLeads } from '../../src/federation/who-leads.ts'

const voters = ['a', 'b', 'c']
const last = Number.MAX_SAFE_INTEGER

/** What a peer without a vote believes, word after word. */
function listener(of = voters) {
  const whoLeads = new WhoLeads()
  let known: Leads = { aggregator: null, term: 0 }
  const hears = (from: string, aggregator: string | null, term: number) => {
    known = whoLeads.hear(from, { aggregator, term }, of, known)
    return known.aggregator
  }
  return { whoLeads, hears, term: () => known.term }
}

describe('who leads, for those that have no vote', () => {
  it('is whom most voters name: one voter that names itself, in the last of all terms, is believed until the others have spoken', () => {
    const { hears, term } = listener()
    assert.equal(hears('c', 'c', last), 'c')
    assert.deepEqual([hears('a', 'a', 1), hears('b', 'a', 1), hears('c', 'c', last), term()], ['c', 'a', 'a', 1])
    assert.deepEqual([hears('b', null, 1), hears('a', null, 1)], ['a', 'a'], 'one of them has found it silent, then both')
    assert.deepEqual([hears('b', 'b', 2), hears('a', 'b', 2), term()], ['c', 'b', 2])
  })

  it('is no member’s to say that has no vote, as soon as a voter has said it', () => {
    const { hears } = listener()
    assert.deepEqual([hears('m', 'm', last), hears('a', 'a', 1), hears('m', 'm', last)], ['m', 'a', 'a'])
  })

  it('is what anybody says, the latest term, where none of the voters that are known is there', () => {
    const { hears } = listener(['gone'])
    assert.deepEqual([hears('m', 'a', 3), hears('n', 'b', 2), hears('n', null, 4), hears('n', 'b', 4)], ['a', 'a', 'a', 'b'])
  })

  it('is nobody that was lost, nor whom it named; and no word counts of who votes no more', () => {
    const { hears, whoLeads } = listener()
    for (const voter of ['a', 'b']) hears(voter, 'a', 1)
    assert.equal(hears('c', 'b', 2), 'a')
    whoLeads.lost('a')
    assert.equal(hears('c', 'b', 2), 'b')
    const known = { aggregator: 'b', term: 2 }
    assert.deepEqual(whoLeads.hear('m', { aggregator: 'm', term: 9 }, ['d'], known), { aggregator: 'm', term: 9 })
  })
})
