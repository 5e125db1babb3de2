/** A round below a parent: what is handed in, what is waited for, and when it goes on without. */
import assert from 'node:assert/strict'
import { testCharter } from './charters.ts'
import { aggregated, Bench, parentHead } from './round-bench.ts'

describe('a round below a parent', () => {
  it('contributes with the weight of all below, waits, and takes the parent’s result', () => {
    const bench = new Bench(['a', 'b'], { parent: 'bafyP' })
      .open()
      .bring('a')
      .bring('b')
      .send({ type: 'aggregated', result: aggregated })
    assert.equal(bench.state.phase, 'waiting-for-parent')
    const { update: contribution } = bench.find('contribute')[0]!
    assert.deepEqual(
      [contribution.member, contribution.round, contribution.base, contribution.weight, contribution.term],
      ['bafyF', 1, 'bafyP', 200, 3]
    )
    bench.facts = { ...bench.facts, parentHead }
    bench.send({ type: 'parent-head' }, { type: 'combined', parent: parentHead, model: 'bafyX', modelBytes: 4 })
    const { body } = bench.find('propose')[0]!
    assert.deepEqual([body.model, body.alone, body.ancestors[0]?.entry], ['bafyX', null, 'bafyE'])
  })

  it('takes no result of the parent but that of the round to which it contributed, or of a later one', () => {
    const heads = [null, ...[4, 5, 6].map(round => ({ ...parentHead, round }))]
    const phases = heads.map(head => {
      const bench = new Bench(['a'], { parent: 'bafyP' })
      bench.facts = { ...bench.facts, parentHead: { ...parentHead, round: 4 } }
      bench.open().bring('a').send({ type: 'aggregated', result: aggregated })
      assert.equal(bench.find('contribute')[0]?.update.round, 5)
      bench.facts = { ...bench.facts, parentHead: head }
      bench.send({ type: 'look' }, { type: 'parent-head' })
      return bench.state.phase
    })
    assert.deepEqual(phases, ['waiting-for-parent', 'waiting-for-parent', 'combining', 'combining'])
  })

  it('aggregates again when the parent certified a round under the change that was to be handed in', () => {
    const charter = { parent: 'bafyP' }
    const bench = new Bench(['a', 'b'], charter).open().bring('a').bring('b')
    bench.facts = { ...bench.facts, parentHead }
    bench.send({ type: 'aggregated', result: { ...aggregated, contributionBase: 'bafyP' } })
    assert.deepEqual([bench.state.phase, bench.find('contribute'), bench.find('aggregate').length], ['aggregating', [], 2])
    bench.send({ type: 'aggregated', result: { ...aggregated, contributionBase: 'bafyE' } })
    const { update: contribution } = bench.find('contribute')[0]!
    assert.deepEqual([contribution.round, contribution.base], [2, 'bafyE'])
  })

  it('does not run after a parent whose rounds are shorter than its model takes to come: takes its newest, and hands nothing in', () => {
    const bench = new Bench(['a', 'b'], { parent: 'bafyP' }).open().bring('a').bring('b')
    for (const round of [1, 2]) {
      bench.facts = { ...bench.facts, parentHead: { ...parentHead, round, entry: `bafyE${round}` } }
      bench.send({ type: 'aggregated', result: { ...aggregated, contributionBase: `bafyE${round - 1}` } })
    }
    assert.deepEqual([bench.state.phase, bench.find('contribute'), bench.find('aggregate').length], ['combining', [], 2])
    assert.deepEqual(
      [bench.find('combine').map(({ parent }) => parent.entry), bench.find('tell').map(({ code }) => code)],
      [['bafyE2'], ['PARENT_AHEAD']]
    )
    // Its model may be long in coming, too.
    bench.send({ type: 'timer', name: 'parent' })
    assert.deepEqual(
      bench.find('propose').map(({ body }) => [body.model, body.alone]),
      [['bafyM', 'the parent’s model could not be had in time']]
    )
  })

  it('where levels are pipelined takes the newest result that the parent has, and waits for none', () => {
    const charter = { parent: 'bafyP', algorithm: { levels: 'pipelined' } } as const
    const bench = new Bench(['a'], charter).open().bring('a')
    bench.facts = { ...bench.facts, parentHead }
    bench.send({ type: 'aggregated', result: aggregated })
    assert.deepEqual(
      [
        bench.find('contribute').map(({ update }) => update.round),
        bench.find('combine').map(({ model }) => model),
        bench.state.phase
      ],
      [[2], ['bafyM'], 'combining']
    )
    // It may lie as far back as every other.
    assert.equal(bench.find('start-timer').at(-1)?.name, 'parent')
    bench.send({ type: 'combined', parent: parentHead, model: 'bafyX', modelBytes: 4 })
    assert.deepEqual(
      bench.find('propose').map(({ body }) => [body.model, body.alone, body.ancestors.length]),
      [['bafyX', null, 1]]
    )
    const first = new Bench(['a'], charter).open().bring('a').send({ type: 'aggregated', result: aggregated })
    assert.deepEqual(
      [first.find('contribute').map(({ update }) => update.round), first.find('combine'), first.state.phase],
      [[1], [], 'proposing']
    )
    assert.match(first.find('propose')[0]?.body.alone ?? '', /no certified round yet/)
  })

  it('goes on alone when the parent is away: autonomy comes first', () => {
    const bench = new Bench(['a'], { parent: 'bafyP' }).open().bring('a').send({ type: 'aggregated', result: aggregated })
    bench.send({ type: 'timer', name: 'parent' })
    assert.deepEqual([bench.find('tell')[0]?.code, bench.find('propose')[0]?.body.ancestors], ['PARENT_AWAY', []])
  })

  it('goes on alone when nobody gives the parent’s model that its change would be against', () => {
    const bench = new Bench(['a'], { parent: 'bafyP' }).open().bring('a')
    bench.facts = { ...bench.facts, parentHead }
    bench.send({ type: 'aggregated', result: { ...aggregated, contribution: null } })
    assert.deepEqual(
      [bench.find('contribute'), bench.find('tell')[0]?.code, bench.state.phase],
      [[], 'PARENT_AWAY', 'proposing']
    )
  })

  it('does not wait for a parent that has made all its rounds', () => {
    const charter = testCharter({ parent: 'bafyP' })
    const bench = new Bench(['a'], { parent: 'bafyP' })
    bench.facts = { ...bench.facts, charter: { ...charter, algorithm: { ...charter.algorithm, rounds: 5 } } }
    bench.facts = { ...bench.facts, parentHead: { ...parentHead, round: 5 } }
    bench.open().bring('a').send({ type: 'aggregated', result: aggregated })
    assert.deepEqual([bench.state.phase, bench.find('contribute')], ['proposing', []])
    assert.match(bench.find('propose')[0]?.body.alone ?? '', /all its rounds/)
    bench.state = { phase: 'idle' }
    bench.facts = { ...bench.facts, parentHead: { ...parentHead, round: 4 } }
    bench.open().bring('a').send({ type: 'aggregated', result: aggregated })
    assert.equal(bench.state.phase, 'waiting-for-parent')
  })
})
