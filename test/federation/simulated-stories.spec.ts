/**
 * What the simulator found in these machines, each as the short story that a seed was cut down to. The named runs broke an invariant
 * before the fix (worldlm simulate --topology … --faults … --seed …).
 */
import assert from 'node:assert/strict'
import { initialFederation } from '../../src/federation/federation-start.ts'
import {
  applyMembers,
  checkMembers,
  genesisRoster,
  planMembers,
  rosterPeers,
  type Wishes
} from '../../src/federation/membership.ts'
import { testCharter } from './charters.ts'
import { Peer } from './consensus-bench.ts'
import { FederationBench, memberOf } from './federation-bench.ts'
import { aggregated as anAggregation } from './round-bench.ts'

const proof = new Uint8Array()
const aggregated = { ...anAggregation, attention: [[1], [1]] }
const phaseOf = ({ state }: FederationBench): string => state.round.phase
const wishes: Wishes = { joining: [], leaving: [], accused: [], enrolling: [], isPresent: () => true, isAway: () => false }

describe('found by the simulator', () => {
  it('counts nobody who left while its update was being aggregated (I3: tree:2x2x3 chaos 16)', () => {
    const bench = new FederationBench({ charter: testCharter({ voters: 1 }) }, { automatic: false }).start().admit('a', 'b')
    bench.on({ type: 'leave', left: { member: 'b', reason: '', proof } })
    assert.equal(bench.state.roster.members.has('b'), false)
    bench.admit('b').announce('a').announce('b')
    // Between the proposal of the entry that lets it go and its certificate, the round closes: here the log is told by another.
    for (const link of ['u-a-1', 'u-b-1']) bench.on({ type: 'pulled', link, keysDistance: 1 })
    assert.equal(phaseOf(bench), 'aggregating')
    const { commitIndex: index, head: prev } = bench.state.consensus
    const change = { joined: [], left: [{ member: 'b', reason: '', proof }], evicted: [], enrolled: [], absent: [] }
    const { voters } = bench.state.roster
    const head = { federation: 'bafyF', index: index + 1, prev, term: 1, proposer: 'a', kind: 'members' as const }
    const entry = { ...head, ...change, voters: [...voters], delegates: ['a'] }
    const certificate = { federation: 'bafyF', index: index + 1, term: 1, entry: 'bafyL', signatures: [] }
    bench.on({ type: 'consensus', event: { type: 'certified', link: 'bafyL', entry, certificate } })
    assert.equal(phaseOf(bench), 'collecting')
    bench.on({ type: 'pulled', link: 'u-a-1', keysDistance: 1 })
    bench.on({ type: 'aggregated', round: 1, inputs: ['u-a-1', 'u-b-1'], result: aggregated })
    assert.equal(phaseOf(bench), 'aggregating', 'the answer for the inputs before is not this round’s')
    bench.on({ type: 'aggregated', round: 1, inputs: ['u-a-1'], result: { ...aggregated, attention: [[1]] } })
    assert.deepEqual(
      bench.rounds.map(({ inputs }) => inputs.map(({ member }) => member)),
      [['a']]
    )
  })

  it('asks for a blob again when it is announced again, unless it was refused for what it is (I8: tree:2x4 chaos 59)', () => {
    const bench = new FederationBench({}, { automatic: false }).start().admit('a', 'b').announce('b')
    const pulls = () => bench.find('pull').filter(({ link }) => link === 'u-b-1').length
    bench.on({ type: 'unpulled', link: 'u-b-1', fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: '' } }).announce('b')
    assert.equal(pulls(), 2)
    bench.on({ type: 'unpulled', link: 'u-b-1', fault: { code: 'DAMAGED', verdict: 'reject', detail: '' } }).announce('b')
    assert.equal(pulls(), 2)
  })

  it('goes on alone when the parent’s model cannot be had (I8)', () => {
    const charter = testCharter({ parent: 'bafyP' })
    const parent = { federation: 'bafyP', path: 'world', round: 1, entry: 'bafyE', model: 'bafyPM', textBytes: 9 }
    const bench = new FederationBench({ charter }, { automatic: false }).start().admit('a').announce('a')
    bench.on({ type: 'pulled', link: 'u-a-1', keysDistance: 1 })
    bench.on({ type: 'aggregated', round: 1, inputs: ['u-a-1'], result: { ...aggregated, attention: [[1]] } })
    bench.on({ type: 'parent-head', head: { ...parent, ancestors: [], holders: [] } })
    assert.equal(phaseOf(bench), 'combining')
    bench.on({ type: 'timer', name: 'parent' })
    assert.deepEqual(
      bench.rounds.map(({ alone, ancestors }) => [alone !== null, ancestors.length]),
      [[true, 0]]
    )
  })

  it('remembers its enrollment when it died between the entry and its own note of it (I8: tree:2x2x3 chaos 21)', () => {
    const charter = testCharter({ founders: ['f'] })
    const change = { joined: [memberOf('a')], left: [], evicted: [], absent: [], voters: ['f', 'a'], delegates: ['a'] }
    const head = { federation: 'bafyF', index: 1, prev: 'bafyF', term: 1, proposer: 'f', kind: 'members' as const }
    const entry = { ...head, ...change, enrolled: [{ peer: 'a', nonce: 7, signature: proof }] }
    const start = { id: 'bafyF', charter, self: 'a', rank: 0, persisted: { term: 0, votedFor: null, accepted: null } }
    const nonceAfter = (nonce: number) =>
      initialFederation({ ...start, entries: [{ link: 'bafy1', entry }], nonce }).consensus.nonce
    assert.deepEqual([nonceAfter(7), nonceAfter(8)], [null, 8])
  })

  it('gives no vote to a peer that is not there, and goes on joining others (I8: tree:2x2x3 chaos 20)', () => {
    const charter = testCharter({ founders: ['a'] })
    const [a, b, c] = ['a', 'b', 'c'].map(name => memberOf(name)) as [ReturnType<typeof memberOf>, never, never]
    const enrolling = ['a', 'b', 'c'].map(peer => ({ peer, nonce: 1, signature: proof }))
    const asked = { ...wishes, joining: [a, b, c], enrolling, isPresent: (peer: string) => peer !== 'b' }
    const first = planMembers(genesisRoster(charter), charter, asked)!
    assert.deepEqual([first.voters, first.joined.length], [['a', 'c'], 3])
    assert.equal(checkMembers(genesisRoster(charter), charter, first), null)
    const roster = applyMembers(genesisRoster(charter), first)
    assert.equal(planMembers(roster, charter, asked), null, 'it waits for b, without an entry')
    assert.deepEqual(planMembers(roster, charter, wishes)!.voters, ['a', 'c', 'b'])
  })

  it('hears who left as long as it votes, and tells who asks what it knows (I8: tree:2x4 churn 88)', () => {
    const charter = testCharter({ founders: ['a'] })
    const both = { ...genesisRoster(charter), voters: ['a', 'b'] }
    assert.ok(rosterPeers(both, charter).has('b'))
    const gone = new Peer({ term: 3, commitIndex: 6, head: 'head', voters: ['b'] })
    gone.hears('b', { type: 'pre-vote', term: 4, commitIndex: 5, acceptedTerm: 3 })
    assert.deepEqual(
      gone.sent('pre-vote-reply').map(({ message }) => [message.granted, message.commitIndex]),
      [[false, 6]]
    )
    gone.hears('b', { type: 'pre-vote', term: 4, commitIndex: 6, acceptedTerm: 3 })
    assert.equal(gone.sent('pre-vote-reply').length, 1, 'who knows as much is told nothing')
  })

  it('gives no receipt for a round that an entry of an earlier aggregator settles (I4: tree:2x2x2x3 disk 20446)', () => {
    const earlier = new FederationBench({ charter: testCharter({ voters: 1 }) })
      .start()
      .admit('a', 'b')
      .announce('a')
      .announce('b')
    const [{ entry, link }] = earlier.log.filter(one => one.entry.kind === 'round') as [(typeof earlier.log)[number]]
    const entries = earlier.log.filter(one => one.entry.index < entry.index)
    const accepted = { index: entry.index, term: 1, link, entry }
    const bench = new FederationBench({
      charter: testCharter({ voters: 1 }),
      entries,
      persisted: { term: 1, votedFor: null, accepted }
    })
    // Three voters, so that nothing is final before another has signed.
    bench.state = { ...bench.state, consensus: { ...bench.state.consensus, voters: ['a', 'b', 'c'] } }
    const hear = (message: object) =>
      bench.on({ type: 'consensus', event: { type: 'message', from: 'b', message } } as Parameters<typeof bench.on>[0])
    const commitIndex = entry.index - 1
    bench.on({ type: 'consensus', event: { type: 'timer', name: 'election' } })
    hear({ type: 'pre-vote-reply', term: 1, granted: true, commitIndex })
    hear({ type: 'vote-reply', term: 2, granted: true, commitIndex })
    assert.equal(bench.state.consensus.role, 'leader')
    bench.announce('b', { blob: 'another' })
    assert.deepEqual(bench.find('pull'), [])
    assert.equal(phaseOf(bench), 'idle')
    hear({ type: 'accept', term: 2, index: entry.index, link, signature: proof })
    assert.equal(bench.state.head.round, 1)
    assert.equal(phaseOf(bench), 'collecting')
  })
})
