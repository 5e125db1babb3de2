/** What a node makes of what it is told: on the consensus stream, on its topic, and of receipts. */
import assert from 'node:assert/strict'
import type { FederationEvent } from '../../src/federation/federation.ts'
import type { ConsensusMessage } from '../../src/federation/consensus-state.ts'
import type { Entry, Update } from '../../src/federation/entry.ts'
import { Evidence } from '../../src/federation/evidence.ts'
import { initialFederation } from '../../src/federation/federation-start.ts'
import { signedProofs } from '../../src/node/evidence.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Incoming } from '../../src/node/incoming.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { topicCodec } from '../../src/wire/messages.ts'
import { updateCodec } from '../../src/wire/records.ts'
import { acceptBytes } from '../../src/wire/signature.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

describe('a receipt', () => {
  it('is believed of peers of the roster alone, and noted once, however often it is given', () => {
    const builder = new LogBuilder().admit('a', 'b')
    const update = builder.update('b')
    const records: { aggregator: string; verdict: string }[] = []
    const events: FederationEvent[] = []
    const node = {
      id: builder.id,
      state: { roster: builder.roster, participation: { phase: 'announced', link: 'mine', update, accepted: false } },
      options: { charter: builder.charter, services: { records: { append: (one: never) => void records.push(one) } } },
      dispatch: (event: FederationEvent) => void events.push(event)
    }
    const incoming = new Incoming(node as unknown as FederationCore, {} as never)
    const [aggregator, stranger] = [peerOf('a').peer, peerOf('mallory').peer]
    for (let times = 0; times < 100; times++) {
      incoming.onReceipt(stranger, 'mine', 'accepted')
      incoming.onReceipt(aggregator, 'another', 'accepted')
      incoming.onReceipt(aggregator, 'mine', 'accepted')
      incoming.onReceipt(aggregator, 'mine', `FAULT_${times}`)
    }
    assert.deepEqual(
      records.map(one => [one.aggregator, one.verdict]),
      [
        [aggregator, 'accepted'],
        [aggregator, 'FAULT_0']
      ]
    )
    assert.equal(events.length, 200)
  })
})

describe('an update', () => {
  it('has a place here if a round may count it: whoever makes others up, for whomever, pushes nothing out', () => {
    const builder = new LogBuilder().admit('a', 'b')
    const [a, b, mallory] = [peerOf('a'), peerOf('b'), peerOf('mallory')]
    const kept: string[] = []
    const events: FederationEvent[] = []
    const sketches = new Uint8Array(4)
    const start = { id: builder.id, charter: builder.charter, self: b.peer, rank: 0 }
    const persisted = { term: 0, votedFor: null, accepted: null }
    const node = {
      id: builder.id,
      state: { ...initialFederation({ ...start, entries: [], persisted }), roster: builder.roster },
      environment: { linkOf, sketchBytes: sketches.length, roundTokens: 1000 },
      options: { charter: builder.charter },
      keepUpdate: (link: string) => void kept.push(link),
      dispatch: (event: FederationEvent) => void events.push(event)
    } as unknown as FederationCore
    const incoming = new Incoming(node, { evidence: { seeUpdate: () => {} } } as never)
    const told = (signer: typeof a, facts: Partial<Update>) => {
      const record = updateCodec.encode(builder.update(signer.name, { sketches, ...facts }))
      const signed = { record, by: signer.peer, signature: signer.signIn('update', record) }
      incoming.takeUpdate(a.peer, { kind: 'update', signed })
      return linkOf(record)
    }
    const good = told(a, {})
    const early = told(b, { base: linkOf(new Uint8Array()), round: 2 })
    told(mallory, {})
    told(mallory, { member: a.peer })
    told(a, { sketches: new Uint8Array(50_000) })
    assert.deepEqual([kept, events.length], [[good, early], 5])
  })
})

describe('what others say in a federation', () => {
  const builder = new LogBuilder().admit('a', 'b')
  const [a, mallory] = [peerOf('a'), peerOf('mallory')]

  function listener() {
    const events: FederationEvent[] = []
    const faults: string[] = []
    const state = { id: builder.id, self: peerOf('b').peer, roster: builder.roster }
    const emit = ({ code }: { code: string }) => void faults.push(code)
    const node = {
      id: builder.id,
      state,
      options: { charter: builder.charter, services: { events: { emit } } },
      seen: () => {},
      dispatch: (event: FederationEvent) => void events.push(event)
    } as unknown as FederationCore
    const evidence = new Evidence({
      state: node.state,
      speakers: () => new Set([a.peer, peerOf('b').peer]),
      ...signedProofs(() => builder.id),
      say: () => {},
      accuse: () => {},
      fault: () => {}
    })
    return { incoming: new Incoming(node, { evidence } as never), events, faults }
  }

  it('goes no further with a wrong signature: a certificate made of it would be nobody’s (I1)', () => {
    const entry = builder.membersEntry({})
    const [link, other] = [linkOf(new Uint8Array(1)), linkOf(new Uint8Array(2))]
    const { index } = entry
    const good = a.sign(acceptBytes(builder.id, index, 3, link))
    const messages = (signature: Uint8Array): ConsensusMessage<Entry>[] => [
      { type: 'accept', term: 3, index, link, signature },
      { type: 'propose', term: 3, link, entry, signature }
    ]
    const { incoming, events, faults } = listener()
    for (const message of messages(good)) incoming.onConsensus(a.peer, { federation: builder.id, message })
    assert.deepEqual([events.length, faults], [2, []])
    const wrong = [
      a.sign(acceptBytes(builder.id, index, 3, other)),
      mallory.sign(acceptBytes(builder.id, index, 3, link)),
      good.slice(1)
    ]
    for (const message of wrong.flatMap(messages)) incoming.onConsensus(a.peer, { federation: builder.id, message })
    assert.deepEqual([events.length, faults], [2, Array(6).fill('BAD_ACCEPTANCE')])
    incoming.onConsensus(a.peer, { federation: builder.id, message: { type: 'recall' } })
    assert.equal(events.length, 3)
  })

  it('is passed on if it is well formed and of somebody in the roster', () => {
    const presence = { index: 1, term: 1, aggregator: null, addresses: [], phase: 'idle', starting: false, strength: 1 }
    const bytes = topicCodec.encode({ kind: 'presence', ...presence })
    const { incoming, faults } = listener()
    const verdicts = [incoming.validate(a.peer, bytes), incoming.validate(mallory.peer, bytes)]
    assert.deepEqual([...verdicts, faults], ['accept', 'ignore', []])
    assert.deepEqual([incoming.validate(a.peer, bytes.slice(1)), faults], ['reject', ['MALFORMED']])
  })
})
