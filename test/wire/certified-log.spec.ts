/** A certified log, checked offline from its genesis charter on: what holds, and each way of cheating by its name. */
import assert from 'node:assert/strict'
import { base58btc } from 'multiformats/bases/base58'
import type { Certificate, Update } from '../../src/federation/entry.ts'
import { planMembers } from '../../src/federation/membership.ts'
import { addEntry, beginLog, extendLog, type LogState, readUpdate } from '../../src/wire/certified-log.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { type CertifiedBytes, signedCodec } from '../../src/wire/messages.ts'
import { certificateCodec, entryCodec, updateCodec } from '../../src/wire/records.ts'
import { acceptBytes, checkCertificate, signedBytes, verifyPeerSignature } from '../../src/wire/signature.ts'
import { LogBuilder, peerOf } from './peers.ts'

const begun = (builder: LogBuilder): LogState => {
  const log = beginLog(builder.charterBytes)
  assert.ok(!('code' in log))
  return log
}
/** The state after all entries of the builder. */
function followed(builder: LogBuilder): LogState {
  let log = begun(builder)
  for (const bytes of builder.entries) {
    const extended = extendLog(log, bytes, builder.updates)
    assert.ok(!('code' in extended), JSON.stringify(extended))
    log = extended.log
  }
  return log
}
/** Three organizations, all of them voters, and one round of two of them. */
const grown = () => new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b')

describe('a certified log', () => {
  it('holds from the genesis charter on, entry by entry', () => {
    const builder = grown().addRound('a', 'b', 'c').admit('d').addRound('b', 'd')
    const log = followed(builder)
    assert.deepEqual(
      [log.index, log.head, log.rounds, log.roster.members.size, log.roster.voters.length],
      [builder.entries.length, builder.head, 3, 4, 3]
    )
    assert.deepEqual([...log.counted.values()].sort(), [2, 2, 3, 3])
  })

  it('is named by its charter’s bytes: another charter is another federation', () => {
    const [one, other] = [new LogBuilder(), new LogBuilder({ minMembers: 2, startMembers: 2 })]
    assert.notEqual(one.id, other.id)
    assert.equal(begun(one).id, linkOf(one.charterBytes))
    const wrong = beginLog(Uint8Array.of(0xa0))
    assert.ok('code' in wrong)
    assert.deepEqual([wrong.index, wrong.code], [0, 'MALFORMED'])
  })

  /** A round in which a counts this update in place of its own. */
  const countsInstead =
    (name: string, facts: Partial<Update> = {}) =>
    (builder: LogBuilder) => {
      const update = builder.signUpdate(builder.update(name, facts))
      const entry = builder.roundEntry(['a'])
      return builder.certify({ ...entry, inputs: [{ ...entry.inputs[0]!, update }] })
    }
  const cheats: { why: string; make: (builder: LogBuilder) => CertifiedBytes; code: string; says?: RegExp }[] = [
    {
      why: 'two of four voters: no majority',
      make: builder => {
        const five = builder.admit('d', 'e')
        return five.certify(five.roundEntry(['a', 'b']), ['a', 'b'])
      },
      code: 'WRONG_CERTIFICATE',
      says: /2 of 5 voters signed, 3 are a majority/
    },
    {
      why: 'one voter signs twice',
      make: builder => builder.certify(builder.roundEntry(['a', 'b']), ['a', 'a']),
      code: 'WRONG_CERTIFICATE',
      says: /1 of 3/
    },
    {
      why: 'strangers sign',
      make: builder => builder.certify(builder.roundEntry(['a', 'b']), ['a', 'x', 'y', 'z']),
      code: 'WRONG_CERTIFICATE',
      says: /1 of 3/
    },
    { why: 'nobody signs', make: builder => builder.certify(builder.roundEntry(['a', 'b']), []), code: 'WRONG_CERTIFICATE' },
    {
      why: 'a signature of somebody else',
      make: builder =>
        builder.certify(builder.roundEntry(['a', 'b']), ['a', 'b', 'c'], made => ({
          ...made,
          signatures: made.signatures.map((one, place) => ({ ...one, signature: made.signatures[(place + 1) % 3]!.signature }))
        })),
      code: 'WRONG_CERTIFICATE',
      says: /signature of .* is wrong/
    },
    {
      why: 'signatures of another term',
      make: builder =>
        builder.certify(builder.roundEntry(['a', 'b']), ['a', 'b', 'c'], made => ({ ...made, term: made.term + 1 })),
      code: 'WRONG_CERTIFICATE'
    },
    {
      why: 'a certificate of another entry',
      make: builder => ({
        entry: entryCodec.encode(builder.roundEntry(['a'])),
        certificate: builder.certify(builder.roundEntry(['a', 'b'])).certificate
      }),
      code: 'WRONG_CERTIFICATE',
      says: /is for /
    },
    {
      why: 'a certificate of another federation',
      make: builder => {
        const bytes = builder.certify(builder.roundEntry(['a', 'b']), ['a', 'b', 'c'], made => ({
          ...made,
          federation: linkOf(new Uint8Array(1))
        }))
        return bytes
      },
      code: 'WRONG_FEDERATION'
    },
    {
      why: 'an entry of another federation',
      make: builder => builder.certify(builder.roundEntry(['a', 'b'], { federation: linkOf(new Uint8Array(1)) })),
      code: 'WRONG_FEDERATION'
    },
    {
      why: 'an entry is left out',
      make: builder => builder.certify(builder.roundEntry(['a', 'b'], { index: 99 })),
      code: 'GAP'
    },
    {
      why: 'a certificate of another index',
      make: builder => builder.certify(builder.roundEntry(['a']), ['a', 'b'], made => ({ ...made, index: made.index + 1 })),
      code: 'GAP'
    },
    {
      why: 'it does not follow the head',
      make: builder => builder.certify(builder.roundEntry(['a', 'b'], { prev: builder.id })),
      code: 'BROKEN_CHAIN'
    },
    { why: 'no entry', make: builder => ({ ...builder.entries[0]!, entry: Uint8Array.of(1) }), code: 'MALFORMED' },
    {
      why: 'no certificate',
      make: builder => ({ ...builder.certify(builder.roundEntry(['a'])), certificate: Uint8Array.of(1) }),
      code: 'MALFORMED'
    },
    {
      why: 'a round out of turn',
      make: builder => builder.certify(builder.roundEntry(['a', 'b'], { round: 3 })),
      code: 'WRONG_ROUND',
      says: /round 3 after round 1/
    },
    {
      why: 'a round on an older base',
      make: builder => builder.certify(builder.roundEntry(['a', 'b'], { base: builder.id })),
      code: 'WRONG_ROUND',
      says: /not on the round before/
    },
    {
      why: 'a stranger’s input (I3)',
      make: builder => builder.certify(builder.roundEntry(['a', 'z'])),
      code: 'WRONG_ROUND',
      says: /I3: .* is not in the roster/
    },
    {
      why: 'a member’s input twice (I3)',
      make: builder => builder.certify(builder.roundEntry(['a', 'a'])),
      code: 'WRONG_ROUND',
      says: /I3: a is counted twice/
    },
    {
      why: 'an update that an earlier round counts (I4)',
      make: builder => {
        const entry = builder.roundEntry(['a'])
        return builder.certify({ ...entry, inputs: entry.inputs.map(input => ({ ...input, round: 1 })) })
      },
      code: 'WRONG_ROUND',
      says: /I4: a's update for round 1 is counted a second time/
    },
    {
      why: 'a member both counted and excluded (I4)',
      make: builder =>
        builder.certify(builder.roundEntry(['a', 'b'], { excluded: [{ member: peerOf('b').peer, reason: 'late' }] })),
      code: 'WRONG_ROUND',
      says: /I4: .* both counted and excluded/
    },
    {
      why: 'an update on an unknown base (I3)',
      make: countsInstead('a', { base: linkOf(new Uint8Array(1)) }),
      code: 'WRONG_ROUND',
      says: /I3: a: its update is based on/
    },
    {
      why: 'another member’s update (I3)',
      make: countsInstead('b'),
      code: 'WRONG_ROUND',
      says: /names another member/
    },
    {
      why: 'an update of another federation (I3)',
      make: countsInstead('a', { federation: linkOf(new Uint8Array(1)) }),
      code: 'WRONG_ROUND',
      says: /names another member or federation/
    },
    {
      why: 'an update that another member signed (I3)',
      make: countsInstead('a', { by: peerOf('b').peer }),
      code: 'WRONG_ROUND',
      says: /I3: a: its update is signed by .*, who does not speak for it/
    },
    {
      why: 'the input of a witness, who trains nothing (I3)',
      make: builder => {
        builder.add(builder.membersEntry({ joined: [peerOf('w').member(builder.id, 'witness')] }))
        return builder.certify(builder.roundEntry(['w']))
      },
      code: 'WRONG_ROUND',
      says: /I3: .* is not in the roster/
    },
    {
      why: 'an update under the name of another (I3)',
      make: builder => {
        const entry = builder.roundEntry(['a'])
        const other = builder.signUpdate(builder.update('a', { weight: 64 }))
        builder.updates.set(entry.inputs[0]!.update, builder.updates.get(other)!)
        return builder.certify(entry)
      },
      code: 'WRONG_ROUND',
      says: /damaged or wrongly signed/
    },
    {
      why: 'a residual that its target uses twice (I6)',
      make: builder => {
        const [to, via] = [peerOf('a').peer, peerOf('b').peer]
        const residual = { to, via, from: peerOf('z').peer, model: linkOf(new Uint8Array(2)), similarity: 1, weight: 0.1 }
        return builder.certify(builder.roundEntry(['a', 'b'], { residuals: [residual, residual] }))
      },
      code: 'WRONG_ROUND',
      says: /I6: .* uses a residual twice/
    },
    {
      why: 'a member is said to leave that did not',
      make: builder => {
        const left = [{ member: peerOf('b').peer, reason: 'left', proof: new Uint8Array() }]
        const people = { leaving: left, joining: [], accused: [], enrolling: [], isPresent: () => true, isAway: () => false }
        return builder.certify(builder.membersEntry(planMembers(builder.roster, builder.charter, people)!))
      },
      code: 'WRONG_PROOF'
    },
    {
      why: 'more than one voter changes',
      make: builder => builder.certify(builder.membersEntry({ voters: [peerOf('a').peer] })),
      code: 'WRONG_VOTERS'
    },
    {
      why: 'a joining member without its signature',
      make: builder => {
        const joined = [{ ...peerOf('d').member(builder.id), proof: new Uint8Array(64) }]
        return builder.certify(builder.membersEntry({ joined }))
      },
      code: 'WRONG_PROOF',
      says: /d: its join record is wrongly signed/
    }
  ]
  for (const { why, make, code, says = /./ } of cheats) {
    it(`is refused as ${code}: ${why}`, () => {
      const builder = grown()
      const bytes = make(builder)
      const log = followed(builder)
      const fault = extendLog(log, bytes, builder.updates)
      assert.ok('code' in fault, 'it was taken')
      assert.deepEqual([fault.code, fault.federation, fault.index], [code, builder.id, log.index + 1], fault.detail)
      assert.match(fault.detail, says)
    })
  }

  it('is refused by its voters for all that it is refused for afterwards, but the signatures', () => {
    for (const { make, code } of cheats) {
      const builder = grown()
      const { entry } = make(builder)
      const added = addEntry(followed(builder), entry, builder.updates)
      const certificateAlone = code === 'WRONG_CERTIFICATE'
      if ('code' in added) assert.equal(added.code, code)
      else assert.ok(certificateAlone || code === 'GAP' || code === 'WRONG_FEDERATION' || code === 'MALFORMED')
    }
  })

  it('has entries of its own alone, which a voter asks before there is a certificate', () => {
    const builder = grown()
    const entry = builder.roundEntry(['a', 'b'], { federation: linkOf(new Uint8Array(1)) })
    const added = addEntry(followed(builder), entryCodec.encode(entry), builder.updates)
    assert.equal('code' in added && added.code, 'WRONG_FEDERATION')
  })

  it('counts an update that comes late, on the base that its round had', () => {
    const builder = grown()
    const late = builder.update('c')
    builder.addRound('a', 'b').addRound('a', 'b')
    const entry = builder.roundEntry(['a'])
    const input = { ...entry.inputs[0]!, member: late.member, round: late.round, update: builder.signUpdate(late) }
    builder.add({ ...entry, inputs: [input] })
    assert.equal(followed(builder).counted.get(late.member), late.round)
  })

  it('is as good without updates at hand, and checks those that are there', () => {
    const builder = grown()
    let log = begun(builder)
    for (const bytes of builder.entries) {
      const extended = extendLog(log, bytes)
      assert.ok(!('code' in extended))
      log = extended.log
    }
    const [link, bytes] = [...builder.updates][0]!
    const broken = bytes.with(bytes.length - 1, bytes.at(-1)! ^ 1)
    const before = { ...builder, entries: builder.entries.slice(0, -1) } as LogBuilder
    const fault = extendLog(followed(before), builder.entries.at(-1)!, new Map([[link, broken]]))
    assert.ok('code' in fault && /damaged or wrongly signed/.test(fault.detail))
  })

  it('takes a majority of voters whatever else is in the certificate, and counts foreign names for nothing', () => {
    const builder = grown()
    const bytes = builder.certify(builder.roundEntry(['a']), ['x', 'b', 'y', 'c'])
    assert.ok(!('code' in extendLog(followed(builder), bytes, builder.updates)))
    const certificate = certificateCodec.decode(bytes.certificate) as Certificate
    assert.equal(checkCertificate([], certificate), '0 of 0 voters signed, 1 are a majority')
  })
})

describe('an update record', () => {
  const builder = grown()
  const update = builder.update('a')
  const link = builder.signUpdate(update)
  const bytes = builder.updates.get(link)!

  it('is read with its link, if its peer signed it', () => {
    assert.deepEqual(readUpdate(bytes), { link, update })
  })

  it('is none if a byte of it is another', () => {
    for (let place = 0; place < bytes.length; place += 3) {
      const read = readUpdate(bytes.with(place, bytes[place]! ^ 0x01))
      assert.equal(read, null, `byte ${place}`)
    }
  })

  it('is none if somebody else signed it, or in another domain', () => {
    const record = updateCodec.encode(update)
    const b = peerOf('b')
    const a = peerOf('a')
    for (const signed of [
      { record, by: b.peer, signature: b.signIn('update', record) },
      { record, by: a.peer, signature: b.signIn('update', record) },
      { record, by: a.peer, signature: a.signIn('join', record) },
      { record, by: a.peer, signature: a.sign(record) }
    ])
      assert.equal(readUpdate(signedCodec.encode(signed)), null)
  })
})

describe('a signature', () => {
  it('is of one domain: what was signed to accept is no signature of an update', () => {
    const [a, record] = [peerOf('a'), new Uint8Array(9)]
    for (const made of ['accept', 'update', 'join'] as const)
      for (const asked of ['accept', 'update', 'join'] as const)
        assert.equal(verifyPeerSignature(a.peer, signedBytes(asked, record), a.signIn(made, record)), made === asked)
  })

  it('of an acceptance binds federation, index, term and entry', () => {
    const [one, other] = [linkOf(new Uint8Array(1)), linkOf(new Uint8Array(2))]
    const all = [
      acceptBytes(one, 1, 1, one),
      acceptBytes(other, 1, 1, one),
      acceptBytes(one, 2, 1, one),
      acceptBytes(one, 1, 2, one),
      acceptBytes(one, 1, 1, other)
    ]
    assert.equal(new Set(all.map(bytes => Buffer.from(bytes).toString('hex'))).size, all.length)
  })

  it('is never good for a name that is no Ed25519 peer, and never an exception', () => {
    const bytes = new Uint8Array(3)
    for (const name of ['', 'x', '12D3KooW', 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N', '0OIl', linkOf(bytes)])
      assert.equal(verifyPeerSignature(name, bytes, new Uint8Array(64)), false)
    assert.equal(verifyPeerSignature(peerOf('a').peer, bytes, new Uint8Array(63)), false)
    // The same key under another name would be another voter.
    const named = base58btc.decode(`z${peerOf('a').peer}`)
    for (const other of [named.with(1, 0x25), Uint8Array.of(...named.subarray(0, 6), 0, ...named.subarray(6))])
      assert.equal(verifyPeerSignature(base58btc.encode(other).slice(1), bytes, peerOf('a').sign(bytes)), false)
    // More names than are kept: the first is as good afterwards.
    for (let count = 0; count < 5000; count++) verifyPeerSignature(`x${count}`, bytes, new Uint8Array(64))
    assert.equal(verifyPeerSignature(peerOf('a').peer, bytes, peerOf('a').sign(bytes)), true)
  })
})
