import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Member } from '../../src/federation/entry.ts'
import {
  applyMembers,
  checkMembers,
  contributors,
  genesisRoster,
  memberOf,
  planMembers,
  type Roster
} from '../../src/federation/membership.ts'
import type { Charter } from '../../src/governance/charter.ts'
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

/** Proposes and applies until nothing is due; every step is checked as a voter would. */
function settle(
  charter: Charter,
  joining: Member[],
  roster: Roster = genesisRoster(charter)
): { roster: Roster; entries: number } {
  for (let entries = 0; entries < 100; entries++) {
    const change = planMembers(roster, charter, joining)
    if (change === null) return { roster, entries }
    assert.equal(checkMembers(roster, charter, change), null)
    roster = applyMembers(roster, change)
  }
  throw new Error('never settles')
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
    const change = { joined: [], left: [], voters: ['a', 'b', 'c'], delegates: ['a', 'b', 'c'] }
    assert.equal(checkMembers(roster, charter, { ...change, voters: ['a'] })?.code, 'WRONG_VOTERS')
    assert.equal(checkMembers(roster, charter, { ...change, voters: ['a', 'b', 'x'] })?.code, 'WRONG_VOTERS')
    assert.equal(checkMembers(roster, charter, { ...change, delegates: ['x'] })?.code, 'WRONG_VOTERS')
    assert.equal(
      checkMembers(roster, charter, { ...change, joined: [{ ...organization('d'), peers: [] }] })?.code,
      'NOT_ADMITTED'
    )
    assert.throws(() => applyMembers(roster, { ...change, voters: ['a'] }), /one peer an entry/)
  })

  it('admits only whom the charter lists', () => {
    const charter = testCharter({ admission: { mode: 'allow-list', peers: ['a', 'b'] } })
    const { roster } = settle(charter, ['a', 'b', 'c'].map(organization))
    assert.deepEqual([...roster.members.keys()], ['a', 'b'])
    const change = { joined: [organization('c')], left: [], voters: ['a'], delegates: ['a', 'b', 'c'] }
    assert.equal(checkMembers(roster, charter, change)?.code, 'NOT_ADMITTED')
  })
})
