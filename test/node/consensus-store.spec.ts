/** What a node keeps of its votes. Whole or not there; damaged: said, by name; new, or perhaps a copy. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import * as dagCbor from '@ipld/dag-cbor'
import { join } from 'node:path'
import type { WorldlmError } from '../../src/errors.ts'
import { firstMemory } from '../../src/federation/consensus-state.ts'
import { readConsensus, writeConsensus, writeFirstMemory } from '../../src/node/store.ts'
import { isMalformed } from '../../src/wire/codec.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { temporaryFolder } from '../temporary.ts'
import { LogBuilder } from '../wire/peers.ts'

const noDraw = (): number => {
  throw new Error('no number is to be drawn')
}

describe('consensus on disk', () => {
  const builder = new LogBuilder().admit('a')
  const entry = entryCodec.decode(builder.entries[0]!.entry)
  assert.ok(!isMalformed(entry))

  it('comes back as it was, with the entry that was accepted', () => {
    const path = join(temporaryFolder(), 'c.cbor')
    const open = { index: 1, term: 4, link: builder.head, entry }
    for (const accepted of [null, open, { ...open, signedFor: [] }, { ...open, signedFor: ['a', 'b'] }])
      for (const votedFor of [null, 'peer']) {
        for (const nonce of [null, 7]) {
          const givenUp = accepted === null ? builder.head : null
          const memory = { term: 5, votedFor, accepted, givenUp, nonce, signed: { index: 1, term: 4 }, old: nonce === null }
          writeConsensus(path, memory)
          assert.deepEqual(readConsensus(path, noDraw), { ...memory, fromDisk: true })
        }
      }
  })

  it('of an earlier version tells of its last signature what it knows', () => {
    const path = join(temporaryFolder(), 'c.cbor')
    const bytes = builder.entries[0]!.entry
    for (const [accepted, signed] of [
      [null, null],
      [
        { term: 4, entry: bytes },
        { index: 1, term: 4 }
      ]
    ]) {
      writeFileSync(path, dagCbor.encode({ term: 5, votedFor: null, accepted, nonce: null }))
      const read = readConsensus(path, noDraw)
      assert.deepEqual([read.signed, read.old, read.fromDisk], [signed, false, true])
    }
  })

  it('begins with a number to enroll by, which outlives a restart', () => {
    const path = join(temporaryFolder(), 'c.cbor')
    const fresh = { ...firstMemory, nonce: 7 }
    assert.deepEqual(
      readConsensus(path, () => 7),
      { ...fresh, fromDisk: false }
    )
    assert.deepEqual(readConsensus(path, noDraw), { ...fresh, fromDisk: true })
  })

  it('is new where its federation has just been founded, and may be a copy ever after', () => {
    const path = join(temporaryFolder(), 'c.cbor')
    writeFirstMemory(path)
    assert.deepEqual(readConsensus(path, noDraw), { ...firstMemory, fromDisk: false })
    for (const foundedAtMs of [Date.now() - 3_600_000, Date.now() + 3_600_000]) {
      writeFileSync(path, dagCbor.encode({ ...firstMemory, foundedAtMs }))
      assert.equal(readConsensus(path, noDraw).fromDisk, true, `${foundedAtMs}`)
    }
    writeFirstMemory(path)
    writeConsensus(path, { ...firstMemory, term: 1 })
    assert.equal(readConsensus(path, noDraw).fromDisk, true)
  })

  it('is refused where it is damaged: who forgot its votes may vote twice', () => {
    const path = join(temporaryFolder(), 'c.cbor')
    writeConsensus(path, {
      ...firstMemory,
      term: 5,
      accepted: { index: 1, term: 4, link: builder.head, entry }
    })
    const whole = readFileSync(path)
    for (const bytes of [whole.subarray(0, 9), Buffer.alloc(0), Buffer.from('{}'), Buffer.from([0xf6])]) {
      writeFileSync(path, bytes)
      const isRight = ({ code, message }: WorldlmError) => code === 'CONSENSUS_DAMAGED' && message.includes(path)
      assert.throws(() => readConsensus(path, noDraw), isRight)
    }
  })
})
