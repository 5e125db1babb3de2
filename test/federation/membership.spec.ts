import assert from 'node:assert/strict'
import * as dagCbor from '@ipld/dag-cbor'
import fc from 'fast-check'
import type { Enrolled, Member } from '../../src/federation/entry.ts'
import {
  applyMembers,
  checkMembers,
  contributors,
  genesisRoster,
  memberOf,
  type MembersChange,
  planMembers,
  type Roster,
  rosterPeers,
  type ShownProof,
  type Wishes
} from '../../src/federation/membership.ts'
import type { Charter } from '../../src/governance/charter.ts'
import { limits } from '../../src/wire/limits.ts'
import { testCharter } from './charters.ts'

const organization = (name: string): Member => ({
  member: name,
  kind: 'organization',
  name,
  peers: [name],
  proof: new Uint8Array()
})
const witness = (name: string): Member => ({ ...organization(name), kind: 'witness' })
const child = (name: string, peers: string[]): Member => ({
  member: `bafy${name}`,
  kind: 'federation',
  name,
  peers,
  proof: new Uint8Array()
})

const enrollment = (peer: string, nonce = 1): Enrolled => ({ peer, nonce, signature: new Uint8Array(64) })
const nothing: Wishes = { joining: [], leaving: [], accused: [], enrolling: [], isPresent: () => true, isAway: () => false }
const change: MembersChange = { joined: [], left: [], evicted: [], enrolled: [], absent: [], voters: [], delegates: [] }

/** Proposes and applies until nothing is due; every step is checked as a voter would. */
function pursue(charter: Charter, wishes: Partial<Wishes>, roster: Roster): { roster: Roster; voters: string[][] } {
  const voters: string[][] = []
  for (let entries = 0; entries < 100; entries++) {
    const next = planMembers(roster, charter, { ...nothing, ...wishes })
    if (next === null) return { roster, voters }
    assert.equal(checkMembers(roster, charter, next), null)
    roster = applyMembers(roster, next)
    voters.push([...roster.voters])
  }
  throw new Error('never settles')
}

/** Members that join and enroll. */
function settle(charter: Charter, joining: Member[], roster: Roster = genesisRoster(charter)) {
  const enrolling = joining.flatMap(({ peers }) => peers.map(peer => enrollment(peer)))
  return pursue(charter, { joining, enrolling }, roster)
}

describe('membership', () => {
  it('ends with an odd number of voters, as many as the charter allows', () => {
    const rows = [
      { why: 'alone', joining: ['a'], voters: 1 },
      { why: 'two cannot outvote the loss of one, so one decides', joining: ['a', 'b'], voters: 1 },
      { why: 'three', joining: ['a', 'b', 'c'], voters: 3 },
      { why: 'four', joining: ['a', 'b', 'c', 'd'], voters: 3 },
      { why: 'more than the charter allows', joining: ['a', 'b', 'c', 'd', 'e', 'f', 'g'], voters: 5 }
    ]
    for (const { why, joining, voters } of rows) {
      const { roster } = settle(testCharter(), joining.map(organization))
      assert.equal(roster.voters.length, voters, why)
    }
  })

  it('lets a witness vote, but neither contribute nor stand for the federation above', () => {
    const { roster } = settle(testCharter(), [organization('a'), organization('b'), witness('w')])
    assert.deepEqual([...roster.voters], ['a', 'b', 'w'])
    assert.deepEqual([...roster.delegates], ['a', 'b'])
    assert.deepEqual(
      contributors(roster).map(({ member }) => member),
      ['a', 'b']
    )
  })

  it('gives no child federation all the votes', () => {
    const { roster } = settle(testCharter(), [child('x', ['a', 'b', 'c']), child('y', ['p', 'q', 'r'])])
    assert.deepEqual([...roster.voters], ['a', 'p', 'b', 'q', 'c'])
    assert.equal(memberOf(roster, 'q')?.name, 'y')
  })

  it('keeps what each child has shown, in order, for as long as it is a member, and nothing of an organization', () => {
    const charter = testCharter()
    const part = (byte: number, follows?: string) => ({
      ...child('x', ['p']),
      proof: Uint8Array.of(byte),
      ...(follows === undefined ? {} : { follows })
    })
    const roster = (...shown: Member[]) =>
      shown.reduce(
        (before, member) => applyMembers(before, planMembers(before, charter, { ...nothing, joining: [member] })!),
        settle(charter, [organization('a'), child('y', ['q'])]).roster
      )
    const parts = (shown: ShownProof | null): number[][] => (shown === null ? [] : [...parts(shown.before), [...shown.proof]])
    const proofs = ({ proofs }: Roster) => [...proofs].map(([member, shown]) => [member, parts(shown)])
    assert.deepEqual(proofs(roster(part(1), part(2, 'one'), part(3, 'two'))), [
      ['bafyy', [[]]],
      ['bafyx', [[1], [2], [3]]]
    ])
    assert.deepEqual(proofs(roster(part(1), part(2, 'one'), { ...part(4), peers: ['p', 'r'] }))[1], ['bafyx', [[4]]])
    const leaving = [{ member: 'bafyx', reason: 'left', proof: new Uint8Array() }]
    assert.deepEqual(proofs(pursue(charter, { leaving }, roster(part(1))).roster), [['bafyy', [[]]]])
  })

  it('replaces the founders once members are there, one voter an entry, whatever joins in whatever order (Ongaro 2014, §4.1)', () => {
    const members = fc.uniqueArray(fc.constantFrom(...'abcdefghijklmnop'), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(members, members, fc.constantFrom(1, 3, 5, 7), (first, second, voters) => {
        const charter = testCharter({ voters, founders: ['z'] })
        const before = settle(charter, first.map(organization))
        const after = settle(charter, second.map(organization), before.roster)
        assert.ok(after.roster.voters.length % 2 === 1 && after.roster.voters.length <= voters)
        assert.ok(after.roster.voters.every(peer => after.roster.members.has(peer)))
      })
    )
  })

  it('refuses a change that is not the next step', () => {
    const charter = testCharter()
    const { roster } = settle(charter, ['a', 'b', 'c'].map(organization))
    const same = { ...change, voters: ['a', 'b', 'c'], delegates: ['a', 'b', 'c'] }
    assert.equal(checkMembers(roster, charter, { ...same, voters: ['a'] })?.code, 'WRONG_VOTERS')
    assert.equal(checkMembers(roster, charter, { ...same, voters: ['a', 'b', 'x'] })?.code, 'WRONG_VOTERS')
    for (const delegates of [['x'], ['a', 'b', 'x'], ['b', 'a', 'c'], ['a', 'b'], ['a', 'b', 'c', 'd'], []])
      assert.equal(checkMembers(roster, charter, { ...same, delegates })?.code, 'WRONG_VOTERS', `delegates ${delegates}`)
    for (const voters of [['b', 'a', 'c'], ['a', 'b'], ['a', 'b', 'c', 'x'], []])
      assert.equal(checkMembers(roster, charter, { ...same, voters })?.code, 'WRONG_VOTERS', `voters ${voters}`)
    assert.equal(checkMembers(roster, charter, same), null)
    assert.equal(checkMembers(roster, charter, { ...same, absent: ['b', 'b'] })?.code, 'WRONG_CHANGE')
    assert.equal(
      checkMembers(roster, charter, { ...same, joined: [{ ...organization('d'), peers: [] }] })?.code,
      'NOT_ADMITTED'
    )
    assert.throws(() => applyMembers(roster, { ...same, voters: ['a'] }), /one peer an entry/)
  })

  it('admits as many at once as an entry holds, and the others after them: what is longer would be read by nobody', () => {
    const proof = new Uint8Array(limits.proofBytesMax)
    const children = Array.from({ length: 5 }, (_, place) => ({ ...child(`c${place}`, [`p${place}`]), proof }))
    const people = Array.from({ length: 900 }, (_, place) => ({ ...organization(`o${place}`), name: '語'.repeat(300) }))
    for (const [joining, most] of [
      [children, 1],
      [people, 200]
    ] as const) {
      let roster = genesisRoster(testCharter())
      for (let left = joining.length; left > 0; ) {
        const { joined } = planMembers(roster, testCharter(), { ...nothing, joining })!
        const bytes = joined.reduce((sum, one) => sum + dagCbor.encode(one).length, 0)
        assert.ok(
          joined.length > 0 && joined.length <= most && bytes < limits.proofBytesMax * 1.01,
          `${joined.length}, ${bytes}`
        )
        roster = applyMembers(roster, { ...change, joined, voters: [...roster.voters] })
        left -= joined.length
      }
    }
  })

  it('admits only whom the charter lists', () => {
    const charter = testCharter({ admission: { mode: 'allow-list', peers: ['a', 'b'] } })
    const { roster } = settle(charter, ['a', 'b', 'c'].map(organization))
    assert.deepEqual([...roster.members.keys()], ['a', 'b'])
    const joins = { ...change, joined: [organization('c')], voters: ['a'], delegates: ['a', 'b', 'c'] }
    assert.equal(checkMembers(roster, charter, joins)?.code, 'NOT_ADMITTED')
  })

  it('gives no vote to a peer that has not enrolled: it may have voted and forgotten it', () => {
    const charter = testCharter()
    const members = ['a', 'b', 'c'].map(organization)
    const { roster } = pursue(charter, { joining: members, enrolling: [enrollment('b')] }, genesisRoster(charter))
    assert.deepEqual([...roster.voters], ['a'])
    const all = pursue(charter, { enrolling: [enrollment('c')] }, roster)
    assert.deepEqual([...all.roster.voters], ['a', 'b', 'c'])
  })

  it('takes a new enrollment of a voter that lost its memory, and the same one only once', () => {
    const charter = testCharter()
    const { roster } = settle(charter, ['a', 'b', 'c'].map(organization))
    const again = planMembers(roster, charter, { ...nothing, enrolling: [enrollment('b', 2)] })
    assert.deepEqual(
      again?.enrolled.map(({ nonce }) => nonce),
      [2]
    )
    assert.equal(planMembers(applyMembers(roster, again!), charter, { ...nothing, enrolling: [enrollment('b', 2)] }), null)
  })

  it('proposes what its voters accept, whatever it is asked for, and comes to an end (I3)', () => {
    const names = [...'abcdefg']
    const peers = fc.uniqueArray(fc.constantFrom(...names), { maxLength: 7 })
    const children = fc.array(fc.record({ name: fc.constantFrom('x', 'y'), peers: fc.subarray([...'cdefg']) }), {
      maxLength: 2
    })
    const asked = fc.record({
      organizations: peers,
      witnesses: fc.subarray(['f', 'g']),
      children,
      leaving: fc.subarray([...names, 'bafyx']),
      accused: fc.subarray(names, { maxLength: 2 }),
      enrolling: peers,
      nonce: fc.integer({ min: 1, max: 3 }),
      silent: peers,
      away: peers
    })
    const charters = fc.record({
      voters: fc.constantFrom(1, 3, 5),
      admission: fc.constantFrom<Charter['admission']>({ mode: 'open' }, { mode: 'allow-list', peers: [...'abcdef'] })
    })
    fc.assert(
      fc.property(charters, fc.array(asked, { maxLength: 6 }), (overrides, wishes) => {
        const charter = testCharter(overrides)
        let roster = genesisRoster(charter)
        for (const { organizations, witnesses, children, leaving, accused, enrolling, nonce, silent, away } of wishes) {
          const open = {
            joining: [
              ...organizations.map(organization),
              ...witnesses.filter(name => !organizations.includes(name)).map(witness),
              ...new Map(children.map(one => [one.name, child(one.name, one.peers)])).values()
            ],
            leaving: leaving.map(member => ({ member, reason: 'left', proof: new Uint8Array() })),
            accused: accused.map(peer => ({ peer, proof: new Uint8Array() })),
            enrolling: enrolling.map(peer => enrollment(peer, nonce))
          }
          for (let entries = 0; ; entries++) {
            // Who proposes hears itself, and accuses itself of nothing.
            const self = roster.voters[0]
            const isAway = (peer: string) => peer !== self && away.includes(peer)
            const isPresent = (peer: string) => peer === self || !(silent.includes(peer) || isAway(peer))
            const accused = open.accused.filter(({ peer }) => peer !== self)
            const next = planMembers(roster, charter, { ...open, accused, isPresent, isAway })
            if (next === null) break
            assert.equal(checkMembers(roster, charter, next), null)
            assert.ok(entries < 60, 'never settles')
            roster = applyMembers(roster, next)
            // What was asked for is done.
            open.joining = open.joining.filter(one => !next.joined.some(({ member }) => member === one.member))
            open.leaving = open.leaving.filter(one => !next.left.some(({ member }) => member === one.member))
          }
          assert.ok(roster.voters.length > 0)
        }
      }),
      { numRuns: 300 }
    )
  })

  it('lets members go, and their votes with them', () => {
    const charter = testCharter()
    const { roster } = settle(charter, ['a', 'b', 'c', 'd'].map(organization))
    const leaving = [{ member: 'a', reason: 'left', proof: new Uint8Array() }]
    const after = pursue(charter, { leaving }, roster)
    assert.deepEqual([...after.roster.members.keys()], ['b', 'c', 'd'])
    assert.deepEqual([...after.roster.voters].sort(), ['b', 'c', 'd'])
    assert.deepEqual([...after.roster.delegates], ['b', 'c', 'd'])
    assert.equal(after.roster.enrolled.has('a'), false)
  })

  it('keeps the last voter when the last member leaves: somebody has to certify that', () => {
    const charter = testCharter()
    const { roster } = settle(charter, [organization('a')])
    const after = pursue(charter, { leaving: [{ member: 'a', reason: 'left', proof: new Uint8Array() }] }, roster)
    assert.deepEqual([[...after.roster.members.keys()], [...after.roster.voters]], [[], ['a']])
  })

  it('refuses that somebody leaves who is no member, or who joins in the same entry', () => {
    const charter = testCharter()
    const { roster } = settle(charter, ['a', 'b', 'c'].map(organization))
    const same = { ...change, voters: [...roster.voters], delegates: [...roster.delegates] }
    const left = [{ member: 'x', reason: 'left', proof: new Uint8Array() }]
    assert.equal(checkMembers(roster, charter, { ...same, left })?.code, 'WRONG_CHANGE')
    const both = { ...same, joined: [organization('a')], left: [{ ...left[0]!, member: 'a' }] }
    assert.equal(checkMembers(roster, charter, both)?.code, 'WRONG_CHANGE')
    assert.equal(checkMembers(roster, charter, { ...same, absent: ['x'] })?.code, 'WRONG_CHANGE')
    assert.equal(checkMembers(roster, charter, { ...same, enrolled: [enrollment('x')] })?.code, 'WRONG_CHANGE')
  })

  it('evicts for good: an organization with its vote, of a child federation the one delegate', () => {
    const charter = testCharter()
    const { roster } = settle(charter, [organization('a'), organization('b'), child('x', ['p', 'q']), organization('c')])
    const after = pursue(charter, { accused: ['a', 'p'].map(peer => ({ peer, proof: new Uint8Array() })) }, roster).roster
    assert.deepEqual([...after.members.keys()], ['b', 'bafyx', 'c'])
    assert.deepEqual(after.members.get('bafyx')?.peers, ['q'])
    assert.ok(!after.voters.includes('a') && !after.voters.includes('p'))
    assert.deepEqual([...rosterPeers(after, charter)].sort(), ['b', 'c', 'q'], 'nor is it heard, though it is a founder')
    const back = { ...nothing, joining: [organization('a'), child('x', ['p', 'q'])], enrolling: [enrollment('a', 7)] }
    assert.equal(planMembers(after, charter, back), null)
    assert.equal(
      checkMembers(after, charter, { ...change, voters: [...after.voters], joined: [organization('a')] })?.code,
      'NOT_ADMITTED'
    )
  })

  it('replaces a voter that is gone for long by a living member, the dead one first', () => {
    const charter = testCharter({ voters: 3 })
    const { roster } = settle(charter, ['a', 'b', 'c', 'd'].map(organization))
    const gone = { isPresent: (peer: string) => peer !== 'b', isAway: (peer: string) => peer === 'b' }
    const after = pursue(charter, gone, roster)
    assert.deepEqual(after.voters, [
      ['a', 'c'],
      ['a', 'c', 'd']
    ])
    assert.deepEqual([...after.roster.delegates], ['a', 'c', 'd'])
    assert.ok(after.roster.members.has('b'), 'it stays a member')
    assert.deepEqual([...pursue(charter, {}, after.roster).roster.voters].sort(), ['a', 'b', 'c'], 'and comes back')
  })

  it('names nobody absent whom the entry would need: of four voters, two would be asked to sign that they are away', () => {
    const charter = testCharter({ voters: 5 })
    let { roster } = settle(charter, ['a', 'b', 'c', 'd'].map(organization))
    roster = { ...roster, voters: ['a', 'b', 'c', 'd'] }
    const away = (...peers: string[]) => planMembers(roster, charter, { ...nothing, isAway: peer => peers.includes(peer) })
    assert.deepEqual(away('d')?.absent, ['d'])
    assert.deepEqual(away('c', 'd')?.absent ?? [], [])
  })

  it('changes nothing for a member that is silent for a short while', () => {
    const charter = testCharter()
    const { roster } = settle(charter, ['a', 'b', 'c'].map(organization))
    assert.equal(planMembers(roster, charter, { ...nothing, isPresent: peer => peer !== 'b' }), null)
  })

  it('gives no vote to who does not remember how it voted, unless by the entry that enrolls it; who has one keeps it', () => {
    const charter = testCharter()
    const { roster } = settle(charter, ['a', 'b', 'c'].map(organization))
    const without = { ...roster, voters: ['a', 'b'] }
    const remembers = (peer: string) => peer !== 'c'
    assert.equal(planMembers(without, charter, { ...nothing, remembers }), null)
    assert.deepEqual(planMembers(without, charter, nothing)?.voters, ['a', 'b', 'c'])
    const enrolling = [enrollment('c', 2)]
    assert.deepEqual(planMembers(without, charter, { ...nothing, remembers, enrolling })?.voters, ['a', 'b', 'c'])
    assert.equal(planMembers(roster, charter, { ...nothing, remembers }), null)
  })

  it('takes votes from those first that cannot use them, then from those that leave, and from nobody where too few are left that can', () => {
    const charter = testCharter()
    const { roster } = settle(charter, ['a', 'b', 'c'].map(organization))
    const leaving = [{ member: 'c', reason: '', proof: new Uint8Array() }]
    const votersOf = (silent: string, forgetful: string, left = leaving) => {
      const wishes = {
        isPresent: (peer: string) => !silent.includes(peer),
        remembers: (peer: string) => !forgetful.includes(peer)
      }
      const next = planMembers(roster, charter, { ...nothing, ...wishes, leaving: left })!
      assert.equal(checkMembers(roster, charter, next), null)
      return next.voters.join('')
    }
    assert.deepEqual([votersOf('', ''), votersOf('b', ''), votersOf('', 'b')], ['ab', 'ac', 'ac'])
    assert.deepEqual([votersOf('a', ''), votersOf('', 'a')], ['abc', 'abc'], 'of a and b one alone could sign what follows')
    assert.equal(votersOf('bc', ''), 'ac', 'nobody can sign it as it is')
    assert.equal(votersOf('', '', [{ ...leaving[0]!, member: 'a' }]), 'bc')
  })

  it('survives the loss of one voter after another until two are left: every entry on the way has a living majority of the voters before it', () => {
    const order = fc.shuffledSubarray([...'abcdefg'], { minLength: 5, maxLength: 5 })
    fc.assert(
      fc.property(order, fc.constantFrom(3, 5, 7), (dying, voters) => {
        const charter = testCharter({ voters })
        let { roster } = settle(charter, [...'abcdefg'].map(organization))
        const dead = new Set<string>()
        for (const peer of dying) {
          dead.add(peer)
          const wishes = { ...nothing, isPresent: (one: string) => !dead.has(one), isAway: (one: string) => dead.has(one) }
          for (let next = planMembers(roster, charter, wishes); next !== null; next = planMembers(roster, charter, wishes)) {
            const living = roster.voters.filter(one => !dead.has(one)).length
            assert.ok(living >= Math.floor(roster.voters.length / 2) + 1, `${roster.voters} without ${[...dead]}`)
            roster = applyMembers(roster, next)
          }
          assert.ok(roster.voters.every(one => !dead.has(one)))
        }
      })
    )
  })
})
