/** Why an update or a proposed round is refused: a row a fault, the whole fault compared; and its sentence. */
import assert from 'node:assert/strict'
import { assertRound, checkInputs, checkRound, checkUpdate } from '../../src/federation/checks.ts'
import type { MemberResidual, RoundEntry, Update } from '../../src/federation/entry.ts'
import { describeEntryFault, describeUpdateFault, type EntryFault, type UpdateFault } from '../../src/federation/fault.ts'
import type { FederationState } from '../../src/federation/federation-state.ts'
import type { Participation } from '../../src/federation/participation.ts'
import { totals } from '../../src/federation/round-sums.ts'
import { testCharter } from './charters.ts'
import { environment, FederationBench, memberOf, updateOf } from './federation-bench.ts'

const residual = (from: string): MemberResidual => ({ from, via: 'v', model: `model-${from}`, similarity: 0.5, weight: 0.1 })

/** Two rounds certified; members a, b, a child x with delegates p and q, a witness w. b's update of round 1 is not counted. */
function stateAfterTwoRounds(overrides: Parameters<typeof testCharter>[0] = {}): FederationState {
  const bench = new FederationBench({ charter: testCharter({ voters: 1, ...overrides }) }).start()
  for (const member of [memberOf('a'), memberOf('b'), memberOf('x', 'federation', ['p', 'q']), memberOf('w', 'witness')])
    bench.on({ type: 'join', member })
  for (let round = 0; round < 2; round++) bench.announce('a').on({ type: 'timer', name: 'deadline' })
  assert.equal(bench.state.head.round, 2)
  return bench.state
}

describe('an update is refused', () => {
  const state = stateAfterTwoRounds()
  const { link } = state.head
  const first = state.bases[1]!.link
  const fresh = { round: 3, base: link }
  const rows: { why: string; update: Update; fault: UpdateFault | null; state?: FederationState }[] = [
    { why: 'never, if it is made from the newest round', update: updateOf('b', fresh), fault: null },
    { why: 'never, if it is a round late', update: updateOf('b', { round: 2, base: first }), fault: null },
    { why: 'never, if a delegate speaks for its federation', update: updateOf('x', { ...fresh, by: 'q' }), fault: null },
    {
      why: 'from a stranger',
      update: updateOf('z', fresh),
      fault: { code: 'NOT_A_MEMBER', verdict: 'ignore', member: 'z' }
    },
    {
      why: 'from a witness',
      update: updateOf('w', fresh),
      fault: { code: 'NOT_A_MEMBER', verdict: 'ignore', member: 'w' }
    },
    {
      why: 'signed by another member',
      update: updateOf('b', { ...fresh, by: 'a' }),
      fault: { code: 'NOT_ITS_PEER', verdict: 'reject', member: 'b', by: 'a' }
    },
    {
      why: 'for a child by who is no delegate',
      update: updateOf('x', { ...fresh, by: 'a' }),
      fault: { code: 'NOT_ITS_PEER', verdict: 'reject', member: 'x', by: 'a' }
    },
    {
      why: 'for a round that counts one of its member already',
      update: updateOf('a', { round: 2, base: first }),
      fault: { code: 'SETTLED', verdict: 'ignore', round: 2, counted: 2 }
    },
    {
      why: 'on a base that nobody knows',
      update: updateOf('b', { round: 3, base: 'bafyQ' }),
      fault: { code: 'WRONG_BASE', verdict: 'ignore', base: 'bafyQ', want: link }
    },
    {
      why: 'on a base of another round than it says',
      update: updateOf('b', { round: 3, base: first }),
      fault: { code: 'WRONG_BASE', verdict: 'ignore', base: first, want: link }
    },
    {
      why: 'late, where the charter drops what is late',
      state: stateAfterTwoRounds({ algorithm: { stale: 'drop' } }),
      update: updateOf('b', { round: 2, base: first }),
      fault: { code: 'STALE', verdict: 'ignore', staleness: 1 }
    },
    {
      why: 'with sketches of another model',
      update: updateOf('b', { ...fresh, sketches: new Uint8Array(3) }),
      fault: { code: 'WRONG_SKETCHES', verdict: 'reject', gotBytes: 3, wantBytes: 4 }
    },
    ...[
      { why: 'infinite', bits: [0x80, 0x7f] },
      { why: 'minus infinite', bits: [0x80, 0xff] },
      { why: 'not a number', bits: [0xc0, 0x7f] }
    ].map(({ why, bits }) => ({
      why: `with a number in its sketches that is ${why}`,
      update: updateOf('b', { ...fresh, sketches: Uint8Array.of(0, 0, ...bits) }),
      fault: { code: 'SKETCHES_NOT_FINITE', verdict: 'reject', member: 'b' } as const
    })),
    {
      why: 'never for large finite numbers in its sketches',
      update: updateOf('b', { ...fresh, sketches: Uint8Array.of(0x7f, 0x7f, 0x7f, 0xff) }),
      fault: null
    },
    ...[0, Number.NaN, Number.MIN_VALUE].map(weight => ({
      why: `with ${weight} tokens`,
      update: updateOf('b', { ...fresh, weight }),
      fault: { code: 'NO_WEIGHT', verdict: 'reject', weight } as const
    })),
    {
      why: 'with a residual that it used twice (I6)',
      update: updateOf('b', { ...fresh, residuals: [residual('y'), residual('y')] }),
      fault: { code: 'RESIDUAL_TWICE', verdict: 'reject', member: 'b', from: 'y' }
    },
    {
      why: 'never for residuals, each used once',
      update: updateOf('b', { ...fresh, residuals: [residual('y')] }),
      fault: null
    },
    ...[0, 2, Number.MAX_SAFE_INTEGER].map(organizations => ({
      why: `of an organization that speaks for ${organizations}`,
      update: updateOf('b', { ...fresh, organizations }),
      fault: { code: 'WRONG_COUNT', verdict: 'reject', member: 'b', organizations } as const
    })),
    {
      why: 'with more tokens than a round holds',
      update: updateOf('b', { ...fresh, weight: 1001 }),
      fault: { code: 'TOO_HEAVY', verdict: 'reject', weight: 1001, limit: 1000 }
    },
    {
      why: 'of a child with more tokens than its organizations can train on',
      update: updateOf('x', { ...fresh, by: 'p', organizations: 3, weight: 3001 }),
      fault: { code: 'TOO_HEAVY', verdict: 'reject', weight: 3001, limit: 3000 }
    },
    { why: 'never, at just as many', update: updateOf('x', { ...fresh, by: 'p', organizations: 3, weight: 3000 }), fault: null }
  ]
  for (const { why, update, fault, state: given = state } of rows)
    it(why, () => assert.deepEqual(checkUpdate(given, update, environment), fault))

  it('of a base that is older than late updates are counted', () => {
    const bench = new FederationBench({ charter: testCharter({ voters: 1 }) }).start().admit('a')
    bench.on({ type: 'join', member: memberOf('b') })
    for (let round = 0; round < 4; round++) bench.announce('a').on({ type: 'timer', name: 'deadline' })
    const old = updateOf('b', { round: 1, base: 'bafyF' })
    assert.equal(checkUpdate(bench.state, old, environment)?.code, 'WRONG_BASE')
  })
})

describe('a proposed round is refused', () => {
  const state = stateAfterTwoRounds()
  const { entry: last, link } = state.head
  const input = (member: string, facts: Partial<RoundEntry['inputs'][number]> = {}) => ({
    member,
    round: 3,
    update: `u-${member}-3`,
    weight: 100,
    attention: [1],
    ...facts
  })
  const proposed = (facts: Partial<RoundEntry> = {}): RoundEntry => ({
    ...last!,
    index: last!.index + 1,
    prev: link,
    round: 3,
    base: link,
    inputs: [input('a'), input('b')],
    excluded: [{ member: 'x', reason: 'absent' }],
    ...facts
  })
  const announced = (facts: Partial<Extract<Participation, { phase: 'announced' }>>): FederationState => ({
    ...state,
    participation: { phase: 'announced', link: 'u-mine', update: updateOf('a'), accepted: true, pauseMs: 2_000, ...facts }
  })
  const rows: { why: string; entry: RoundEntry; fault: EntryFault | null; state?: FederationState }[] = [
    { why: 'never, if all is in order', entry: proposed(), fault: null },
    { why: 'out of turn', entry: proposed({ round: 4 }), fault: { code: 'WRONG_ROUND', got: 4, want: 3 } },
    { why: 'on another base', entry: proposed({ base: 'bafyQ' }), fault: { code: 'WRONG_BASE', base: 'bafyQ', want: link } },
    {
      why: 'with an input that an earlier round counts',
      entry: proposed({ inputs: [input('a', { round: 2 })] }),
      fault: { code: 'COUNTED_BEFORE', member: 'a', round: 2, counted: 2 }
    },
    {
      why: 'with a stranger’s input',
      entry: proposed({ inputs: [input('z')] }),
      fault: { code: 'NOT_A_MEMBER', member: 'z' }
    },
    {
      why: 'with a witness’s input',
      entry: proposed({ inputs: [input('w')] }),
      fault: { code: 'NOT_A_MEMBER', member: 'w' }
    },
    {
      why: 'with a member’s input twice (I3)',
      entry: proposed({ inputs: [input('a'), input('a', { update: 'other' })] }),
      fault: { code: 'COUNTED_TWICE', member: 'a' }
    },
    {
      why: 'with a member both counted and excluded (I4)',
      entry: proposed({ excluded: [{ member: 'b', reason: 'late' }] }),
      fault: { code: 'BOTH_COUNTED_AND_EXCLUDED', member: 'b' }
    },
    {
      why: 'with a target that uses a residual twice (I6)',
      entry: proposed({ residuals: [residual('y'), residual('y')].map(one => ({ ...one, to: 'b' })) }),
      fault: { code: 'WRONG_RESIDUALS', member: 'b' }
    },
    { why: 'without members', entry: proposed({ inputs: [] }), fault: { code: 'TOO_FEW_MEMBERS', got: 0, want: 1 } },
    {
      why: 'with fewer members than the charter wants',
      state: stateAfterTwoRounds({ minMembers: 1, startMembers: 1 }),
      entry: proposed({ inputs: [] }),
      fault: { code: 'TOO_FEW_MEMBERS', got: 0, want: 1 }
    },
    {
      why: 'if the voter’s own update, for which it has a receipt, is missing (I4)',
      state: announced({}),
      entry: proposed(),
      fault: { code: 'OWN_UPDATE_MISSING', member: 'a' }
    },
    {
      why: 'never for a missing update without a receipt',
      state: announced({ accepted: false }),
      entry: proposed(),
      fault: null
    },
    { why: 'never, if the voter’s own update is counted', state: announced({ link: 'u-a-3' }), entry: proposed(), fault: null },
    {
      why: 'never, if the voter is excluded with a reason',
      state: announced({}),
      entry: proposed({ inputs: [input('b')], excluded: [{ member: 'a', reason: 'late' }] }),
      fault: null
    }
  ]
  for (const { why, entry, fault, state: given = state } of rows)
    it(why, () => assert.deepEqual(checkRound(given, entry), fault))

  it('and what is certified in spite of that stops this peer', () => {
    assert.throws(() => assertRound(proposed({ inputs: [input('a'), input('a')] })), /I3/)
    assert.throws(() => assertRound(proposed({ excluded: [{ member: 'a', reason: 'late' }] })), /I4/)
    const twice = [residual('y'), residual('y')].map(one => ({ ...one, to: 'b' }))
    assert.throws(() => assertRound(proposed({ residuals: twice })), /I6/)
    assert.doesNotThrow(() => assertRound(proposed({ residuals: twice.slice(1) })))
    assert.doesNotThrow(() => assertRound(proposed()))
  })
})

describe('a proposed round is refused for its inputs', () => {
  const state = stateAfterTwoRounds()
  const { entry: last, link } = state.head
  const late = state.bases[1]!.link
  const updates = [
    updateOf('a', { round: 3, base: link, weight: 300, textBytes: 1000 }),
    updateOf('b', { round: 2, base: late, weight: 100, textBytes: 2000 }),
    updateOf('x', { round: 3, base: link, by: 'p', weight: 900, organizations: 3, textBytes: 5000 })
  ]
  const input = (place: number, weight: number) => {
    const { member, round } = updates[place]!
    return { member, round, update: `u${place}`, weight, attention: [1] }
  }
  const right = {
    ...last!,
    round: 3,
    base: link,
    inputs: [input(0, 300), input(1, 50), input(2, 900)],
    weight: 1250,
    organizations: 5,
    textBytes: 3600
  }
  const check = (facts: Partial<RoundEntry> = {}, given = updates) =>
    checkInputs(state, { ...right, ...facts }, given, environment)

  it('never, if each counts as it claims, the late one half, and the sums are theirs', () => assert.equal(check(), null))

  const rows: { why: string; fault: EntryFault | null; got: EntryFault | null }[] = [
    {
      why: 'if a late update counts in full',
      got: check({ inputs: [input(0, 300), input(1, 100), input(2, 900)] }),
      fault: { code: 'WRONG_SUM', name: 'weight of b', got: 100, want: 50 }
    },
    {
      why: 'if one counts for less than it claims',
      got: check({ inputs: [input(0, 1), input(1, 50), input(2, 900)] }),
      fault: { code: 'WRONG_SUM', name: 'weight of a', got: 1, want: 300 }
    },
    ...(['weight', 'organizations', 'textBytes'] as const).map(name => ({
      why: `if its ${name} is not the sum of theirs: the federation would count for more above`,
      got: check({ [name]: 1e6 }),
      fault: { code: 'WRONG_SUM', name, got: 1e6, want: right[name] } as const
    })),
    {
      why: 'if one names another member’s update',
      got: check({}, [updates[0]!, { ...updates[1]!, member: 'a' }, updates[2]!]),
      fault: { code: 'BAD_INPUT', update: 'u1', detail: 'of another member or round' }
    },
    {
      why: 'if one was trained from another base than that of its round',
      got: check({}, [{ ...updates[0]!, base: 'bafyQ' }, updates[1]!, updates[2]!]),
      fault: { code: 'BAD_INPUT', update: 'u0', detail: `trained from bafyQ, the round is based on ${link}` }
    },
    {
      why: 'if it tells of a residual of which the update does not',
      got: check({ residuals: [{ ...residual('y'), to: 'a' }] }),
      fault: { code: 'WRONG_RESIDUALS', member: 'a' }
    },
    {
      why: 'if it keeps to itself what an update tells of',
      got: check({}, [{ ...updates[0]!, residuals: [residual('y')] }, updates[1]!, updates[2]!]),
      fault: { code: 'WRONG_RESIDUALS', member: 'a' }
    },
    {
      why: 'if one is what no aggregator may take',
      got: check({}, [updates[0]!, updates[1]!, { ...updates[2]!, by: 'a' }]),
      fault: { code: 'BAD_INPUT', update: 'u2', detail: 'a does not speak for x' }
    }
  ]
  for (const { why, got, fault } of rows) it(why, () => assert.deepEqual(got, fault))
})

describe('sums of a round', () => {
  it('are told as far as a record can tell them, whatever children claim', () => {
    const most = { weight: 1e18, organizations: Number.MAX_SAFE_INTEGER, textBytes: 1e18 }
    const inputs = ['x', 'y', 'z'].map(member => ({ weight: most.weight, update: updateOf(member, most) }))
    assert.deepEqual(totals(inputs), most)
    const few = [1, 3].map(organizations => ({
      weight: 2,
      update: updateOf('x', { organizations, textBytes: 100 * organizations })
    }))
    assert.deepEqual(totals(few), { weight: 4, organizations: 4, textBytes: 250 })
  })
})

describe('sentences of faults', () => {
  it('name what was found', () => {
    const update: [UpdateFault, RegExp][] = [
      [{ code: 'NOT_A_MEMBER', verdict: 'ignore', member: 'z' }, /z is not in the roster/],
      [{ code: 'NOT_ITS_PEER', verdict: 'reject', member: 'b', by: 'a' }, /a does not speak for b/],
      [{ code: 'WRONG_BASE', verdict: 'ignore', base: 'bafyQ', want: 'bafyW' }, /bafyQ.*bafyW/],
      [{ code: 'SETTLED', verdict: 'ignore', round: 2, counted: 3 }, /round 2.*round 3/],
      [{ code: 'STALE', verdict: 'ignore', staleness: 4 }, /4 rounds/],
      [{ code: 'WRONG_SKETCHES', verdict: 'reject', gotBytes: 3, wantBytes: 4 }, /3 bytes.*4/],
      [{ code: 'SKETCHES_NOT_FINITE', verdict: 'reject', member: 'b' }, /sketches of b.*not finite/],
      [{ code: 'NO_WEIGHT', verdict: 'reject', weight: 0 }, /0 tokens/],
      [{ code: 'WRONG_COUNT', verdict: 'reject', member: 'm', organizations: 9 }, /m is one organization.*9/],
      [{ code: 'TOO_HEAVY', verdict: 'reject', weight: 9, limit: 8 }, /9 tokens.*8/],
      [{ code: 'NOT_FOUND', verdict: 'ignore', detail: 'gone' }, /gone/],
      [{ code: 'DAMAGED', verdict: 'reject', detail: 'not finite' }, /not finite/]
    ]
    for (const [fault, sentence] of update) assert.match(describeUpdateFault(fault), sentence)
    assert.equal(describeEntryFault({ code: 'WRONG_ROUND', got: 4, want: 3 }), 'wrong round (got 4, want 3)')
  })
})
