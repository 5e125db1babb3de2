/** What delegates and aggregators say to the federation above, and how often. */
import assert from 'node:assert/strict'
import type { Update } from '../../src/federation/entry.ts'
import type { FederationState } from '../../src/federation/federation-state.ts'
import type { ParentHead } from '../../src/federation/round-state.ts'
import { HandIn, type SignedUpdate } from '../../src/federation/hand-in.ts'
import { testCharter } from './charters.ts'
import { FederationBench, memberOf, updateOf } from './federation-bench.ts'

const parent: ParentHead = {
  federation: 'bafyP',
  path: 'world',
  round: 1,
  entry: 'bafyE',
  model: 'bafyM',
  textBytes: 1,
  ancestors: [],
  holders: []
}

/** Peer a in the parent, delegate of the federation `child`. */
function delegate() {
  const bench = new FederationBench().start().admit('a')
  const said: (string | number)[] = []
  const taken: string[] = []
  const signed: Update[] = []
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
    sign: (update: Update): SignedUpdate<string> => {
      signed.push(update)
      return { link: `u-${update.blob}`, update, signed: update.blob }
    },
    say: (kind, signed) => said.push(`${kind} ${signed}`),
    wait: (_, ms) => said.push(ms),
    take: ({ link }) => taken.push(link)
  })
  return { handIn, said, taken, signed }
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

  it('names whom it can be fetched from: who made it first, each once', () => {
    const { handIn, signed } = delegate()
    handIn.handInFor('child', contribution('one', { holders: ['c', 'b', 'd'] }))
    assert.deepEqual(
      signed.map(({ by, member, holders }) => [by, member, holders]),
      [['a', 'child', ['b', 'c', 'd']]]
    )
  })

  it('says nothing of a round that is certified, nor for whom it does not stand', () => {
    const { handIn, said } = delegate()
    handIn.handInFor('child', contribution('late', { round: 0 }))
    handIn.handInFor('other', contribution('other', { member: 'other' }))
    handIn.handInFor('child', contribution('other', { member: 'other' }))
    handIn.anew()
    assert.deepEqual(said, [])
  })
})

describe('contributing to the federation above', () => {
  /** Peer a in the federation bafyF below a parent, whose part it hears as its delegate; it waits for the parent's round 1. */
  function below() {
    const said: (string | number)[] = []
    const handed: string[] = []
    const above = {
      handInFor: (member: string, { blob }: Update) => handed.push(`${member} ${blob}`)
    } as unknown as HandIn<string>
    const { state } = new FederationBench({ charter: testCharter({ parent: 'bafyP' }) })
    const host = {
      state: { ...state, round: { phase: 'waiting-for-parent' } as FederationState['round'] },
      above: (parent: string) => (parent === 'bafyP' ? above : null),
      sign: (update: Update): SignedUpdate<string> => ({ link: `u-${update.blob}`, update, signed: update.blob }),
      say: (kind: string, signed: string) => said.push(`${kind} ${signed}`),
      wait: (_: string, ms: number) => said.push(ms),
      take: () => assert.fail('it is none of this federation’s updates')
    }
    return { handIn: new HandIn<string>(host), host, said, handed }
  }
  const made = (blob: string, by = 'a') => updateOf('bafyF', { by, term: 1, blob })

  it('says it to the delegates, hands it in where this peer is one, and again until the parent has it', () => {
    const { handIn, host, said, handed } = below()
    handIn.contribute(made('one'))
    handIn.again('contribution')
    handIn.anew()
    assert.deepEqual(said, ['contribution one', 2_000, 'contribution one', 4_000, 'contribution one', 2_000])
    assert.deepEqual(handed, Array(3).fill('bafyF one'))
    const parentHead = { ...parent, round: 1 }
    host.state = { ...host.state, parentHead }
    handIn.again('contribution')
    host.state = { ...host.state, parentHead: null }
    handIn.again('contribution')
    assert.equal(said.length, 6, 'once it is settled, nothing is said any more')
  })

  it('ends where the round waits for the parent no longer', () => {
    const { handIn, host, said } = below()
    handIn.contribute(made('one'))
    host.state = { ...host.state, round: { phase: 'idle' } }
    handIn.again('contribution')
    handIn.anew()
    assert.deepEqual(said, ['contribution one', 2_000])
  })

  /** Where peer a is a voter, or not, and follows b. */
  const following = (state: FederationState, voters: string[]): FederationState => ({
    ...state,
    consensus: { ...state.consensus, voters, aggregator: 'b', term: 3 }
  })

  it('is heard from who leads, whatever term another member puts on its own', () => {
    const { handIn, host, handed } = below()
    host.state = following(host.state, ['a', 'b', 'c'])
    const told = (blob: string, by: string, term: number) => handIn.onContribution(by, { ...made(blob, by), term })
    told('another’s', 'c', 3)
    told('of a term to come', 'c', 2 ** 40)
    told('of a term that nobody began', 'b', 4)
    assert.deepEqual(handed, [])
    told('before it led anew', 'b', 1)
    told('good', 'b', 3)
    assert.deepEqual(handed, ['bafyF before it led anew', 'bafyF good'])
    host.state = following(host.state, ['b', 'c', 'd'])
    told('of no voter', 'e', 9)
    told('of one that may lead', 'c', 4)
    assert.deepEqual(handed.slice(2), ['bafyF of one that may lead'])
  })

  it('is heard from whom it is of, and nowhere above a world', () => {
    const { handIn, host, handed } = below()
    host.state = following(host.state, ['a', 'b', 'c'])
    handIn.onContribution('b', made('one', 'b'))
    handIn.onContribution('c', made('two', 'b'))
    host.state = { ...host.state, charter: testCharter() }
    handIn.onContribution('b', made('three', 'b'))
    assert.deepEqual(handed, ['bafyF one'])
  })
})
