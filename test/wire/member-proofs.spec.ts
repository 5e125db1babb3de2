import assert from 'node:assert/strict'
import type { MembersEntry } from '../../src/federation/entry.ts'
import { createIdentity, type Host, peerNameOf } from '../../src/net/host.ts'
import { linkOf } from '../../src/wire/codec.ts'
import {
  checkEnroll,
  checkEvidence,
  checkLeave,
  checkMemberProofs,
  enrollRecord,
  evidenceOf,
  leaveEntriesMax,
  leaveRecord
} from '../../src/wire/member-proofs.ts'
import { acceptBytes } from '../../src/wire/signature.ts'
import { loopbackHost } from '../../bench/loopback-host.ts'

const text = (word: string) => linkOf(new TextEncoder().encode(word))
const federation = text('a federation')

describe('what a members entry proves', () => {
  const hosts: Host[] = []
  const someone = async () => {
    const identity = await createIdentity()
    const host = await loopbackHost({ identity, listen: [] })
    hosts.push(host)
    return { peer: peerNameOf(identity), sign: (bytes: Uint8Array) => host.sign(bytes) }
  }
  after(() => Promise.all(hosts.map(host => host.stop())))

  it('that a member left: by its own word, in this federation, not long ago', async () => {
    const { peer, sign } = await someone()
    const other = await someone()
    const left = leaveRecord(sign, federation, peer, 7)
    assert.equal(checkLeave(federation, 8, left), null)
    assert.equal(checkLeave(federation, 7 + leaveEntriesMax, left), null)
    assert.match(checkLeave(federation, 8 + leaveEntriesMax, left)!, /it left at 7/)
    assert.match(checkLeave(federation, 7, left)!, /it left at 7/)
    assert.match(checkLeave(text('another'), 8, left)!, /wrongly signed/)
    assert.match(checkLeave(federation, 8, { ...left, member: other.peer })!, /wrongly signed/)
    assert.match(checkLeave(federation, 8, { ...left, reason: 'unwanted' })!, /reason/)
    assert.notEqual(checkLeave(federation, 8, { ...left, proof: new Uint8Array([1]) }), null)
  })

  it('that a peer enrolled by this number, in this federation', async () => {
    const { peer, sign } = await someone()
    const enrolled = enrollRecord(sign, federation, peer, 5)
    assert.equal(checkEnroll(federation, enrolled), null)
    for (const wrong of [
      { ...enrolled, nonce: 6 },
      { ...enrolled, peer: (await someone()).peer }
    ])
      assert.match(checkEnroll(federation, wrong)!, /wrongly signed/)
    assert.match(checkEnroll(text('another'), enrolled)!, /wrongly signed/)
  })

  it('that a peer signed two entries for one index and term, and nothing less', async () => {
    const { peer, sign } = await someone()
    const [one, two] = [text('one'), text('two')]
    const accept = (entry: string, index = 4, term = 2) => sign(acceptBytes(federation, index, term, entry))
    const proof = { index: 4, term: 2, entries: [one, two] as [string, string] }
    assert.equal(checkEvidence(federation, evidenceOf(peer, { ...proof, signatures: [accept(one), accept(two)] })), null)
    const rows: [string, Parameters<typeof evidenceOf>[1]][] = [
      ['one entry twice', { ...proof, entries: [one, one], signatures: [accept(one), accept(one)] }],
      ['another index', { ...proof, signatures: [accept(one), accept(two, 5)] }],
      ['another term', { ...proof, signatures: [accept(one), accept(two, 4, 3)] }],
      ['one signature for both', { ...proof, signatures: [accept(one), accept(one)] }]
    ]
    for (const [why, equivocation] of rows)
      assert.notEqual(checkEvidence(federation, evidenceOf(peer, equivocation)), null, why)
    const another = evidenceOf((await someone()).peer, { ...proof, signatures: [accept(one), accept(two)] })
    assert.match(checkEvidence(federation, another)!, /not of the peer/)
  })

  it('all of it is checked in an entry, and the first that does not hold is named', async () => {
    const { peer, sign } = await someone()
    const entry: MembersEntry = {
      kind: 'members',
      federation,
      index: 8,
      prev: federation,
      term: 1,
      proposer: peer,
      joined: [],
      left: [leaveRecord(sign, federation, peer, 7)],
      evicted: [],
      enrolled: [enrollRecord(sign, federation, peer, 1)],
      absent: [],
      voters: [peer],
      delegates: []
    }
    assert.equal(checkMemberProofs(federation, entry), null)
    assert.equal(checkMemberProofs(federation, { ...entry, enrolled: [{ ...entry.enrolled[0]!, nonce: 2 }] })?.who, peer)
    const accused = { peer, proof: new Uint8Array() }
    assert.equal(checkMemberProofs(federation, { ...entry, evicted: [accused] })?.who, peer)
  })
})
