/** Golden bytes (test/vectors/wire.json, made by make-wire.ts): what was written yesterday is read tomorrow. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { verifyPeerSignature } from '../../src/wire/signature.ts'
import { isMalformed } from '../../src/wire/codec.ts'
import { charterCodec, entryCodec } from '../../src/wire/records.ts'
import { peerOf } from './peers.ts'
import { type WireVector, wireVectors } from './vectors.ts'

const golden = JSON.parse(readFileSync(new URL('../vectors/wire.json', import.meta.url), 'utf8')) as WireVector[]

describe('golden bytes', () => {
  for (const made of wireVectors())
    it(made.name, () => {
      const want = golden.find(({ name }) => name === made.name)
      assert.deepEqual(made, want, `not ${want?.link}; if the format is meant to change: node test/vectors/make-wire.ts`)
    })

  it('are all read', () => {
    const of = (name: string) => new Uint8Array(Buffer.from(golden.find(one => one.name === name)!.hex, 'hex'))
    assert.ok(!isMalformed(charterCodec.decode(of('charter'))))
    for (const name of ['members entry', 'round entry']) assert.ok(!isMalformed(entryCodec.decode(of(name))))
    const { peer } = peerOf('a')
    assert.equal(new TextDecoder().decode(of('peer a')), peer)
    assert.equal(verifyPeerSignature(peer, of('charter'), peerOf('a').sign(of('charter'))), true)
  })
})
