/** What a peer was asked for, as values: held to maps and sets. And who gets it, while others ask for what they never get. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { asked, enrolledBy, enrolling, heardOf, without, withPeer } from '../../src/federation/requests.ts'
import { genesisRoster } from '../../src/federation/membership.ts'
import { testCharter } from './charters.ts'
import { FederationBench, memberOf } from './federation-bench.ts'

describe('what a peer was asked for', () => {
  it('waits, the last word of each, until it is settled; no change is a change of an earlier value', () => {
    const name = fc.constantFrom(...'abcde')
    const change = fc.oneof(fc.record({ name, value: fc.nat(9) }), fc.record({ settled: fc.array(name, { maxLength: 3 }) }))
    fc.assert(
      fc.property(fc.array(change, { maxLength: 20 }), changes => {
        const plain = new Map<string, number>()
        let waiting: ReadonlyMap<string, number> = new Map()
        for (const one of changes) {
          const [before, values] = [waiting, new Map(waiting)]
          if ('settled' in one) {
            for (const settled of one.settled) plain.delete(settled)
            waiting = without(waiting, one.settled)
          } else {
            plain.set(one.name, one.value)
            waiting = asked(waiting, one.name, one.value)
          }
          assert.deepEqual(waiting, plain)
          assert.deepEqual(before, values)
        }
      })
    )
  })

  it('is as much as fits: who asked first is forgotten first, until it asks again', () => {
    let waiting: ReadonlyMap<number, string> = new Map()
    for (let name = 0; name < 1010; name++) waiting = asked(waiting, name, 'first')
    assert.deepEqual([waiting.size, waiting.has(9), waiting.has(10), waiting.has(1009)], [1000, false, true, true])
    waiting = asked(waiting, 3, 'again')
    assert.deepEqual([waiting.size, waiting.get(3), waiting.has(10)], [1000, 'again', false])
  })

  it('comes from peers that are there or not', () => {
    const [a, b] = [withPeer(new Set(), 'a', true), withPeer(new Set(['a']), 'a', false)]
    assert.deepEqual(
      [[...a], [...b], [...withPeer(a, 'b', false)], [...withPeer(a, 'b', true)]],
      [['a'], [], ['a'], ['a', 'b']]
    )
  })
})

describe('who remembers how it voted', () => {
  const state = { present: new Set(['b']), away: new Set(['c']), remembering: new Set(['b']) }
  const enrolled = (nonce: number, peer = 'b') => ({ peer, nonce, signature: new Uint8Array() })

  it('is who says so, until it says otherwise, or nothing', () => {
    const heard = (peer: string, present: boolean, remembers?: boolean) =>
      [...heardOf(state, { peer, present, ...(remembers === undefined ? {} : { remembers }) }).remembering].join()
    assert.deepEqual([heard('b', true), heard('b', true, false), heard('b', false)], ['b', '', ''])
    assert.deepEqual([heard('c', true), heard('c', true, true), heard('c', false, true)], ['b', 'b,c', 'b'])
    const { present, away } = heardOf(state, { peer: 'c', present: true })
    assert.deepEqual([[...present], [...away]], [['b', 'c'], []])
  })

  it('is not who asks to be enrolled by another number, before it is enrolled by its last', () => {
    const roster = { ...genesisRoster({ founders: ['b'] }) }
    const asks = (nonce: number) => enrolling({ ...state, roster, enrolling: new Map() }, enrolled(nonce))
    assert.deepEqual([[...asks(0).remembering], [...asks(7).remembering]], [['b'], []])
    const settled = (...nonces: number[]) =>
      enrolledBy({ ...state, ...asks(7), roster }, { enrolled: nonces.map(nonce => enrolled(nonce)) })
    assert.deepEqual(
      [settled(7), settled(6)].map(({ remembering, enrolling }) => [[...remembering], enrolling.size]),
      [
        [['b'], 0],
        [[], 1]
      ]
    )
    const gone = enrolledBy({ ...state, roster, enrolling: new Map() }, { enrolled: [enrolled(1, 'c')] })
    assert.deepEqual([...gone.remembering], ['b'], 'nor who is not there')
  })
})

const strangers = Array.from({ length: 1_200 }, (_, place) => `stranger ${place}`)

describe('requests to an aggregator', () => {
  it('are heard, however many strangers have asked for a vote, or for a place that admission does not give them', () => {
    const charter = testCharter({ voters: 3, admission: { mode: 'allow-list', peers: ['a', 'b', 'c'] } })
    const bench = new FederationBench({ charter }).start().admit('a')
    for (const peer of strangers) {
      bench.on({ type: 'enroll', enrolled: { peer, nonce: 1, signature: new Uint8Array() } })
      bench.on({ type: 'join', member: memberOf(peer) })
    }
    assert.ok(bench.state.enrolling.size <= 1_000 && bench.state.pending.size <= 1_000)
    bench.on({ type: 'enroll', enrolled: { peer: 'b', nonce: 2, signature: new Uint8Array() } })
    bench.admit('b')
    assert.deepEqual([...bench.state.roster.members.keys()], ['a', 'b'])
    assert.equal(bench.state.roster.enrolled.get('b'), 2)
  })

  it('tell it of voters that have forgotten how they voted, and will sign nothing before they are enrolled', () => {
    const bench = new FederationBench({ charter: testCharter({ founders: ['a', 'b', 'c'] }), self: 'a' }).start()
    const asks = (peer: string, nonce: number) =>
      bench.on({ type: 'enroll', enrolled: { peer, nonce, signature: new Uint8Array() } })
    asks('b', 0)
    assert.deepEqual([...bench.state.consensus.forgetful], [], 'by the number that it is enrolled by')
    asks('b', 7)
    asks('z', 7)
    assert.deepEqual([...bench.state.consensus.forgetful], ['b'])
  })
})
