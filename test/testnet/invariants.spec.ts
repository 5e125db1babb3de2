/** The invariants over a testnet's records: whole records show nothing, and each violation is found by its number. */
import assert from 'node:assert/strict'
import type { Entry, Update } from '../../src/federation/entry.ts'
import { entryCodec, certificateCodec } from '../../src/wire/records.ts'
import { isMalformed, linkOf } from '../../src/wire/codec.ts'
import type { CertifiedBytes } from '../../src/wire/messages.ts'
import { readUpdate } from '../../src/wire/certified-log.ts'
import { checkInvariants } from '../../testnet/checks/invariants.ts'
import type { CertifiedEntry, TestnetRecords } from '../../testnet/checks/records.ts'
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

  it('I3: inputs of strangers, twice, of nobody’s update, or on another base', () => {
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
    for (const [place, make] of strange.entries()) {
      const builder = grown()
      builder.entries.push(builder.certify(make(builder)))
      assert.ok(check(recordsOf(builder), builder).includes('I3'), `case ${place}`)
    }
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
    records.records.splice(-1, 1, { ...again, record: receipt, lost: true })
    assert.deepEqual(check(records, builder), ['I4'], 'it lost its disk, and none of it is counted')
    const twice = new LogBuilder().admit('a', 'b', 'c')
    const entry = twice.roundEntry(['a'])
    twice.add(entry)
    twice.add({ ...twice.roundEntry([]), inputs: entry.inputs })
    assert.ok(check(recordsOf(twice), twice).includes('I4'))
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
})
