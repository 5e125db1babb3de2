/** What a member shows to join, checked offline: what holds, and each way of cheating by its name. */
import assert from 'node:assert/strict'
import * as dagCbor from '@ipld/dag-cbor'
import type { Entry, Member } from '../../src/federation/entry.ts'
import { planMembers, type ShownProof } from '../../src/federation/membership.ts'
import { beginLog, extendLog } from '../../src/wire/certified-log.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { checkProof, childProof, encodeChildProof, isBehind } from '../../src/wire/join-proofs.ts'
import { limits } from '../../src/wire/limits.ts'
import type { CertifiedBytes } from '../../src/wire/messages.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { LogBuilder, peerOf } from './peers.ts'

describe('what a member shows to join', () => {
  const parent = new LogBuilder({ name: 'world', path: 'world' })
  const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c').addRound('a', 'b')
  const membersOf = (builder: LogBuilder) =>
    builder.entries.filter(({ entry }) => (entryCodec.decode(entry) as Entry).kind === 'members')
  const asked = (facts: Partial<Member> = {}): Member => ({
    member: child.id,
    kind: 'federation',
    name: 'prose',
    peers: [...child.roster.delegates],
    proof: encodeChildProof(child.charterBytes, membersOf(child)),
    ...facts
  })

  it('an organization: its own signature over federation, name and kind', () => {
    const member = peerOf('a').member(parent.id)
    assert.equal(checkProof(parent.id, member), null)
    for (const changed of [
      { ...member, name: 'other' },
      { ...member, kind: 'witness' as const },
      { ...member, proof: new Uint8Array() }
    ])
      assert.equal(checkProof(parent.id, changed), 'its join record is wrongly signed')
    assert.equal(checkProof(child.id, member), 'its join record is wrongly signed', 'it was signed for another federation')
    const two = { ...member, peers: [member.member, peerOf('b').peer] }
    assert.equal(checkProof(parent.id, two), 'an organization has one peer, its own')
    assert.equal(checkProof(parent.id, { ...member, peers: [peerOf('b').peer] }), 'an organization has one peer, its own')
  })

  it('a child federation: its charter and the entries that made its delegates', () => {
    assert.equal(checkProof(parent.id, asked()), null)
  })

  const wrong: { why: string; member: () => Member; says: RegExp }[] = [
    { why: 'no proof', member: () => asked({ proof: new Uint8Array() }), says: /not readable/ },
    {
      why: 'a proof of another shape',
      member: () => asked({ proof: dagCbor.encode({ charter: 1, members: [] }) }),
      says: /not readable/
    },
    {
      why: 'a list of other things',
      member: () => asked({ proof: dagCbor.encode({ charter: child.charterBytes, members: [1] }) }),
      says: /not readable/
    },
    { why: 'more than is read', member: () => asked({ proof: new Uint8Array(300_000) }), says: /not readable/ },
    {
      why: 'no charter',
      member: () => asked({ proof: encodeChildProof(Uint8Array.of(0xa0), membersOf(child)) }),
      says: /./
    },
    {
      why: 'a charter that is none, under the name that its bytes have',
      member: () => {
        const bytes = dagCbor.encode({ name: 'prose' })
        return asked({ member: linkOf(bytes), proof: encodeChildProof(bytes, []) })
      },
      says: /founders|schema|expected/
    },
    { why: 'the proof of another federation', member: () => asked({ member: parent.id }), says: /of another federation/ },
    {
      why: 'another parent',
      member: () => {
        const other = new LogBuilder({ parent: linkOf(new Uint8Array(1)) })
        return asked({ member: other.id, proof: encodeChildProof(other.charterBytes, []) })
      },
      says: /another parent/
    },
    {
      why: 'delegates that its log does not name',
      member: () => asked({ peers: [peerOf('z').peer] }),
      says: /delegates that its log does not/
    },
    {
      why: 'fewer delegates',
      member: () => asked({ peers: child.roster.delegates.slice(0, 1) }),
      says: /delegates that its log does not/
    },
    {
      why: 'more delegates',
      member: () => asked({ peers: [...child.roster.delegates, peerOf('z').peer] }),
      says: /delegates that its log does not/
    },
    {
      why: 'entries of another federation with the same voters',
      member: () => {
        const own = new LogBuilder({ parent: parent.id })
        const other = new LogBuilder({ parent: parent.id, seed: 1 }).admit('a')
        return asked({ member: own.id, proof: encodeChildProof(own.charterBytes, membersOf(other)) })
      },
      says: /for another entry/
    },
    {
      why: 'an entry of before, a second time',
      member: () => asked({ proof: encodeChildProof(child.charterBytes, [...membersOf(child), membersOf(child)[0]!]) }),
      says: /not in their order/
    },
    {
      why: 'an entry that only its author signed',
      member: () => {
        const own = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c')
        const change = own.membersEntry({ joined: [peerOf('z').member(own.id)] })
        return asked({
          member: own.id,
          proof: encodeChildProof(own.charterBytes, [...membersOf(own), own.certify(change, ['a'])])
        })
      },
      says: /1 of 3 voters signed/
    },
    {
      why: 'a round among its entries',
      member: () => asked({ proof: encodeChildProof(child.charterBytes, child.entries) }),
      says: /damaged/
    },
    {
      why: 'a certificate of another entry',
      member: () => {
        const [first, second] = membersOf(child)
        return asked({
          proof: encodeChildProof(child.charterBytes, [{ entry: first!.entry, certificate: second!.certificate }])
        })
      },
      says: /for another entry/
    }
  ]
  for (const { why, member, says } of wrong)
    it(`is refused: ${why}`, () => assert.match(checkProof(parent.id, member()) ?? 'taken', says))
})

describe('what a child federation shows when it is a member already', () => {
  const newParent = () => new LogBuilder({ name: 'world', path: 'world' })
  const membersOf = (builder: LogBuilder) =>
    builder.entries.filter(({ entry }) => (entryCodec.decode(entry) as Entry).kind === 'members')
  const shownIn = (parent: LogBuilder, child: LogBuilder) => parent.roster.proofs.get(child.id) ?? null

  /** As a log on disk gives them (node/entry-log.ts). */
  const membersFrom = (members: CertifiedBytes[]) => (index: number) =>
    members.filter(({ entry }) => (entryCodec.decode(entry) as Entry).index >= index)

  /** As `child` would ask for its place in `parent` now. */
  function asks(parent: LogBuilder, child: LogBuilder): Member {
    const shown = childProof(child.id, child.charterBytes, membersFrom(membersOf(child)), shownIn(parent, child))
    assert.ok(shown !== null)
    return { member: child.id, kind: 'federation', name: 'prose', ...shown }
  }

  function take(parent: LogBuilder, member: Member): void {
    const { roster, charter } = parent
    const wishes = { joining: [member], enrolling: [], leaving: [], accused: [], isPresent: () => true, isAway: () => false }
    parent.add({ ...parent.nextHead, kind: 'members', ...planMembers(roster, charter, wishes)! })
  }

  /** Entries that name `name` absent, or take that back, until votes and offices are settled. */
  function hear(child: LogBuilder, name: string, isThere: boolean): void {
    const isAway = (peer: string) => !isThere && peer === peerOf(name).peer
    const wishes = { joining: [], enrolling: [], leaving: [], accused: [], isPresent: (peer: string) => !isAway(peer), isAway }
    for (let change = planMembers(child.roster, child.charter, wishes); change !== null; ) {
      child.add({ ...child.nextHead, kind: 'members', ...change })
      change = planMembers(child.roster, child.charter, wishes)
    }
  }

  it('is what is new alone: its delegates change for ever, and no proof outgrows the limit', () => {
    const parent = newParent()
    const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c', 'd')
    take(parent, asks(parent, child))
    let bytes = 0
    for (let flip = 0; flip < 120; flip++) {
      hear(child, 'b', flip % 2 === 1)
      child.addRound('a', 'c')
      const member = asks(parent, child)
      assert.equal(checkProof(parent.id, member, shownIn(parent, child)), null)
      assert.deepEqual(member.peers, child.roster.delegates)
      assert.ok(member.proof.length < 8192, `${member.proof.length} bytes`)
      bytes += member.proof.length
      take(parent, member)
    }
    assert.ok(bytes > limits.proofBytesMax, `${bytes} bytes of proofs would have fitted into one`)
    let log = beginLog(parent.charterBytes)
    for (const one of parent.entries) {
      assert.ok(!('code' in log), JSON.stringify(log))
      const extended = extendLog(log, one)
      log = 'code' in extended ? extended : extended.log
    }
    assert.ok(!('code' in log), JSON.stringify(log))
  })

  it('is read once: what a peer does with the next part does not grow with what was shown before', () => {
    const parent = newParent()
    const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c', 'd')
    take(parent, asks(parent, child))
    const asked: number[] = []
    for (let flip = 0; flip < 12; flip++) {
      hear(child, 'b', flip % 2 === 1)
      const members = membersFrom(membersOf(child))
      const from = (index: number) => {
        const given = members(index)
        asked.push(given.length)
        return given
      }
      const shown = childProof(child.id, child.charterBytes, from, shownIn(parent, child))!
      const member: Member = { member: child.id, kind: 'federation', name: 'prose', ...shown }
      assert.equal(checkProof(parent.id, member, shownIn(parent, child)), null)
      // A delegate that asked at the same time is behind by this part.
      const before = shownIn(parent, child)!
      take(parent, member)
      assert.equal(isBehind(member, shownIn(parent, child)), true)
      // Whoever read it once more would find no proof there.
      for (let part: ShownProof | null = before; part !== null; part = part.before) part.proof.fill(0)
    }
    assert.ok(Math.max(...asked) <= asked[0]!, `entries read of the child's log: ${asked}`)
  })

  it('is behind, not wrong, if the parent has taken it from another delegate meanwhile', () => {
    const parent = newParent()
    const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c', 'd')
    take(parent, asks(parent, child))
    hear(child, 'b', false)
    const second = asks(parent, child)
    assert.equal(isBehind(second, shownIn(parent, child)), false)
    take(parent, second)
    assert.match(checkProof(parent.id, second, shownIn(parent, child)) ?? 'taken', /does not follow/)
    assert.equal(isBehind(second, shownIn(parent, child)), true)
    assert.equal(isBehind({ ...second, follows: parent.id }, shownIn(parent, child)), false, 'nothing it ever showed')
  })

  it('is behind, not wrong, if another delegate has shown all from the beginning meanwhile, and more', () => {
    const parent = newParent()
    const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c', 'd')
    take(parent, asks(parent, child))
    hear(child, 'b', false)
    const second = asks(parent, child)
    hear(child, 'c', false)
    // It had not heard yet that anything was shown.
    take(parent, asks(newParent(), child))
    assert.match(checkProof(parent.id, second, shownIn(parent, child)) ?? 'taken', /does not follow/)
    assert.equal(isBehind(second, shownIn(parent, child)), true)
    assert.equal(isBehind({ ...second, follows: parent.id }, shownIn(parent, child)), false, 'nothing it ever showed')
  })

  it('is behind, not wrong, if it shows the beginning of what the parent has taken from another delegate', () => {
    const parent = newParent()
    const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c', 'd')
    const first = asks(parent, child)
    hear(child, 'b', false)
    take(parent, asks(parent, child))
    assert.match(checkProof(parent.id, first, shownIn(parent, child)) ?? 'taken', /older than what it has shown/)
    assert.equal(isBehind(first, shownIn(parent, child)), true)
    assert.equal(isBehind({ ...first, proof: new Uint8Array(9) }, shownIn(parent, child)), false, 'it is no proof')
    const charterAlone = { ...first, proof: encodeChildProof(child.charterBytes, []) }
    assert.equal(isBehind(charterAlone, shownIn(parent, child)), true)
    assert.equal(isBehind(charterAlone, null), false, 'it has shown nothing yet')
    const other = new LogBuilder({ parent: parent.id }).admit('a', 'c', 'd')
    const foreign = { ...first, proof: encodeChildProof(other.charterBytes, membersOf(other)) }
    assert.equal(isBehind(foreign, shownIn(parent, child)), false, 'nothing it ever showed')
    assert.equal(isBehind(asks(newParent(), child), shownIn(parent, child)), false, 'all that it has shown is not behind')
  })

  it('is what fits: a child that was away for long catches up part by part', () => {
    const parent = newParent()
    const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c', 'd')
    for (let flip = 0; flip < 200; flip++) hear(child, 'b', flip % 2 === 1)
    let parts = 0
    for (let last = ''; last !== child.head && parts < 9; parts++) {
      const member = asks(parent, child)
      assert.equal(checkProof(parent.id, member, shownIn(parent, child)), null)
      take(parent, member)
      last = linkOf(membersOf(child).at(-1)!.entry) === asks(parent, child).follows ? child.head : ''
    }
    assert.ok(parts > 1 && parts < 9, `${parts} parts`)
  })

  const wrong: {
    why: string
    says: RegExp
    member: (now: { parent: LogBuilder; child: LogBuilder; old: Member }) => Member
  }[] = [
    {
      why: 'what follows another entry',
      says: /does not follow/,
      member: ({ parent, child }) => ({ ...asks(parent, child), follows: parent.id })
    },
    {
      why: 'what follows, without its beginning',
      says: /no charter/,
      member: ({ parent, child }) => {
        const { follows, ...rest } = asks(parent, child)
        assert.ok(follows !== undefined)
        return rest
      }
    },
    { why: 'a whole proof that is older than the last', says: /older/, member: ({ old }) => old },
    {
      why: 'entries in another order',
      says: /order|signed|change/,
      member: ({ parent, child }) => {
        const [last] = membersOf(child).slice(-1)
        return { ...asks(parent, child), proof: dagCbor.encode({ members: [last, last] }) }
      }
    },
    {
      why: 'an organization that shows a part',
      says: /only a child/,
      member: ({ parent }) => ({ ...peerOf('a').member(parent.id), follows: parent.id })
    }
  ]
  for (const { why, says, member } of wrong)
    it(`is refused: ${why}`, () => {
      const parent = newParent()
      const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c', 'd')
      const old = asks(parent, child)
      take(parent, old)
      hear(child, 'b', false)
      take(parent, asks(parent, child))
      hear(child, 'b', true)
      assert.equal(checkProof(parent.id, asks(parent, child), shownIn(parent, child)), null)
      const shown = member({ parent, child, old })
      assert.match(checkProof(parent.id, shown, shownIn(parent, child)) ?? 'taken', says)
    })

  it('is nothing while this peer knows less than has been shown', () => {
    const parent = newParent()
    const child = new LogBuilder({ parent: parent.id }).admit('a', 'b', 'c', 'd')
    const behind = membersOf(child)
    hear(child, 'b', false)
    take(parent, asks(parent, child))
    assert.equal(childProof(child.id, child.charterBytes, membersFrom(behind), shownIn(parent, child)), null)
  })
})
