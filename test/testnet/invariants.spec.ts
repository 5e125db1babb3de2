/** The invariants over a testnet's records: whole records show nothing, and each violation is found by its number. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Entry, Update } from '../../src/federation/entry.ts'
import { entryCodec, certificateCodec } from '../../src/wire/records.ts'
import { isMalformed, linkOf } from '../../src/wire/codec.ts'
import { CertifiedCar } from '../../src/node/certified-car.ts'
import type { CertifiedBytes } from '../../src/wire/messages.ts'
import { readUpdate } from '../../src/wire/certified-log.ts'
import { checkInvariants } from '../../testnet/checks/invariants.ts'
import { type CertifiedEntry, loadRecords, type TestnetRecords } from '../../testnet/checks/records.ts'
import { temporaryFolder } from '../temporary.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

const decode = (node: string, bytes: CertifiedBytes): CertifiedEntry => {
  const entry = entryCodec.decode(bytes.entry)
  const certificate = certificateCodec.decode(bytes.certificate)
  assert.ok(!isMalformed(entry) && !isMalformed(certificate))
  return { node, link: linkOf(bytes.entry), entry, certificate }
}
const accepted = (record: 'accept', federation: string, index: number, term: number, entry: string) => ({
  record,
  federation,
  index,
  term,
  entry
})

/** What two nodes leave that hold the builder's log, with the receipts that its updates had. */
function recordsOf(builder: LogBuilder): TestnetRecords {
  const entries = ['one', 'two'].flatMap(node => builder.entries.map(bytes => decode(node, bytes)))
  const updates = new Map([...builder.updates].map(([link, bytes]) => [link, readUpdate(bytes)!.update] as [string, Update]))
  const receipts = [...updates].map(([update, { round, member }]) => ({
    node: 'one',
    record: {
      record: 'receipt',
      federation: builder.id,
      round,
      member,
      update,
      aggregator: peerOf('a').peer,
      verdict: 'accepted'
    } as const
  }))
  return { entries: new Map([[builder.id, entries]]), updates, records: receipts }
}
const check = (records: TestnetRecords, builder: LogBuilder) =>
  checkInvariants(records, new Map([[builder.id, builder.charter.founders]])).map(({ invariant }) => invariant)
const grown = () => new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b').addRound('b', 'c')

describe('the invariants over records', () => {
  it('hold where all is in order', () => {
    const builder = grown()
    assert.deepEqual(check(recordsOf(builder), builder), [])
  })

  it('I1: two certified entries for one index', () => {
    const [builder, other] = [grown(), new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b').addRound('a', 'c')]
    const records = recordsOf(builder)
    records.entries.get(builder.id)!.push(decode('three', other.entries.at(-1)!))
    for (const [link, bytes] of other.updates) records.updates.set(link, readUpdate(bytes)!.update)
    const found = check(records, builder)
    assert.ok(found.includes('I1'))
    assert.ok(found.includes('I2'), 'whoever signed both has broken that too')
  })

  it('I2: two acceptances in one term, restarts included; the same again is none', () => {
    const builder = grown()
    for (const [link, want] of [
      ['bafyX', []],
      ['bafyY', ['I2']]
    ] as const) {
      const records = recordsOf(builder)
      records.records.push({ node: 'one', record: accepted('accept', builder.id, 9, 1, 'bafyX') })
      records.records.push({ node: 'one', record: accepted('accept', builder.id, 9, 1, link) })
      records.records.push({ node: 'one', record: accepted('accept', builder.id, 9, 2, 'bafyZ') })
      assert.deepEqual(check(records, builder), want)
    }
  })

  it('I2: what a voter noted is held to what its signature certified', () => {
    const builder = grown()
    const records = recordsOf(builder)
    const last = builder.entries.length
    const noted = (voter: string, term: number, link: string) => ({
      node: voter,
      voter: peerOf(voter).peer,
      record: accepted('accept', builder.id, last, term, link)
    })
    records.records.push(noted('a', 1, builder.head), noted('a', 2, 'bafyX'), noted('z', 1, 'bafyX'))
    assert.deepEqual(check(records, builder), [])
    records.records.push(noted('b', 1, 'bafyX'))
    // In the certificates of both nodes.
    assert.deepEqual(new Set(check(records, builder)), new Set(['I2']))
  })

  it('I3: inputs of strangers, twice, of nobody’s update, or on another base', () => {
    /** a's input, with an update of these facts. */
    const instead = (facts: Partial<Update>) => (builder: LogBuilder) => {
      const entry = builder.roundEntry(['a'])
      builder.updates.delete(entry.inputs[0]!.update)
      return { ...entry, inputs: [{ ...entry.inputs[0]!, update: builder.signUpdate(builder.update('a', facts)) }] }
    }
    const others: ((builder: LogBuilder) => Entry)[] = [
      instead({ federation: linkOf(new Uint8Array(1)) }),
      instead({ member: peerOf('b').peer }),
      instead({ by: peerOf('b').peer }),
      builder => {
        builder.add(builder.membersEntry({ joined: [peerOf('w').member(builder.id, 'witness')] }))
        return builder.roundEntry(['w'])
      }
    ]
    const strange: ((builder: LogBuilder) => Entry)[] = [
      builder => builder.roundEntry(['a', 'z']),
      builder => builder.roundEntry(['a', 'a']),
      builder => {
        const entry = builder.roundEntry(['a'])
        builder.updates.delete(entry.inputs[0]!.update)
        return entry
      },
      builder => {
        const entry = builder.roundEntry(['a'])
        builder.updates.delete(entry.inputs[0]!.update)
        const update = builder.signUpdate(builder.update('a', { base: builder.id }))
        return { ...entry, inputs: [{ ...entry.inputs[0]!, update }] }
      },
      builder => {
        const entry = builder.roundEntry(['a'])
        const update = builder.signUpdate(builder.update('b'))
        builder.updates.delete(entry.inputs[0]!.update)
        return { ...entry, inputs: [{ ...entry.inputs[0]!, update }] }
      }
    ]
    for (const [place, make] of [...strange, ...others].entries()) {
      const builder = grown()
      builder.entries.push(builder.certify(make(builder)))
      assert.deepEqual(
        new Set(check(recordsOf(builder), builder)),
        new Set(place === 1 ? ['I3', 'I4'] : ['I3']),
        `case ${place}`
      )
    }
  })

  it('I3: a late update stands on the base of its own round, in whatever order the entries were read', () => {
    const builder = grown()
    const late = builder.update('a')
    builder.addRound('b', 'c')
    const entry = builder.roundEntry(['a'])
    builder.updates.delete(entry.inputs[0]!.update)
    builder.add({ ...entry, inputs: [{ ...entry.inputs[0]!, round: late.round, update: builder.signUpdate(late) }] })
    const records = recordsOf(builder)
    records.entries.get(builder.id)!.reverse()
    assert.deepEqual(check(records, builder), [])
  })

  it('I4: an accepted update that no round counts or excludes, or that two rounds count', () => {
    const builder = grown()
    const records = recordsOf(builder)
    const update = builder.signUpdate(builder.update('c', { round: 1 }))
    const receipt = {
      record: 'receipt',
      federation: builder.id,
      round: 1,
      member: peerOf('z').peer,
      update,
      aggregator: '',
      verdict: 'accepted'
    } as const
    records.records.push({ node: 'one', record: receipt })
    assert.deepEqual(check(records, builder), ['I4'])
    records.records.splice(-1, 1, { node: 'one', record: { ...receipt, verdict: 'DAMAGED' } })
    assert.deepEqual(check(records, builder), [], 'what was refused need not be counted')
    records.records.splice(-1, 1, { node: 'one', record: { ...receipt, round: 9 } })
    assert.deepEqual(check(records, builder), [], 'its round is not certified yet')
    const again = { node: 'one', record: { ...receipt, member: peerOf('b').peer } }
    records.records.splice(-1, 1, again)
    assert.deepEqual(check(records, builder), ['I4'], 'another of its updates is counted in that round')
    records.records.splice(-1, 1, { ...again, lost: true })
    assert.deepEqual(check(records, builder), [], 'it made two, and lost the disk with this one')
    const ofC = { ...receipt, member: peerOf('c').peer }
    records.records.splice(-1, 1, { ...again, record: ofC, lost: true })
    assert.deepEqual(check(records, builder), ['I4'], 'it is counted in another round alone')
    records.records.splice(-1, 1, { ...again, record: receipt, lost: true })
    assert.deepEqual(check(records, builder), ['I4'], 'it lost its disk, and none of it is counted')
    const twice = new LogBuilder().admit('a', 'b', 'c')
    const entry = twice.roundEntry(['a'])
    twice.add(entry)
    twice.add({ ...twice.roundEntry([]), inputs: entry.inputs })
    assert.ok(check(recordsOf(twice), twice).includes('I4'))
  })

  it('I4: who was excluded, left or was evicted since, is not lost; nor is an update of another federation', () => {
    const receiptIn = (builder: LogBuilder, round: number) => {
      const records = recordsOf(builder)
      const { peer } = peerOf('c')
      const record = {
        record: 'receipt',
        federation: builder.id,
        round,
        member: peer,
        update: linkOf(new Uint8Array(7)),
        aggregator: peerOf('a').peer,
        verdict: 'accepted'
      } as const
      records.records.push({ node: 'one', record })
      return records
    }
    const excluding = () => {
      const builder = new LogBuilder().admit('a', 'b', 'c').addRound('a')
      builder.add(builder.roundEntry(['a'], { excluded: [{ member: peerOf('c').peer, reason: 'DAMAGED' }] }))
      return builder.addRound('a')
    }
    // Excluded in round 2: what was accepted for it, and before.
    const found = [1, 2, 3].map(round => check(receiptIn(excluding(), round), excluding()))
    assert.deepEqual(found, [[], [], ['I4']])
    const gone = [
      { left: [{ member: peerOf('c').peer, reason: 'left', proof: new Uint8Array() }] },
      { evicted: [{ peer: peerOf('c').peer, proof: new Uint8Array() }] }
    ]
    for (const change of gone) {
      const builder = new LogBuilder().admit('a', 'b', 'c').addRound('a')
      builder.entries.push(builder.certify(builder.membersEntry(change)))
      assert.deepEqual(check(receiptIn(builder, 1), builder), [])
    }
    const builder = grown()
    const elsewhere = receiptIn(builder, 1)
    assert.deepEqual(check(elsewhere, builder), ['I4'])
    Object.assign(elsewhere.records.at(-1)!.record, { federation: linkOf(new Uint8Array(1)) })
    assert.deepEqual(check(elsewhere, builder), [])
  })

  it('I6: a residual that is noted twice, certified twice, told otherwise than its update does, or noted by nobody', () => {
    const residual = {
      from: peerOf('z').peer,
      via: peerOf('b').peer,
      model: linkOf(new Uint8Array(2)),
      similarity: 0.5,
      weight: 0.1
    }
    const to = peerOf('a').peer
    const noted = (federation: string, round: number, { from, via, model } = residual) =>
      ({ node: 'a', record: { record: 'residual', federation, round, from, via, model } }) as const
    /** A round in which a's update declares these, and the entry tells those. */
    const using = (declared: (typeof residual)[], told = declared) => {
      const builder = grown()
      const entry = builder.roundEntry(['a'])
      builder.updates.delete(entry.inputs[0]!.update)
      const update = builder.signUpdate(builder.update('a', { residuals: declared }))
      const inputs = [{ ...entry.inputs[0]!, update }]
      builder.entries.push(builder.certify({ ...entry, inputs, residuals: told.map(one => ({ ...one, to })) }))
      const records = recordsOf(builder)
      records.records.push(noted(builder.id, 2))
      return { builder, records }
    }
    const good = using([residual])
    assert.deepEqual(check(good.records, good.builder), [])
    good.records.records.push(noted(good.builder.id, 3), { ...noted(good.builder.id, 2), node: 'c' })
    assert.deepEqual(check(good.records, good.builder), [], 'in another round, at another node')
    const other = { ...residual, model: linkOf(new Uint8Array(3)) }
    good.records.records.push(noted(good.builder.id, 2, other))
    assert.deepEqual(check(good.records, good.builder), ['I6'], 'two models of one source')
    for (const { builder, records } of [using([residual, residual]), using([residual], [{ ...residual, weight: 0.2 }])])
      assert.deepEqual(check(records, builder), ['I6'])
    const unnoted = using([other])
    assert.deepEqual(check(unnoted.records, unnoted.builder), ['I6'])
  })

  it('I7: two nodes that applied one entry and hold different bits', () => {
    const builder = grown()
    const records = recordsOf(builder)
    const applied = {
      record: 'applied',
      federation: builder.id,
      index: 3,
      round: 1,
      entry: builder.head,
      model: 'bafyM'
    } as const
    records.records.push(
      { node: 'one', record: { ...applied, digest: 'x' } },
      { node: 'two', record: { ...applied, digest: 'x' } }
    )
    assert.deepEqual(check(records, builder), [])
    records.records.push({ node: 'three', record: { ...applied, digest: 'y' } })
    assert.deepEqual(check(records, builder), ['I7'])
  })

  it('are looked for in what nodes left on disk, torn lines aside', async () => {
    const root = temporaryFolder()
    const record = accepted('accept', 'bafyF', 1, 1, 'bafyX')
    writeFileSync(join(root, 'records.jsonl'), `${JSON.stringify(record)}\n{"record":"acc`)
    const { car } = await CertifiedCar.open(join(root, 'certified.car'))
    const builder = grown()
    car.addCharter(builder.charterBytes)
    car.addUpdates([...builder.updates].map(([link, bytes]) => ({ link, bytes })))
    const log = car.newLog()
    for (const bytes of builder.entries) car.addEntry(log, entryCodec.decode(bytes.entry) as Entry, bytes, [])
    car.close()
    const empty = temporaryFolder()
    const loaded = await loadRecords([
      { name: 'one', voter: 'A', root },
      { name: 'two', root: empty, lost: true }
    ])
    assert.deepEqual(loaded.records, [{ node: 'one', voter: 'A', record, lost: false }])
    const { entries, updates } = recordsOf(builder)
    assert.deepEqual(
      [...loaded.entries.values()].flat(),
      entries.get(builder.id)!.filter(({ node }) => node === 'one')
    )
    assert.deepEqual(loaded.updates, updates)
  })
})
