/** What is on a node's disk when it has said that it accepts a round: all that others need to believe that round, too. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { CertifiedCar } from '../../src/node/certified-car.ts'
import { performEffect } from '../../src/node/effects.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { readConsensus } from '../../src/node/store.ts'
import { firstMemory } from '../../src/federation/consensus-state.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { temporaryFolder } from '../temporary.ts'
import { LogBuilder } from '../wire/peers.ts'

const noDraw = (): number => {
  throw new Error('no number is to be drawn')
}

describe('a vote for a round, on disk', () => {
  it('has the signed updates beside it, once, though no certificate may ever come', async () => {
    const builder = new LogBuilder().admit('a', 'b', 'c')
    const entry = builder.roundEntry(['a', 'b'])
    const folder = new NodeFolder(temporaryFolder())
    mkdirSync(dirname(folder.consensus(builder.id)), { recursive: true })
    const { car } = await CertifiedCar.open(folder.certifiedCar)
    const services = { folder, car }
    // What the effect asks of a node, and no more.
    const node = { id: builder.id, signedUpdates: builder.updates, options: { services } } as unknown as FederationCore
    const accepted = { index: entry.index, term: 1, link: linkOf(entryCodec.encode(entry)), entry }
    for (const term of [1, 2]) {
      const effect = { do: 'persist', ...firstMemory, term, accepted: { ...accepted, term } } as const
      await performEffect(node, effect)
    }
    car.close()
    const after = await CertifiedCar.open(folder.certifiedCar)
    after.car.close()
    assert.equal(readConsensus(folder.consensus(builder.id), noDraw).accepted?.link, accepted.link)
    assert.deepEqual(after.archive.updates.links().sort(), entry.inputs.map(({ update }) => update).sort())
    assert.equal(after.archive.logs.size, 0)
  })
})
