/** What delegates and aggregators say to the federation above, and how often. */
import assert from 'node:assert/strict'
import type { Update } from '../../src/federation/entry.ts'
import type { FederationState } from '../../src/federation/federation-state.ts'
import { HandIn, type SignedUpdate } from '../../src/federation/hand-in.ts'
import { FederationBench, memberOf, updateOf } from './federation-bench.ts'

/** Peer a in the parent, delegate of the federation `child`. */
function delegate(office = { now: 'x/1' }) {
  const bench = new FederationBench().start().admit('a')
  const said: string[] = []
  const taken: string[] = []
  const state: FederationState = {
    ...bench.state,
    roster: {
      ...bench.state.roster,
      members: new Map(bench.state.roster.members).set('child', memberOf('child', 'federation', ['a', 'b']))
    }
  }
  const handIn = new HandIn<string>({
    state,
    get office() {
      return office.now
    },
    above: () => null,
    sign: (update: Update): SignedUpdate<string> => ({ link: `u-${update.blob}`, update, signed: update.blob }),
    say: (kind, signed) => said.push(`${kind} ${signed}`),
    take: ({ link }) => taken.push(link)
  })
  const saysIn = (looks: number) =>
    Array.from({ length: looks }, () => {
      const before = said.length
      handIn.again()
      return said.length - before
    })
  return { handIn, said, taken, saysIn }
}

const contribution = (blob: string, facts: Partial<Update> = {}) => updateOf('child', { by: 'b', term: 2, blob, ...facts })

describe('handing a contribution in', () => {
  it('says it once, however often its aggregator tells it, and again by its own clock, less and less often', () => {
    const { handIn, said, taken, saysIn } = delegate()
    for (let told = 0; told < 3; told++) handIn.handInFor('child', contribution('one'))
    assert.deepEqual([said, taken], [['update one'], ['u-one']])
    assert.deepEqual(saysIn(11), [1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1])
    // Who leads here itself by now may have put it away.
    assert.equal(taken.length, 5)
  })

  it('begins anew with another contribution, and where another leads', () => {
    const office = { now: 'x/1' }
    const { handIn, said, saysIn } = delegate(office)
    handIn.handInFor('child', contribution('one'))
    assert.deepEqual(saysIn(4), [1, 0, 1, 0])
    handIn.handInFor('child', contribution('two'))
    assert.deepEqual(saysIn(3), [1, 0, 1])
    office.now = 'y/2'
    assert.deepEqual(saysIn(3), [1, 1, 0])
    assert.deepEqual([...new Set(said)], ['update one', 'update two'])
  })

  it('says nothing of a round that is certified, nor for whom it does not stand', () => {
    const { handIn, said } = delegate()
    handIn.handInFor('child', contribution('late', { round: 0 }))
    handIn.handInFor('other', contribution('other', { member: 'other' }))
    assert.deepEqual([said, handIn.idle], [[], true])
  })
})
