import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Member } from '../../src/federation/entry.ts'
import { type RoundEvent, stepRound } from '../../src/federation/round.ts'
import { shortText } from '../../src/wire/codec.ts'
import { updateOf } from './federation-bench.ts'
import { aggregated, Bench, parentHead } from './round-bench.ts'

describe('a round', () => {
  it('closes when all that are present are in, and counts each once, in the order of their ids', () => {
    const bench = new Bench(['a', 'b', 'c']).open().bring('c').bring('a')
    assert.equal(bench.state.phase, 'collecting')
    bench.bring('b')
    assert.equal(bench.state.phase, 'aggregating')
    assert.deepEqual(
      bench.find('aggregate')[0]?.inputs.map(input => input.update.member),
      ['a', 'b', 'c']
    )
  })

  it('goes on without a member that died, and says so', () => {
    const bench = new Bench(['a', 'b', 'c']).open().bring('a').bring('b').leaves('c')
    bench.send({ type: 'aggregated', result: aggregated })
    assert.deepEqual(bench.find('propose')[0]?.body.excluded, [{ member: 'c', reason: 'absent' }])
  })

  it('names who was present and late at the deadline', () => {
    const bench = new Bench(['a', 'b'])
      .open()
      .bring('a')
      .send({ type: 'timer', name: 'deadline' }, { type: 'aggregated', result: aggregated })
    assert.deepEqual(bench.find('propose')[0]?.body.excluded, [{ member: 'b', reason: 'late' }])
  })

  it('never aggregates fewer than minMembers: the round is extended', () => {
    const bench = new Bench(['a', 'b', 'c'], { minMembers: 2 }).open().bring('a').send({ type: 'timer', name: 'deadline' })
    assert.equal(bench.state.phase, 'collecting')
    assert.equal(bench.find('tell')[0]?.code, 'ROUND_EXTENDED')
    assert.equal(bench.find('start-timer').length, 2)
    bench.bring('b').send({ type: 'timer', name: 'deadline' })
    assert.equal(bench.state.phase, 'aggregating')
  })

  it('keeps round 1 open until startMembers have joined, or the time is over', () => {
    const bench = new Bench(['a'], { startMembers: 2 }).open().bring('a')
    assert.equal(bench.state.phase, 'collecting')
    bench.facts = { ...bench.facts, startTimedOut: true }
    bench.send({ type: 'timer', name: 'start' })
    assert.equal(bench.state.phase, 'aggregating')
  })

  it('answers every update with a receipt: accepted, or the fault by name', () => {
    const bench = new Bench(['a', 'b']).open().bring('a')
    bench.send({ type: 'update', link: 'u-b', update: updateOf('b'), staleness: 0 })
    bench.send({ type: 'unpulled', link: 'u-b', fault: { code: 'DAMAGED', verdict: 'reject', detail: 'not finite' } })
    bench.send({ type: 'aggregated', result: aggregated })
    assert.deepEqual(
      bench.find('receipt').map(({ member, verdict }) => [member, verdict === 'accepted' ? verdict : verdict.code]),
      [
        ['a', 'accepted'],
        ['b', 'DAMAGED']
      ]
    )
    assert.match(bench.find('propose')[0]?.body.excluded[0]?.reason ?? '', /not finite/)
  })

  it('says in one line why an update is not counted, however much its holders answered: a longer text is no entry', () => {
    const bench = new Bench(['a', 'b']).open().bring('a')
    bench.send({ type: 'update', link: 'u-b', update: updateOf('b'), staleness: 0 })
    bench.send({ type: 'unpulled', link: 'u-b', fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: 'x'.repeat(1000) } })
    bench.send({ type: 'aggregated', result: aggregated })
    const { reason } = bench.find('propose')[0]!.body.excluded[0]!
    assert.equal(shortText.safeParse(reason).success, true)
    assert.match(reason, /could not be fetched: x+…$/)
  })

  it('halves the weight of an update for each round that it is late', () => {
    const bench = new Bench(['a', 'b']).open().bring('a').bring('b', 2)
    assert.deepEqual(
      bench.find('aggregate')[0]?.inputs.map(input => input.weight),
      [100, 25]
    )
  })

  it('of two contributions for one child takes the higher term, until one is accepted', () => {
    const bench = new Bench(['a', 'b']).open()
    const bring = (link: string, term: number): RoundEvent => ({
      type: 'update',
      link,
      update: updateOf('b', { term }),
      staleness: 0
    })
    bench.send(
      bring('old', 1),
      bring('new', 2),
      bring('older', 1),
      { type: 'pulled', link: 'new', keysDistance: 0 },
      bring('newest', 3)
    )
    assert.deepEqual(
      bench.find('pull').map(({ link }) => link),
      ['old', 'new']
    )
  })

  it('asks for few updates of one peer, however many it makes: each may be as large as a model', () => {
    const bench = new Bench(['a', 'b', 'x'], { minMembers: 3 }).open()
    const tries = (member: string, by: string, count: number) => {
      for (let nth = 0; nth < count; nth++) {
        const link = `${by}-${nth}`
        const fault = { code: 'DAMAGED', verdict: 'reject', detail: 'no model' } as const
        const told = { type: 'update', link, update: updateOf(member, { by, term: nth }), staleness: 0 } as const
        bench.send(told, { type: 'unpulled', link, fault })
      }
    }
    tries('b', 'b', 50)
    tries('x', 'p', 50)
    assert.equal(bench.find('pull').length, 16)
    // Another delegate of the same child is no liar.
    tries('x', 'q', 1)
    assert.equal(bench.find('pull').length, 17)
    // What could not be had, and is announced again, is no other.
    const away = { code: 'NOT_FOUND', verdict: 'ignore', detail: 'away' } as const
    for (let nth = 0; nth < 20; nth++)
      bench.send(
        { type: 'update', link: 'mine', update: updateOf('a'), staleness: 0 },
        { type: 'unpulled', link: 'mine', fault: away }
      )
    assert.equal(bench.find('pull').length, 37)
  })

  it('is given up, once closed, when one that it counts is no member any more, or is spoken for by others (I3)', () => {
    const whole: RoundEvent[] = [
      { type: 'aggregated', result: aggregated },
      { type: 'parent-head' },
      { type: 'combined', parent: parentHead, model: 'bafyX', modelBytes: 4 }
    ]
    for (const [reached, phase] of (['aggregating', 'waiting-for-parent', 'combining', 'proposing'] as const).entries()) {
      const bench = new Bench(['a', 'b', 'c'], { parent: 'bafyP' }).open().bring('a').bring('b').leaves('c')
      for (const event of whole.slice(0, reached)) {
        if (event.type === 'parent-head') bench.facts = { ...bench.facts, parentHead }
        bench.send(event)
      }
      assert.equal(bench.state.phase, phase)
      const [a, b] = bench.facts.contributors as [Member, Member]
      const phaseAfter = (...contributors: Member[]) => {
        const facts = { ...bench.facts, contributors }
        return stepRound(bench.state, { type: 'roster' }, facts)[0].phase
      }
      const anew = { ...b, peers: ['q'] }
      assert.deepEqual([phaseAfter(a, b), phaseAfter(a), phaseAfter(a, anew)], [phase, 'idle', 'idle'])
    }
  })

  it('counts nobody twice and names everybody, whatever the order of events (I3, I4)', () => {
    const names = ['a', 'b', 'c', 'd']
    const event = fc.record({
      name: fc.constantFrom(...names),
      what: fc.constantFrom('update', 'pulled', 'unpulled', 'leaves', 'deadline')
    })
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), events => {
        const bench = new Bench(names).open()
        for (const { name, what } of events) {
          if (what === 'update') bench.send({ type: 'update', link: `u-${name}`, update: updateOf(name), staleness: 0 })
          if (what === 'pulled') bench.send({ type: 'pulled', link: `u-${name}`, keysDistance: 0 })
          if (what === 'unpulled')
            bench.send({ type: 'unpulled', link: `u-${name}`, fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: '' } })
          if (what === 'leaves') bench.leaves(name)
          if (what === 'deadline') bench.send({ type: 'timer', name: 'deadline' })
        }
        bench.send({ type: 'aggregated', result: { ...aggregated, attention: names.map(() => [0]) } })
        for (const { body } of bench.find('propose')) {
          const named = [...body.inputs, ...body.excluded].map(({ member }) => member).sort()
          assert.deepEqual(named, names)
          const receipts = bench.find('receipt').filter(({ verdict }) => verdict === 'accepted')
          assert.deepEqual(
            body.inputs.map(({ member }) => member),
            receipts.map(({ member }) => member).sort()
          )
        }
      }),
      { numRuns: 300 }
    )
  })

  it('answers every event in every state, and gives up its office from each', () => {
    const events: RoundEvent[] = [
      { type: 'open', round: 1, base: 'bafyF' },
      { type: 'update', link: 'u-a', update: updateOf('a'), staleness: 0 },
      { type: 'pulled', link: 'u-a', keysDistance: 0 },
      { type: 'aggregated', result: aggregated },
      { type: 'timer', name: 'parent' }
    ]
    for (let reached = 0; reached <= events.length; reached++) {
      const bench = new Bench(['a'], { parent: 'bafyP' }).send(...events.slice(0, reached))
      for (const event of events) stepRound(bench.state, event, bench.facts)
      assert.equal(bench.send({ type: 'close' }).state.phase, 'idle')
    }
  })
})
