/** What is on a node's disk when it has said that it accepts a round: all that others need to believe that round, too; and what follows a round that it has stored. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Certificate, Entry, RoundEntry } from '../../src/federation/entry.ts'
import { CertifiedCar } from '../../src/node/certified-car.ts'
import { performEffect } from '../../src/node/effects.ts'
import { EventLog } from '../../src/node/events.ts'
import { type FederationCore, nothingMeasured } from '../../src/node/federation-core.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { readConsensus } from '../../src/node/store.ts'
import { type ConsensusMessage, firstMemory } from '../../src/federation/consensus-state.ts'
import { createLayout } from '../../src/model/layout.ts'
import { isMalformed, linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import { consensusCodec, type ConsensusEnvelope, topicCodec, type TopicMessage } from '../../src/wire/messages.ts'
import { certificateCodec, entryCodec } from '../../src/wire/records.ts'
import { temporaryFolder } from '../temporary.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

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

describe('a deputy', () => {
  it('keeps few updates of an aggregator in a round, however many it makes: each may be as large as a model', async () => {
    const builder = new LogBuilder()
    const pulled: string[] = []
    const exchange = { pull: async (blob: string) => pulled.push(blob) }
    const node = { state: { head: { round: 0 } }, options: { services: { exchange } } }
    const hold = (name: string) => {
      const update = builder.update('a', { blob: linkOf(new TextEncoder().encode(name)) })
      return performEffect(node as unknown as FederationCore, { do: 'hold', update })
    }
    for (let nth = 0; nth < 20; nth++) await hold(`${nth}`)
    assert.equal(pulled.length, 4)
    await hold('0')
    assert.equal(pulled.length, 5, 'it is announced again as long as it may be wanted')
    node.state.head.round++
    await hold('of the next round')
    assert.equal(pulled.length, 6)
  })
})

describe('a signature', () => {
  it('is on disk before anybody has it, another or the node itself (I2)', async () => {
    const [one, entry] = [linkOf(new Uint8Array(1)), linkOf(new Uint8Array(2))]
    const order: string[] = []
    const node = {
      id: one,
      self: 'a',
      options: {
        services: {
          records: { append: (record: object) => order.push(`noted ${JSON.stringify(record)}`) },
          host: { sign: (bytes: Uint8Array) => order.push('signed') && bytes }
        }
      },
      dispatch: () => order.push('counted'),
      send: (to: string) => order.push(`sent to ${to}`),
      accepted: (_: object, proposer: string) => order.push(`told of ${proposer}`)
    }
    const noted = `noted ${JSON.stringify({ record: 'accept', federation: one, index: 3, term: 2, entry })}`
    for (const [to, after] of [
      ['a', ['counted']],
      ['b', ['sent to b', 'told of b']]
    ] as const) {
      await performEffect(node as unknown as FederationCore, { do: 'sign', to, index: 3, term: 2, link: entry })
      assert.deepEqual(order.splice(0), [noted, 'signed', ...after])
    }
  })

  it('goes out with whom it was given to besides, where there are others, or where that is not known', async () => {
    const [one, entry] = [linkOf(new Uint8Array(1)), linkOf(new Uint8Array(2))]
    const sent: ConsensusMessage<Entry>[] = []
    const node = {
      id: one,
      self: peerOf('a').peer,
      options: { services: { records: { append: () => {} }, host: { sign: () => new Uint8Array(64) } } },
      send: (_: string, envelope: ConsensusEnvelope) => {
        const read = consensusCodec.decode(consensusCodec.encode(envelope))
        assert.ok(!isMalformed(read))
        sent.push(read.message)
      },
      accepted: () => {}
    } as unknown as FederationCore
    const others = [peerOf('c').peer]
    const sign = { do: 'sign', to: peerOf('b').peer, index: 3, term: 2, link: entry } as const
    for (const signedFor of [undefined, null, others]) await performEffect(node, { ...sign, signedFor })
    assert.deepEqual(
      sent.map(message => ('signedFor' in message ? message.signedFor : 'left out')),
      ['left out', null, others]
    )
  })
})

describe('a certified entry', () => {
  it('is said on the topic if it fits there, with all that is around it: whoever says more is listened to no longer', async () => {
    const builder = new LogBuilder().admit('a')
    const certificate = certificateCodec.decode(builder.entries[0]!.certificate) as Certificate
    const said: number[] = []
    const say = (message: TopicMessage) => said.push(topicCodec.encode(message).length)
    const node = { options: { services: {} }, say } as unknown as FederationCore
    const { peer } = peerOf('b')
    for (let proofBytes = 200; proofBytes < 1_000; proofBytes++) {
      const left = Array(13).fill({ member: peer, reason: 'left', proof: new Uint8Array(proofBytes) })
      const entry = builder.membersEntry({ absent: Array(1_000).fill(peer), left })
      await performEffect(node, { do: 'publish', link: '', entry, certificate })
    }
    assert.ok(said.length > 100 && said.length < 700, `${said.length} were said`)
    assert.ok(Math.max(...said) <= limits.gossipBytesMax)
  })
})

describe('a certified round, stored', () => {
  it('has a node look for blobs that it needs no more, unless the next one is on its way', async () => {
    const builder = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b').addRound('a', 'b')
    const folder = new NodeFolder(temporaryFolder())
    const { car } = await CertifiedCar.open(folder.certifiedCar)
    const services = { folder, car, events: new EventLog(), exchange: { bytes: { in: 0, out: 77 } } }
    const looks: number[] = []
    const measured = nothingMeasured(0)
    const { charter, roster, id } = builder
    const layout = createLayout(charter.model, charter.algorithm)
    for (const { place, isBehind } of [
      { place: -2, isBehind: true },
      { place: -1, isBehind: false }
    ]) {
      const bytes = builder.entries.at(place)!
      const entry = entryCodec.decode(bytes.entry) as RoundEntry
      const options = { services, charter, children: () => [], onRound: () => void looks.push(entry.round) }
      // What the effect asks of a node, and no more.
      const facts = { id, self: 'd', path: 'prose', layout, log: car.newLog(), signedUpdates: builder.updates }
      const state = { id, charter, roster }
      const certificate = certificateCodec.decode(bytes.certificate) as Certificate
      const effect = { do: 'store', link: linkOf(bytes.entry), entry, certificate } as const
      const node = { ...facts, isBehind, measured, options, state } as unknown as FederationCore
      await performEffect(node, effect)
      assert.equal(node.measured.bytesOutBefore, 77, 'the next round is measured from here on')
    }
    car.close()
    assert.deepEqual(looks, [2])
  })
})
