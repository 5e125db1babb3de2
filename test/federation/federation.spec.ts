/** The four machines put together: a founder that admits, collects, certifies; and what it is after a restart. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Update } from '../../src/federation/entry.ts'
import { type FederationEvent, stepFederation } from '../../src/federation/federation.ts'
import { testCharter } from './charters.ts'
import { environment, FederationBench, memberOf, updateOf } from './federation-bench.ts'

const inputsOf = ({ inputs }: { inputs: { member: string; weight: number }[] }) =>
  inputs.map(({ member, weight }) => [member, weight])

/** A founder with two members, all of them voters, would need their signatures: the charter allows one. */
const alone = () => new FederationBench({ charter: testCharter({ voters: 1 }) })

describe('a federation on its aggregator', () => {
  it('admits whoever asks, one entry after the other, and the founder is a member like any other', () => {
    const bench = alone().start().admit('a', 'b', 'c')
    assert.deepEqual([...bench.state.roster.members.keys()], ['a', 'b', 'c'])
    assert.deepEqual(
      bench.log.map(({ entry }) => [entry.index, entry.prev]),
      [
        [1, 'bafyF'],
        [2, 'bafy1members'],
        [3, 'bafy2members']
      ]
    )
    assert.equal(bench.state.pending.size, 0)
  })

  it('admits at once, when it comes to lead, who asked before', () => {
    const bench = alone().on({ type: 'join', member: memberOf('a') })
    assert.deepEqual(bench.log, [])
    assert.deepEqual([...bench.start().state.roster.members.keys()], ['a'])
  })

  it('gives votes to those that have enrolled, as they asked, once', () => {
    const bench = new FederationBench().start().admit('a', 'b', 'c')
    assert.deepEqual(bench.state.roster.voters, ['a'])
    const enroll = (peer: string) =>
      bench.on({ type: 'enroll', enrolled: { peer, nonce: 1, signature: new Uint8Array() } }).log.at(-1)!.entry
    const first = enroll('b')
    assert.ok(first.kind === 'members')
    assert.deepEqual(
      [first.enrolled.map(({ peer }) => peer), first.voters],
      [['b'], ['a']],
      'an even number decides no more than one less'
    )
    // A vote that nobody is there to use would be asked for at once.
    for (const peer of ['b', 'c']) bench.on({ type: 'presence', peer, present: false })
    assert.deepEqual([enroll('c').kind, bench.state.roster.voters], ['members', ['a']])
    bench.on({ type: 'presence', peer: 'c', present: true, remembers: true })
    assert.deepEqual(
      [bench.state.roster.voters, bench.state.consensus.voters],
      [
        ['a', 'c'],
        ['a', 'c']
      ]
    )
    assert.equal(bench.state.enrolling.size, 0)
  })

  it('gives no vote back to one that has lost its disk meanwhile before it is enrolled anew: of it and one more nobody could enroll it', () => {
    const bench = new FederationBench().start().admit('a', 'b', 'c')
    const enroll = (peer: string, nonce: number) =>
      bench.on({ type: 'enroll', enrolled: { peer, nonce, signature: new Uint8Array() } })
    enroll('b', 1)
    for (const peer of ['b', 'c']) bench.on({ type: 'presence', peer, present: false })
    enroll('c', 1)
    assert.deepEqual(bench.state.roster.voters, ['a'], 'neither is there')
    const voters = (remembers?: boolean) => {
      const said = remembers === undefined ? {} : { remembers }
      return bench.on({ type: 'presence', peer: 'c', present: true, ...said }).state.roster.voters
    }
    assert.deepEqual([voters(), voters(false)], [['a'], ['a']])
    enroll('c', 2)
    const last = bench.log.at(-1)!.entry
    assert.ok(last.kind === 'members')
    assert.deepEqual([last.enrolled.map(({ nonce }) => nonce), last.voters], [[2], ['a', 'c']])
  })

  it('certifies a round when all that are present are in, and begins the next from it', () => {
    const bench = alone().start().admit('a', 'b').announce('a').announce('b')
    assert.deepEqual(bench.rounds.map(inputsOf), [
      [
        ['a', 100],
        ['b', 100]
      ]
    ])
    assert.deepEqual([bench.state.head.round, bench.state.head.link, bench.state.round.phase], [1, 'bafy3round', 'collecting'])
    assert.deepEqual(bench.state.known.values(), [], 'what is settled is nobody’s to say any more')
    bench.announce('a').announce('b')
    assert.deepEqual(
      bench.rounds.map(({ round, base }) => [round, base]),
      [
        [1, 'bafyF'],
        [2, 'bafy3round']
      ]
    )
  })

  it('stores an entry before it does anything that rests on it', () => {
    const bench = alone().start().admit('a', 'b').announce('a').announce('b')
    const kinds = bench.effects.map(effect => effect.do)
    const stored = kinds.lastIndexOf('store')
    assert.ok(stored < kinds.indexOf('publish', stored) && kinds.lastIndexOf('start-timer') > stored)
  })

  it('counts a late update in the next round at half its weight, once, and names it late before (I4)', () => {
    const bench = alone().start().admit('a', 'b').announce('a')
    bench.on({ type: 'timer', name: 'deadline' })
    assert.deepEqual(bench.rounds[0]?.excluded, [{ member: 'b', reason: 'late' }])
    const late = { round: 1, base: 'bafyF' }
    bench.announce('b', late).announce('a')
    assert.deepEqual(bench.rounds.map(inputsOf), [
      [['a', 100]],
      [
        ['a', 100],
        ['b', 50]
      ]
    ])
    bench.announce('b', late)
    assert.deepEqual(
      bench.find('refused').map(({ fault }) => fault.code),
      ['SETTLED']
    )
  })

  it('counts one update of two that a member announces for a round', () => {
    const bench = alone().start().admit('a', 'b')
    const twice = (link: string, weight: number) =>
      bench.on({ type: 'update', link, update: updateOf('b', { weight, base: bench.state.head.link }) })
    twice('one', 100)
    twice('other', 200)
    twice('one', 100)
    bench.announce('a')
    assert.deepEqual(bench.rounds.map(inputsOf), [
      [
        ['a', 100],
        ['b', 100]
      ]
    ])
  })

  it('keeps of a child’s contribution the first that its delegates hand in, and the newest: of a later term, or a later round', () => {
    const bench = new FederationBench({ charter: testCharter({ voters: 1 }) }, { automatic: false }).start().admit('a')
    bench.on({ type: 'join', member: memberOf('x', 'federation', ['p', 'q']) })
    // Whether a round is open here or not: who does not lead keeps them for whoever will.
    const hands = (link: string, facts: Partial<Update>) => {
      const base = bench.state.head.link
      bench.on({
        type: 'update',
        link,
        update: updateOf('x', { by: 'p', term: 2, round: bench.state.head.round + 1, base, ...facts })
      })
      return bench.state.known.get('x')?.link
    }
    const follows = { ...bench.state, round: { phase: 'idle' } as const }
    for (const state of [bench.state, follows]) {
      bench.state = state
      const first = { round: 1, base: 'bafyF' }
      assert.deepEqual(
        [hands('one', {}), hands('two', { by: 'q' }), hands('three', { term: 3 }), hands('four', { term: 2 })],
        ['one', 'one', 'three', 'three']
      )
      bench.state = {
        ...bench.state,
        bases: [...bench.state.bases, { link: 'r1', round: 1 }],
        head: { ...bench.state.head, round: 1, link: 'r1' }
      }
      assert.deepEqual([hands('five', { term: 1 }), hands('six', { ...first, term: 9 })], ['five', 'five'])
    }
  })

  it('keeps updates when it loses its office, and collects again from them when it has it back', () => {
    const other = alone().start().admit('a', 'b').announce('a')
    other.on({
      type: 'consensus',
      event: { type: 'message', from: 'a', message: { type: 'heartbeat', term: 9, commitIndex: 0 } }
    })
    assert.equal(other.state.round.phase, 'idle')
    // The first time it finds the aggregator silent, the second time its turn has come.
    for (const _ of [1, 2]) other.on({ type: 'consensus', event: { type: 'timer', name: 'election' } })
    assert.equal(other.state.round.phase, 'collecting')
    other.announce('b')
    assert.deepEqual(other.rounds.map(inputsOf), [
      [
        ['a', 100],
        ['b', 100]
      ]
    ])
  })

  it('names who is silent for long absent, until it is heard again, by whatever it says', () => {
    const bench = alone().start().admit('a', 'b', 'c')
    const absent = () => [...bench.state.roster.absent]
    const heard: FederationEvent[] = [
      { type: 'presence', peer: 'b', present: true },
      { type: 'consensus', event: { type: 'message', from: 'b', message: { type: 'recall' } } }
    ]
    for (const event of heard) {
      // Gone for a while changes nothing; and what is heard in time takes it back.
      for (const one of [{ type: 'presence', peer: 'b', present: false } as const, event]) bench.on(one)
      assert.deepEqual([absent(), [...bench.state.away]], [[], []])
      bench.on({ type: 'presence', peer: 'b', present: false }).on({ type: 'away', peer: 'b' })
      assert.deepEqual([absent(), [...bench.state.away]], [['b'], ['b']])
      bench.on(event)
      assert.deepEqual([...bench.state.away], [])
      const entries = bench.log.length
      bench.on({ type: 'presence', peer: 'b', present: true })
      assert.deepEqual([absent(), bench.log.length <= entries + 1], [[], true])
      bench.on({ type: 'presence', peer: 'c', present: true })
      assert.deepEqual(absent(), [])
    }
  })

  it('says the updates of those that are away once more when another leads, which may never have heard them', () => {
    const bench = alone().start().admit('a', 'b', 'c', 'd').announce('b').announce('c').announce('a')
    assert.deepEqual(bench.find('pass-on'), [])
    // Nobody hears itself.
    for (const peer of ['a', 'c']) bench.on({ type: 'presence', peer, present: false })
    bench.state = { ...bench.state, consensus: { ...bench.state.consensus, voters: ['a', 'd'] } }
    const heartbeat = { type: 'heartbeat', term: 9, commitIndex: 0 } as const
    bench.on({ type: 'consensus', event: { type: 'message', from: 'd', message: heartbeat } })
    assert.deepEqual(
      bench.find('pass-on').map(({ link }) => link),
      ['u-c-1']
    )
    bench.on({ type: 'consensus', event: { type: 'message', from: 'd', message: heartbeat } })
    assert.equal(bench.find('pass-on').length, 1)
  })

  it('names who joined while the round was being closed: each contributor is counted or excluded', () => {
    const bench = new FederationBench({ charter: testCharter({ voters: 1 }) }, { automatic: false }).start().admit('a')
    bench.announce('a').on({ type: 'pulled', link: 'u-a-1', keysDistance: 0 })
    assert.equal(bench.state.round.phase, 'aggregating')
    bench.admit('b').aggregated(1, ['u-a-1'])
    assert.deepEqual(bench.rounds[0]?.excluded, [{ member: 'b', reason: 'late' }])
  })

  it('stops where a round is certified that no honest voter signs: it counts a member twice (I3)', () => {
    const bench = alone().start().admit('a', 'b').announce('a').announce('b')
    const [round] = bench.rounds
    const { commitIndex, head, term } = bench.state.consensus
    const entry = { ...round!, index: commitIndex + 1, prev: head, round: 2, inputs: [...round!.inputs, ...round!.inputs] }
    const certificate = { federation: 'bafyF', index: entry.index, term, entry: 'bafyX', signatures: [] }
    const event = { type: 'certified', link: 'bafyX', entry, certificate } as const
    assert.throws(() => bench.on({ type: 'consensus', event }), /I3/)
  })

  it('ends after as many rounds as the charter says', () => {
    const bench = new FederationBench({ charter: testCharter({ voters: 1, algorithm: { rounds: 2 } }) }).start().admit('a')
    for (let round = 0; round < 4; round++) bench.announce('a')
    assert.deepEqual([bench.rounds.length, bench.state.round.phase], [2, 'idle'])
  })

  it('is after a restart what it was, folded from its certified log', () => {
    const bench = alone().start().admit('a', 'b', 'c').announce('a').announce('b').announce('c').announce('a')
    bench.on({ type: 'timer', name: 'deadline' })
    const { term, votedFor, accepted } = bench.find('persist').at(-1)!
    const again = new FederationBench({
      charter: bench.state.charter,
      entries: bench.log,
      persisted: { term, votedFor, accepted }
    })
    for (const part of ['roster', 'head', 'bases', 'counted'] as const) assert.deepEqual(again.state[part], bench.state[part])
    for (const part of ['commitIndex', 'head', 'voters', 'term', 'votedFor'] as const)
      assert.deepEqual(again.state.consensus[part], bench.state.consensus[part])
    // And goes on from there: the third round is the next, from the newest base.
    again.start()
    for (const peer of ['b', 'c']) again.on({ type: 'presence', peer, present: true })
    again.announce('a').announce('b').announce('c')
    assert.deepEqual(
      again.rounds.map(({ round, base }) => [round, base]),
      [[3, bench.state.head.link]]
    )
  })

  it('certifies what voters would check, whatever order updates, absences and deadlines come in (I3, I4)', () => {
    const names = ['a', 'b', 'c']
    const event = fc.record({
      name: fc.constantFrom(...names),
      what: fc.constantFrom('announce', 'late', 'away', 'back', 'deadline', 'look')
    })
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), events => {
        const bench = alone()
          .start()
          .admit(...names)
        for (const { name, what } of events) {
          if (what === 'announce') bench.announce(name)
          if (what === 'late') {
            const [base] = bench.state.bases.slice(-2)
            bench.announce(name, { base: base!.link, round: base!.round + 1 })
          }
          if (what === 'away' || what === 'back') bench.on({ type: 'presence', peer: name, present: what === 'back' })
          if (what === 'deadline') bench.on({ type: 'timer', name: 'deadline' })
        }
        const countedOnce = new Set<string>()
        for (const { inputs, excluded, round } of bench.rounds) {
          assert.deepEqual([...inputs, ...excluded].map(({ member }) => member).sort(), names, `round ${round}`)
          for (const { update } of inputs) {
            assert.ok(!countedOnce.has(update), `${update} is counted twice`)
            countedOnce.add(update)
          }
        }
      }),
      { numRuns: 300, seed: 1 }
    )
  })

  it('takes late answers of a round that is over for nothing', () => {
    const bench = alone().start().admit('a').announce('a')
    const before = bench.state
    for (const event of [
      { type: 'aggregated', round: 1, inputs: ['u-a-1'], result: null as never },
      { type: 'combined', round: 1, own: 'bafyM1', parent: null as never, model: 'bafyX', modelBytes: 1 },
      { type: 'pulled', link: 'u-a-1', keysDistance: 0 },
      { type: 'timer', name: 'parent' }
    ] as const)
      assert.deepEqual(stepFederation(environment, before, event)[0].round, before.round)
  })
})
