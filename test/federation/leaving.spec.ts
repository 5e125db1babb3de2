/** Members that leave, lie, or are gone, while rounds go on (docs/protocol.md, "Members that leave, lie, or are gone"). */
import assert from 'node:assert/strict'
import type { MembersEntry } from '../../src/federation/entry.ts'
import { testCharter } from './charters.ts'
import { environment, FederationBench } from './federation-bench.ts'

const alone = (overrides: Parameters<typeof testCharter>[0] = {}, automatic = true) =>
  new FederationBench({ charter: testCharter({ voters: 1, ...overrides }) }, { automatic })
const left = (member: string) => ({ type: 'leave', left: { member, reason: 'left', proof: new Uint8Array() } }) as const
const accuse = (peer: string) => ({ type: 'accuse', evicted: { peer, proof: new Uint8Array() } }) as const

describe('a member that leaves', () => {
  it('in the middle of a round is excluded from it by that reason, its accepted update too', () => {
    const bench = alone().start().admit('a', 'b', 'c').announce('b').on(left('b')).announce('a').announce('c')
    assert.deepEqual([...bench.state.roster.members.keys()], ['a', 'c'])
    const [round] = bench.rounds
    assert.deepEqual(
      round?.inputs.map(({ member }) => member),
      ['a', 'c']
    )
    assert.deepEqual(round?.excluded, [{ member: 'b', reason: 'left' }])
  })

  it('while its update is being aggregated leaves after that round, which still counts it', () => {
    const bench = alone({}, false).start().admit('a', 'b')
    for (const name of ['a', 'b']) {
      bench.announce(name)
      bench.on({ type: 'pulled', link: `u-${name}-1`, keysDistance: 1 })
    }
    assert.equal(bench.state.round.phase, 'aggregating')
    bench.on(left('b'))
    assert.ok(bench.state.roster.members.has('b'))
    bench.aggregated(1, ['u-a-1', 'u-b-1'])
    assert.deepEqual(
      bench.rounds[0]?.inputs.map(({ member }) => member),
      ['a', 'b']
    )
    assert.deepEqual([...bench.state.roster.members.keys()], ['a'])
  })

  it('is not waited for, and may join again', () => {
    const bench = alone().start().admit('a', 'b').announce('a').on(left('b'))
    assert.equal(bench.rounds.length, 1)
    bench.admit('b').announce('a').announce('b')
    assert.deepEqual(
      bench.rounds[1]?.inputs.map(({ member }) => member),
      ['a', 'b']
    )
  })

  it('ends its own part: what it trained for is announced no more', () => {
    const bench = alone().start().admit('a', 'b')
    bench.on({ type: 'participation', event: { type: 'ready', applied: 'bafyF', pending: null } })
    assert.equal(bench.state.participation.phase, 'training')
    bench.on(left('a'))
    assert.equal(bench.state.participation.phase, 'away')
  })
})

describe('a peer that lied', () => {
  it('is evicted, its update excluded by that reason, and what it says is not heard', () => {
    const bench = alone().start().admit('a', 'b', 'c').announce('b').on(accuse('b')).announce('a').announce('c')
    assert.deepEqual([...bench.state.roster.evicted], ['b'])
    assert.deepEqual(bench.rounds[0]?.excluded, [{ member: 'b', reason: 'evicted' }])
    assert.ok(bench.state.consensus.distrusted.has('b'))
    bench.admit('b')
    assert.ok(!bench.state.roster.members.has('b'))
  })

  it('is accused once, whoever accuses; nobody is accused of its own lies by itself', () => {
    const bench = alone().start().admit('a', 'b').on(accuse('b'))
    const entries = bench.log.length
    bench.on(accuse('b')).on(accuse('a'))
    assert.equal(bench.log.length, entries)
    assert.ok(bench.state.roster.members.has('a'))
  })
})

describe('a peer that is gone for long', () => {
  /** A voter that is asked to accept that `absent` are absent. */
  function asked(bench: FederationBench, absent: string[], voters: string[], from = 'b', term = 5) {
    const head = { federation: 'bafyF', index: bench.state.consensus.commitIndex + 1, prev: bench.state.consensus.head }
    const nobody = { joined: [], left: [], evicted: [], enrolled: [] }
    const delegates = ['a', 'b', 'c', 'd'].filter(peer => !absent.includes(peer)).slice(0, 3)
    const entry: MembersEntry = { kind: 'members', ...head, term, proposer: from, ...nobody, absent, voters, delegates }
    const link = environment.linkOf(entry)
    const message = { type: 'propose', term, link, entry, signature: new Uint8Array(64) } as const
    bench.effects = []
    return bench.on({ type: 'consensus', event: { type: 'message', from, message } })
  }

  /** One peer alone cannot make more voters; the log is given. */
  function given(...steps: string[][]): FederationBench {
    const joined = ['a', 'b', 'c', 'd'].map(name => ({
      member: name,
      kind: 'organization' as const,
      name,
      peers: [name],
      proof: new Uint8Array()
    }))
    const enrolled = ['a', 'b', 'c', 'd'].map(peer => ({ peer, nonce: 1, signature: new Uint8Array() }))
    const rest = { left: [], evicted: [], absent: [], delegates: ['a', 'b', 'c'] }
    return new FederationBench({
      charter: testCharter({ voters: 3 }),
      entries: steps.map((voters, place) => {
        const entry: MembersEntry = {
          kind: 'members',
          federation: 'bafyF',
          index: place + 1,
          prev: place === 0 ? 'bafyF' : 'bafy1members',
          term: 1,
          proposer: 'a',
          joined: place === 0 ? joined : [],
          enrolled: place === 0 ? enrolled : [],
          ...rest,
          voters: [...voters]
        }
        return { link: environment.linkOf(entry), entry }
      })
    }).start()
  }

  it('loses its vote only if no voter hears it', () => {
    const voter = given(['a', 'b'], ['a', 'b', 'c'])
    voter.on({ type: 'presence', peer: 'c', present: true })
    asked(voter, ['c'], ['a', 'b'])
    assert.equal(voter.find('refused-entry')[0]?.fault.code, 'STILL_PRESENT')
    asked(voter, ['a'], ['b', 'c'])
    assert.equal(voter.find('refused-entry')[0]?.fault.code, 'STILL_PRESENT', 'and it hears itself')
    voter.on({ type: 'presence', peer: 'c', present: false })
    asked(voter, ['c'], ['a', 'b'])
    assert.deepEqual([voter.find('refused-entry').length, voter.find('verify').length], [0, 1])
  })

  it('loses it also where it is heard again, once half of the voters have accepted that it is gone: they can certify nothing else', () => {
    const [two, three] = [given(['a', 'b']), given(['a', 'b'], ['a', 'b', 'c'])]
    for (const voter of [two, three]) voter.on({ type: 'presence', peer: 'd', present: true })
    const refused = (voter: FederationBench, absent: string, from: string, term: number) =>
      asked(voter, [absent], [...voter.state.roster.voters], from, term).find('refused-entry')[0]?.fault.code ?? null
    assert.equal(refused(two, 'a', 'b', 5), 'STILL_PRESENT', 'nobody signs that it is absent itself')
    assert.equal(refused(two, 'd', 'b', 6), null)
    assert.equal(refused(three, 'd', 'b', 5), 'STILL_PRESENT')
    assert.equal(refused(three, 'd', 'b', 6), 'STILL_PRESENT', 'whoever says it again is one all the same')
    assert.equal(refused(three, 'd', 'c', 7), null)
  })

  it('is not named absent by an aggregator that it answers, though its presence is yet to come', () => {
    const voter = given(['a', 'b']).on({ type: 'away', peer: 'b' }).on({ type: 'away', peer: 'c' })
    const message = { type: 'heartbeat-reply', term: 1, commitIndex: 1 } as const
    voter.on({ type: 'consensus', event: { type: 'message', from: 'b', message } })
    assert.deepEqual([...voter.state.away], ['c'])
  })
})
