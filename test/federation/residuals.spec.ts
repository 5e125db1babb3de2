import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  askAgainRounds,
  type Bring,
  bridgeOf,
  type Fingerprinted,
  initialResiduals,
  lineMax,
  mayPair,
  type Outcome,
  outcomeOf,
  type ResidualsEvent,
  type ResidualsFacts,
  type ResidualsState,
  stepResiduals
} from '../../src/federation/residuals.ts'
import { Random } from '../../src/math/random.ts'

/** `a1` is the first organization of federation a. */
const node = (name: string): Fingerprinted => ({ node: name, federation: name[0]!, branch: name[0]! })
const names = ['a1', 'a2', 'b1', 'b2', 'c1']

/** Similarities by pair of names; what is not named is 0.1. */
function factsOf(similar: Record<string, number>, more: Partial<ResidualsFacts> = {}): ResidualsFacts {
  const similarity = (left: string, right: string) => similar[`${left} ${right}`] ?? similar[`${right} ${left}`] ?? 0.1
  return { perNode: 1, minSimilarity: 0, holdBack: false, similarity, permitted: () => true, ...more }
}

/** One bridge that is alone, so that it acts for all. */
class Bridge {
  state: ResidualsState
  readonly facts: ResidualsFacts
  constructor(facts: ResidualsFacts, self = 'p', living = [self]) {
    this.state = initialResiduals(self)
    this.facts = facts
    this.send({ type: 'bridges', living: new Set(living) })
  }
  send(event: ResidualsEvent): Bring[] {
    const [state, effects] = stepResiduals(this.state, event, this.facts)
    this.state = state
    return effects
  }
  know(nodes: string[]): this {
    for (const name of nodes) this.send({ type: 'fingerprint', node: node(name) })
    return this
  }
  round(round: number): string[] {
    return plain(this.send({ type: 'round', round, branch: null }))
  }
  answer(target: string, source: string, outcome: Outcome): string[] {
    return plain(this.send({ type: 'answered', target, source, outcome }))
  }
}
const plain = (effects: Bring[]): string[] => effects.map(({ source, target }) => `${source}→${target}`).sort()

describe('a target’s answer to an offer', () => {
  it('is what became of it, and a refusal is as good as no answer', () => {
    const answers = ['take', 'refused', 'have', 'full', 'dropped', 'forbidden', 'wanted'] as const
    assert.deepEqual(answers.map(outcomeOf), ['brought', 'gone', 'have', 'full', 'dropped', 'forbidden', 'wanted'])
  })
})

describe('residuals, on a bridge', () => {
  const kin = { 'a1 b1': 0.9, 'a1 b2': 0.5, 'a2 c1': 0.8, 'b1 b2': 0.95 }

  it('brings each organization the one most like it, never a sibling', () => {
    const bridge = new Bridge(factsOf(kin)).know(names)
    // c1 is most like a2; b2's likest is b1, but that is its sibling, so a1.
    assert.deepEqual(bridge.round(1), ['a1→b1', 'a1→b2', 'a2→c1', 'b1→a1', 'c1→a2'])
  })

  it('brings nothing before a round is certified, nor where it is turned off', () => {
    assert.deepEqual(plain(new Bridge(factsOf(kin)).know(names).send({ type: 'bridges', living: new Set(['p']) })), [])
    assert.deepEqual(new Bridge(factsOf(kin, { perNode: 0 })).know(names).round(1), [])
  })

  it('brings each pair once a round, and again in the next', () => {
    const bridge = new Bridge(factsOf(kin)).know(['a1', 'b1'])
    assert.deepEqual(bridge.round(1), ['a1→b1', 'b1→a1'])
    assert.deepEqual(plain(bridge.send({ type: 'bridges', living: new Set(['p', 'q']) })), [])
    bridge.send({ type: 'bridges', living: new Set(['p']) })
    assert.deepEqual(bridge.answer('a1', 'b1', 'brought'), [])
    assert.deepEqual(bridge.round(2), ['a1→b1', 'b1→a1'])
  })

  const outcomes: { outcome: Outcome; next: string[]; nextRound: string[]; why: string }[] = [
    { outcome: 'brought', next: [], nextRound: ['b1→a1'], why: 'its place is filled' },
    { outcome: 'have', next: [], nextRound: ['b1→a1'], why: 'another bridge was quicker' },
    { outcome: 'full', next: [], nextRound: ['b1→a1'], why: 'a more similar one came from elsewhere' },
    { outcome: 'gone', next: [], nextRound: ['b1→a1'], why: 'the target does not answer' },
    { outcome: 'away', next: ['b2→a1'], nextRound: ['b1→a1'], why: 'the source does not answer: the next in line' },
    { outcome: 'dropped', next: ['b2→a1'], nextRound: ['b2→a1'], why: 'it got no weight: the next in line, for some rounds' },
    { outcome: 'forbidden', next: ['b2→a1'], nextRound: ['b2→a1'], why: 'a charter forbids it: the next in line, for good' }
  ]
  for (const { outcome, next, nextRound, why } of outcomes) {
    it(`after ${outcome}: ${why}`, () => {
      const bridge = new Bridge(factsOf(kin)).know(['a1', 'b1', 'b2'])
      bridge.round(1)
      assert.deepEqual(bridge.answer('a1', 'b1', outcome), next)
      assert.deepEqual(
        bridge.round(2).filter(pair => pair.endsWith('a1')),
        nextRound
      )
    })
  }

  it('asks for a dropped source again after its rounds, for a forbidden one never', () => {
    for (const [outcome, back] of [
      ['dropped', true],
      ['forbidden', false]
    ] as const) {
      const bridge = new Bridge(factsOf(kin)).know(['a1', 'b1'])
      bridge.round(1)
      bridge.answer('a1', 'b1', outcome)
      for (let round = 2; round < 1 + askAgainRounds; round++)
        assert.ok(!bridge.round(round).includes('b1→a1'), `round ${round}`)
      assert.equal(bridge.round(1 + askAgainRounds).includes('b1→a1'), back)
    }
  })

  it('routes nothing below the least similarity, nor what the charters forbid', () => {
    assert.deepEqual(new Bridge(factsOf(kin, { minSimilarity: 0.85 })).know(names).round(1), ['a1→b1', 'b1→a1'])
    const permitted = (source: string, target: string) => !(source === 'b1' && target === 'a1')
    assert.ok(new Bridge(factsOf(kin, { permitted })).know(names).round(1).includes('b2→a1'))
  })

  it('holds back what is less like the target than its siblings are, with scores other than likelihood', () => {
    // b1's sibling is at 0.95, so a1 at 0.9 is held back; a1's is at 0.1, so b1 passes; a2's likest are at 0.1, no more than its sibling.
    const bridge = new Bridge(factsOf(kin, { holdBack: true })).know(['a1', 'a2', 'b1', 'b2'])
    assert.deepEqual(bridge.round(1), ['b1→a1'])
  })

  it('lets another bridge act when one dies, and itself not when it is no bridge', () => {
    const living = ['p', 'q', 'r']
    const [first] = [bridgeOf('a1', living)]
    assert.ok(first !== null)
    const rest = living.filter(peer => peer !== first)
    const second = bridgeOf('a1', rest)
    assert.ok(second !== null && rest.includes(second))
    const heir = new Bridge(factsOf(kin), second, living).know(['a1', 'b1'])
    assert.ok(!heir.round(1).includes('b1→a1'))
    assert.ok(plain(heir.send({ type: 'bridges', living: new Set(rest) })).includes('b1→a1'))
    assert.deepEqual(new Bridge(factsOf(kin), 'stranger', living).know(['a1', 'b1']).round(1), [])
  })

  it('forgets who left, and finds who stood behind', () => {
    const many = Array.from({ length: lineMax + 3 }, (_, place) => `b${String(place).padStart(2, '0')}`)
    const similar = Object.fromEntries(many.map((name, place) => [`a1 ${name}`, 0.9 - place * 0.01]))
    const bridge = new Bridge(factsOf(similar)).know(['a1', ...many])
    assert.equal(bridge.state.lines.get('a1')?.length, lineMax)
    for (const name of many.slice(0, -1)) bridge.send({ type: 'gone', node: name })
    assert.deepEqual(
      bridge.state.lines.get('a1')?.map(({ source }) => source),
      [many.at(-1)]
    )
    bridge.send({ type: 'gone', node: 'a1' })
    assert.deepEqual([...bridge.state.lines.keys()], [many.at(-1)])
  })

  it('has in each line the likest that there are, in order, whoever comes, goes and comes back changed', () => {
    const all = Array.from({ length: 60 }, (_, place) => `${'ab'[place % 2]}${String(place).padStart(2, '0')}`)
    fc.assert(
      fc.property(fc.integer(), fc.array(fc.tuple(fc.nat(59), fc.nat(3)), { minLength: 60, maxLength: 300 }), (seed, steps) => {
        // Of two that are equally like a third, the order is that of their names.
        const turn = new Map<string, number>()
        const similarity = (left: string, right: string) => {
          const [one, other] = [left, right].sort()
          return new Random(`${seed} ${one} ${other} ${(turn.get(left) ?? 0) + (turn.get(right) ?? 0)}`).below(8) / 8
        }
        const facts = factsOf({}, { similarity })
        const here = new Set<string>()
        let state: ResidualsState = initialResiduals('p')
        for (const [place, kind] of steps) {
          const name = all[place]!
          if (kind === 0 && here.delete(name)) [state] = stepResiduals(state, { type: 'gone', node: name }, facts)
          if (kind === 0) continue
          // What is known of it is forgotten before it changes, as a bridge does by two steps in one.
          if (here.has(name)) [state] = stepResiduals(state, { type: 'gone', node: name }, facts)
          turn.set(name, (turn.get(name) ?? 0) + 1)
          here.add(name)
          ;[state] = stepResiduals(state, { type: 'fingerprint', node: node(name) }, facts)
        }
        for (const [target, line] of state.lines) {
          const want = [...here]
            .filter(source => source[0] !== target[0])
            .sort((one, other) => similarity(target, other) - similarity(target, one) || (one < other ? -1 : 1))
          const wantCount = state.cut.has(target) ? line.length : want.length
          assert.ok(line.length >= Math.min(lineMax / 2, want.length) && line.length <= lineMax)
          assert.deepEqual(
            line.map(({ source }) => source),
            want.slice(0, wantCount)
          )
        }
      }),
      { numRuns: 50 }
    )
  })

  it('makes few lines anew where many leave: it would stand still for seconds', () => {
    const all = Array.from({ length: 90 }, (_, place) => `${'abc'[place % 3]}${place}`)
    let asked = 0
    const similarity = (left: string, right: string) => {
      asked++
      return new Random([left, right].sort().join()).float()
    }
    const facts = factsOf({}, { similarity })
    let state: ResidualsState = initialResiduals('p')
    for (const name of all) [state] = stepResiduals(state, { type: 'fingerprint', node: node(name) }, facts)
    asked = 0
    for (const name of all.filter(one => one[0] === 'b')) [state] = stepResiduals(state, { type: 'gone', node: name }, facts)
    assert.ok(asked < all.length ** 2, `${asked} cosines`)
  })

  it('opens a round for one branch alone, where two siblings share a peer', () => {
    const bridge = new Bridge(factsOf(kin)).know(['a1', 'b1'])
    assert.deepEqual(plain(bridge.send({ type: 'round', round: 1, branch: null })), ['a1→b1', 'b1→a1'])
    assert.deepEqual(plain(bridge.send({ type: 'round', round: 2, branch: 'a' })), ['b1→a1'])
  })

  it('agrees with a plain search over all pairs, whatever the order in which fingerprints came', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 2, max: 14 }), (seed, perNode, count) => {
        const random = new Random(seed)
        const all = Array.from({ length: count }, (_, place) => `${'abc'[random.below(3)]}${place}`)
        // Few different values, so that ties are frequent.
        const draw = new Map<string, number>()
        for (const left of all) for (const right of all) if (left < right) draw.set(`${left} ${right}`, random.below(5) / 5)
        const facts = factsOf(Object.fromEntries(draw), { perNode })
        const shuffled = [...all].sort(
          (left, right) => new Random(`${seed}${left}`).float() - new Random(`${seed}${right}`).float()
        )
        const got = new Bridge(facts).know(shuffled).round(1)
        const want = all.flatMap(target =>
          all
            .filter(source => source[0] !== target[0])
            .sort((left, right) => facts.similarity(right, target) - facts.similarity(left, target) || (left < right ? -1 : 1))
            .slice(0, perNode)
            .map(source => `${source}→${target}`)
        )
        assert.deepEqual(got, want.sort())
      }),
      { numRuns: 200 }
    )
  })

  it('gives every target exactly one acting bridge, over all living ones', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.constantFrom('p', 'q', 'r', 's', 't'), { minLength: 1 }), living => {
        const brought = living.flatMap(self => new Bridge(factsOf(kin), self, living).know(names).round(1))
        assert.deepEqual(brought.sort(), new Bridge(factsOf(kin)).know(names).round(1))
      })
    )
  })

  it('pairs no siblings and no two of one branch', () => {
    assert.equal(mayPair(node('a1'), node('a2')), false)
    assert.equal(mayPair(node('a1'), node('b1')), true)
    assert.equal(mayPair({ node: 'x', federation: 'a-deep', branch: 'a' }, node('a1')), false)
    // A direct member of the common ancestor beside one that lies deeper.
    assert.equal(mayPair({ node: 'x', federation: 'world', branch: 'x' }, node('a1')), true)
    assert.equal(
      mayPair({ node: 'x', federation: 'world', branch: 'x' }, { node: 'y', federation: 'world', branch: 'y' }),
      false
    )
  })
})
