/** What delegates and aggregators say to the federation above, and how often. */
import assert from 'node:assert/strict'
import type { Update } from '../../src/federation/entry.ts'
import type { FederationState } from '../../src/federation/federation-state.ts'
import { HandIn, type SignedUpdate } from '../../src/federation/hand-in.ts'
import { FederationBench, memberOf, updateOf } from './federation-bench.ts'

/** Peer a in the parent, delegate of the federation `child`. */
function delegate() {
  const bench = new FederationBench().start().admit('a')
  const said: (string | number)[] = []
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
    above: () => null,
    sign: (update: Update): SignedUpdate<string> => ({ link: `u-${update.blob}`, update, signed: update.blob }),
    say: (kind, signed) => said.push(`${kind} ${signed}`),
    wait: (_, ms) => said.push(ms),
    take: ({ link }) => taken.push(link)
  })
  return { handIn, said, taken }
}

const contribution = (blob: string, facts: Partial<Update> = {}) => updateOf('child', { by: 'b', term: 2, blob, ...facts })

describe('handing a contribution in', () => {
  it('says it once, however often its aggregator tells it, and again by its own clock, less and less often', () => {
    const { handIn, said, taken } = delegate()
    for (let told = 0; told < 3; told++) handIn.handInFor('child', contribution('one'))
    for (let time = 0; time < 3; time++) handIn.again('handed-in')
    assert.deepEqual(said, ['update one', 2_000, 'update one', 4_000, 'update one', 8_000, 'update one', 8_000])
    // Who leads here itself by now may have put it away.
    assert.equal(taken.length, 4)
  })

  it('begins anew with another contribution, and where another leads', () => {
    const { handIn, said } = delegate()
    handIn.handInFor('child', contribution('one'))
    handIn.again('handed-in')
    handIn.handInFor('child', contribution('two'))
    handIn.again('handed-in')
    handIn.anew()
    assert.deepEqual(said, [
      'update one',
      2_000,
      'update one',
      4_000,
      'update two',
      2_000,
      'update two',
      4_000,
      'update two',
      2_000
    ])
  })

  it('says nothing of a round that is certified, nor for whom it does not stand', () => {
    const { handIn, said } = delegate()
    handIn.handInFor('child', contribution('late', { round: 0 }))
    handIn.handInFor('other', contribution('other', { member: 'other' }))
    handIn.anew()
    assert.deepEqual(said, [])
  })
})
