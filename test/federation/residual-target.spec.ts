import assert from 'node:assert/strict'
import fc from 'fast-check'
import { residualsOf, targetUsingTwice, usedTwice, wronglyDeclared } from '../../src/federation/declared-residuals.ts'
import type { MemberResidual, Update } from '../../src/federation/entry.ts'
import {
  arriveResidual,
  initialTarget,
  type Offer,
  type OfferVerdict,
  offerResidual,
  refuseResidual,
  type TargetOptions,
  type TargetState,
  useResiduals,
  weighResiduals
} from '../../src/federation/residual-target.ts'
import { askAgainRounds } from '../../src/federation/residuals.ts'

const one: TargetOptions = { perNode: 1, dropAfter: 2 }
const offer = (from: string, more: Partial<Offer> = {}): Offer => ({
  from,
  similarity: 0.5,
  via: 'p',
  model: `${from}-1`,
  textBytes: 1024,
  held: false,
  ...more
})

/** A target to which things happen in order. */
class Target {
  state: TargetState = initialTarget
  readonly options: TargetOptions
  round = 1
  constructor(options = one) {
    this.options = options
  }
  offer(from: string, more: Partial<Offer> = {}): OfferVerdict {
    const [state, verdict] = offerResidual(this.state, offer(from, more), this.round, this.options)
    this.state = state
    return verdict
  }
  /** Asked, fetched, forwarded. */
  bring(from: string, more: Partial<Offer> = {}): OfferVerdict {
    const model = more.model ?? `${from}-${this.round}`
    const first = this.offer(from, { ...more, model })
    if (first !== 'wanted') return first
    assert.equal(this.offer(from, { ...more, model, held: true }), 'take')
    this.state = arriveResidual(this.state, from, model, true)
    return 'take'
  }
  use(round: number): string[] {
    const [state, used] = useResiduals(this.state, round)
    this.state = state
    this.round = round
    return used.map(({ from }) => from)
  }
  weigh(weights: Record<string, number>): void {
    const list = Object.entries(weights).map(([from, weight]) => ({ from, weight }))
    this.state = weighResiduals(this.state, this.round, list, this.options)
  }
}

describe('residuals, on their target', () => {
  const rows: { why: string; before: (target: Target) => void; offered: Parameters<Target['offer']>; verdict: OfferVerdict }[] =
    [
      { why: 'a free place', before: () => undefined, offered: ['x'], verdict: 'wanted' },
      { why: 'at the bridge already', before: () => undefined, offered: ['x', { held: true }], verdict: 'take' },
      { why: 'asked twice by one bridge', before: target => target.offer('x'), offered: ['x'], verdict: 'have' },
      {
        why: 'fetched, as it was asked to',
        before: target => target.offer('x'),
        offered: ['x', { held: true }],
        verdict: 'take'
      },
      {
        why: 'awaited from a bridge that may be dead',
        before: target => target.offer('x'),
        offered: ['x', { via: 'q' }],
        verdict: 'wanted'
      },
      {
        why: 'being pulled already',
        before: target => target.offer('x', { held: true }),
        offered: ['x', { via: 'q', held: true }],
        verdict: 'have'
      },
      { why: 'here already', before: target => target.bring('x'), offered: ['x', { via: 'q' }], verdict: 'have' },
      { why: 'another as similar came first', before: target => target.bring('y'), offered: ['x'], verdict: 'full' },
      {
        why: 'less similar than what is here',
        before: target => target.bring('y'),
        offered: ['x', { similarity: 0.4 }],
        verdict: 'full'
      },
      {
        why: 'more similar than what is here',
        before: target => target.bring('y'),
        offered: ['x', { similarity: 0.6 }],
        verdict: 'wanted'
      },
      {
        why: 'less similar than what its bridge was to bring: the source before did not give it',
        before: target => target.offer('y'),
        offered: ['x', { similarity: 0.4 }],
        verdict: 'wanted'
      },
      {
        why: 'less similar than what another bridge is to bring',
        before: target => target.offer('y'),
        offered: ['x', { similarity: 0.4, via: 'q' }],
        verdict: 'full'
      },
      {
        why: 'less similar than what is being pulled from the same bridge',
        before: target => target.offer('y', { held: true }),
        offered: ['x', { similarity: 0.4 }],
        verdict: 'full'
      },
      {
        why: 'the very model that was used last',
        before: target => {
          target.bring('x')
          target.use(2)
        },
        offered: ['x'],
        verdict: 'have'
      },
      {
        why: 'the next model of what was used last',
        before: target => {
          target.bring('x')
          target.use(2)
        },
        offered: ['x', { model: 'x-2' }],
        verdict: 'wanted'
      }
    ]
  for (const { why, before, offered, verdict } of rows) {
    it(`${verdict}: ${why}`, () => {
      const target = new Target()
      before(target)
      assert.equal(target.offer(...offered), verdict)
    })
  }

  it('takes one model once, of whichever source came first (I6)', () => {
    const target = new Target({ perNode: 2, dropAfter: 2 })
    target.bring('x', { model: 'm' })
    assert.equal(target.bring('y', { model: 'm', similarity: 0.9 }), 'have')
    assert.equal(target.bring('z'), 'take')
    assert.deepEqual(target.use(2), ['x', 'z'])
  })

  it('uses what it holds in the next round, once, whoever asks again (I6)', () => {
    const target = new Target({ perNode: 2, dropAfter: 2 })
    target.bring('y')
    target.bring('x')
    assert.deepEqual(target.use(2), ['x', 'y'])
    assert.deepEqual(target.use(2), [])
    assert.deepEqual(target.use(1), [])
    assert.deepEqual(target.use(3), [])
  })

  it('uses no residual that has not arrived, and awaits no bridge beyond the round', () => {
    const target = new Target({ perNode: 2, dropAfter: 2 })
    target.offer('x')
    target.offer('y', { held: true })
    assert.deepEqual(target.use(2), [])
    assert.deepEqual(
      target.state.places.map(({ from }) => from),
      ['y']
    )
    target.state = arriveResidual(target.state, 'y', 'y-1', true)
    assert.deepEqual(target.use(3), ['y'])
  })

  it('frees the place of a residual whose pull failed', () => {
    const target = new Target()
    target.offer('x', { held: true })
    target.state = arriveResidual(target.state, 'x', 'x-1', false)
    assert.equal(target.offer('y'), 'wanted')
  })

  it('has a bridge’s promises give way one by one, the least similar first, and what comes after all take its place back', () => {
    const target = new Target({ perNode: 2, dropAfter: 2 })
    target.offer('x', { similarity: 0.9 })
    target.offer('y', { similarity: 0.8 })
    assert.equal(target.offer('z', { similarity: 0.7 }), 'wanted')
    assert.deepEqual(target.state.places.map(({ from }) => from).sort(), ['x', 'z'])
    assert.equal(target.offer('y', { similarity: 0.8, held: true }), 'take')
    assert.deepEqual(target.state.places.map(({ from }) => from).sort(), ['x', 'y'])
    assert.equal(target.offer('z', { similarity: 0.7, held: true }), 'take')
    assert.deepEqual(target.state.places.map(({ from }) => from).sort(), ['y', 'z'])
  })

  it('waits with a source whose residual was no model, for its place would be empty in every round', () => {
    const target = new Target()
    target.offer('x', { held: true })
    target.state = refuseResidual(target.state, 'x', 'x-1', target.round)
    assert.equal(target.offer('x', { model: 'x-2' }), 'dropped')
    assert.equal(target.offer('y'), 'wanted')
    target.round += askAgainRounds
    assert.equal(target.offer('x', { model: 'x-2', similarity: 0.9 }), 'wanted')
  })

  it('begins few pulls between two rounds, however many sources are each more similar than the last', () => {
    const target = new Target()
    const begun = (count: number) =>
      Array.from({ length: count }, (_, place) => target.offer(`m${place}`, { similarity: place / count, held: true }))
    assert.deepEqual(begun(100).filter(verdict => verdict === 'take').length, 4)
    assert.deepEqual(target.use(2), [])
    target.state = { ...target.state, places: [] }
    assert.equal(target.bring('x'), 'take')
  })

  it('drops a residual that got too little weight twice in a row, for the next in line', () => {
    const target = new Target()
    for (const round of [2, 3]) {
      assert.equal(target.bring('x'), 'take', `before round ${round}`)
      target.use(round)
      target.weigh({ x: 0.009 })
    }
    assert.equal(target.bring('x'), 'dropped')
    assert.equal(target.bring('y'), 'take')
  })

  it('counts only times in a row', () => {
    const target = new Target()
    for (const [round, weight] of [
      [2, 0.001],
      [3, 0.01],
      [4, 0.001]
    ] as const) {
      target.bring('x')
      target.use(round)
      target.weigh({ x: weight })
    }
    assert.equal(target.bring('x'), 'take')
  })

  it('asks for a dropped one again after its rounds, once, and only where no other earns its place', () => {
    for (const other of [0.5, 0.001]) {
      const target = new Target({ perNode: 1, dropAfter: 1 })
      target.bring('x')
      target.use(2)
      target.weigh({ x: 0 })
      for (let round = 3; round < 2 + askAgainRounds; round++) {
        assert.equal(target.bring('x'), 'dropped', `round ${round}`)
        target.bring(`y${round}`)
        target.use(round)
        target.weigh({ [`y${round}`]: other })
      }
      target.round = 2 + askAgainRounds
      assert.equal(target.bring('x'), other > 0.01 ? 'dropped' : 'take')
    }
  })

  it('never uses a source twice in a round nor more than its places, whatever happens (I6)', () => {
    const event = fc.oneof(
      fc.record({
        do: fc.constant('offer' as const),
        from: fc.constantFrom('w', 'x', 'y', 'z'),
        via: fc.constantFrom('p', 'q'),
        model: fc.integer({ min: 1, max: 3 }),
        similarity: fc.constantFrom(0.1, 0.5, 0.9),
        held: fc.boolean()
      }),
      fc.record({ do: fc.constant('arrive' as const), place: fc.nat(3), arrived: fc.boolean() }),
      fc.record({ do: fc.constant('use' as const), ahead: fc.nat(2) }),
      fc.record({ do: fc.constant('weigh' as const), weight: fc.constantFrom(0, 0.005, 0.5) }),
      fc.record({ do: fc.constant('restart' as const) })
    )
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3 }), fc.array(event, { maxLength: 60 }), (perNode, events) => {
        const options = { perNode, dropAfter: 2 }
        let state = initialTarget
        let round = 1
        const used = new Map<string, number>()
        let newest: string[] = []
        for (const one of events) {
          if (one.do === 'offer') {
            const given = { ...one, model: `${one.from}-${one.model}`, textBytes: 1 }
            ;[state] = offerResidual(state, given, round, options)
          }
          if (one.do === 'arrive') {
            const place = state.places[one.place]
            if (place !== undefined) state = arriveResidual(state, place.from, place.model, one.arrived)
          }
          if (one.do === 'use') {
            round += one.ahead
            const [next, residuals] = useResiduals(state, round)
            state = next
            newest = residuals.map(({ from }) => from)
            assert.ok(residuals.length <= perNode)
            for (const { from } of residuals) used.set(`${from} ${round}`, (used.get(`${from} ${round}`) ?? 0) + 1)
          }
          if (one.do === 'weigh')
            state = weighResiduals(
              state,
              round,
              newest.map(from => ({ from, weight: one.weight })),
              options
            )
          if (one.do === 'restart') state = JSON.parse(JSON.stringify(state)) as TargetState
          assert.ok(state.places.length <= perNode)
        }
        for (const [which, times] of used) assert.equal(times, 1, which)
      }),
      { numRuns: 500 }
    )
  })
})

describe('residuals in the certified log', () => {
  const residual = (from: string, more: Partial<MemberResidual> = {}): MemberResidual => ({
    from,
    via: 'p',
    model: `${from}-1`,
    similarity: 0.5,
    weight: 0.25,
    ...more
  })
  const updates = [
    { member: 'm', residuals: [residual('x'), residual('y')] },
    { member: 'n' },
    { member: 'o', residuals: [residual('x')] }
  ] as Update[]

  it('are what the updates declare, with the member that used them', () => {
    assert.deepEqual(
      residualsOf(updates).map(({ from, to }) => `${from}→${to}`),
      ['x→m', 'y→m', 'x→o']
    )
    assert.equal(wronglyDeclared({ residuals: residualsOf(updates) }, updates), null)
  })

  const lies: {
    why: string
    change: (told: ReturnType<typeof residualsOf>) => ReturnType<typeof residualsOf>
    member: string
  }[] = [
    { why: 'one left out', change: told => told.slice(0, -1), member: 'o' },
    { why: 'one added', change: told => [...told, { ...residual('z'), to: 'n' }], member: 'n' },
    { why: 'another weight', change: told => told.map((r, place) => (place === 1 ? { ...r, weight: 0.9 } : r)), member: 'm' },
    { why: 'another target', change: told => told.map((r, place) => (place === 2 ? { ...r, to: 'n' } : r)), member: 'o' }
  ]
  for (const { why, change, member } of lies)
    it(`are not believed: ${why}`, () =>
      assert.equal(wronglyDeclared({ residuals: change(residualsOf(updates)) }, updates), member))

  it('name no source and no model twice for one target (I6), but for two targets they may', () => {
    assert.equal(usedTwice([residual('x'), residual('y')]), null)
    assert.equal(usedTwice([residual('x'), residual('x', { model: 'other' })]), 'x')
    assert.equal(usedTwice([residual('x'), residual('y', { model: 'x-1' })]), 'y')
    assert.equal(targetUsingTwice({ residuals: residualsOf(updates) }), null)
    assert.equal(targetUsingTwice({ residuals: [...residualsOf(updates), { ...residual('x'), to: 'o' }] }), 'o')
  })
})
