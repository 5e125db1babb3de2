/** What every peer that follows two federations, or none above, decides alike. */
import assert from 'node:assert/strict'
import { holdersOfUpdate, isDeputy } from '../../src/federation/levels.ts'
import { genesisRoster } from '../../src/federation/membership.ts'
import { stepFederation } from '../../src/federation/federation.ts'
import type { FederationState } from '../../src/federation/federation-state.ts'
import { environment, FederationBench, memberOf, updateOf } from './federation-bench.ts'

describe('the likely holders of an update', () => {
  it('are whom it names, who signed it, then the voters: one that led before has fetched it, and its maker may be dead', () => {
    const roster = genesisRoster({ founders: ['v', 'w', 'b'] })
    assert.deepEqual(holdersOfUpdate({ roster }, updateOf('b', { holders: ['a'], by: 'b' })), ['a', 'b', 'v', 'w'])
  })
})

describe('the deputy of an aggregator', () => {
  const bench = new FederationBench().start().admit('a', 'b', 'c', 'd')
  /** Peer a, which follows `aggregator` and hears `present`. */
  const following = (aggregator: string | null, voters: string[], present: string[]): FederationState => {
    const { distrusted: _, ...consensus } = bench.state.consensus
    const shared = { ...consensus, distrusted: new Set<string>(), aggregator, voters, role: 'follower' as const }
    return { ...bench.state, consensus: shared, present: new Set(present), round: { phase: 'idle' } }
  }

  const rows: { why: string; aggregator: string | null; voters: string[]; present: string[]; is: boolean }[] = [
    { why: 'the first voter besides it', aggregator: 'b', voters: ['b', 'a', 'c'], present: ['b', 'c'], is: true },
    { why: 'not the second', aggregator: 'b', voters: ['b', 'c', 'a'], present: ['b', 'c'], is: false },
    { why: 'the second, if the first is away', aggregator: 'b', voters: ['b', 'c', 'a'], present: ['b'], is: true },
    { why: 'not the aggregator', aggregator: 'a', voters: ['a', 'b', 'c'], present: ['b', 'c'], is: false },
    { why: 'nobody, where nobody leads', aggregator: null, voters: ['a', 'b', 'c'], present: ['b', 'c'], is: false },
    { why: 'not who has no vote', aggregator: 'b', voters: ['b', 'c', 'd'], present: ['b'], is: false }
  ]
  for (const { why, is, aggregator, voters, present } of rows)
    it(`is ${why}`, () => assert.equal(isDeputy(following(aggregator, voters, present)), is))

  const updates: { why: string; update: ReturnType<typeof updateOf>; held: boolean }[] = [
    { why: 'the aggregator’s own update', update: updateOf('b'), held: true },
    { why: 'nobody else’s, for the aggregator fetches it', update: updateOf('c'), held: false },
    { why: 'not what it hands in for a child', update: updateOf('child', { by: 'b', term: 2 }), held: false }
  ]
  for (const { why, update, held } of updates)
    it(`fetches ${why}`, () => {
      const state = following('b', ['b', 'a', 'c'], ['b', 'c'])
      const members = new Map(state.roster.members).set('child', memberOf('child', 'federation', ['b']))
      const given = { ...state, roster: { ...state.roster, members } }
      const [, effects] = stepFederation(environment, given, { type: 'update', link: 'u', update })
      assert.deepEqual(effects, held ? [{ do: 'hold', update }] : [])
    })
})
