/** What a node makes of what it is told: on the consensus stream, on its topic, and of receipts. */
import assert from 'node:assert/strict'
import type { FederationEvent } from '../../src/federation/federation.ts'
import type { ConsensusMessage } from '../../src/federation/consensus-state.ts'
import type { Entry, Update } from '../../src/federation/entry.ts'
import { Evidence } from '../../src/federation/evidence.ts'
import { initialFederation } from '../../src/federation/federation-start.ts'
import type { Leads } from '../../src/federation/who-leads.ts'
import { signedProofs } from '../../src/node/evidence.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Incoming } from '../../src/node/incoming.ts'
import { isMalformed, linkOf } from '../../src/wire/codec.ts'
import { signedCodec, topicCodec } from '../../src/wire/messages.ts'
import { entryCodec, updateCodec } from '../../src/wire/records.ts'
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
    const done: string[] = []
    const log = builder.entries.map(({ entry }) => ({ link: linkOf(entry), entry: entryCodec.decode(entry) as Entry }))
    const { id, charter } = builder
    const persisted = { term: 0, votedFor: null, accepted: null }
    const state = initialFederation({ id, charter, self: peerOf('b').peer, rank: 0, entries: log, persisted })
    const emit = ({ code }: { code: string }) => void faults.push(code)
    const node = {
      id: builder.id,
      state,
      environment: { linkOf: (entry: Entry) => linkOf(entryCodec.encode(entry)), sketchBytes: 0, roundTokens: 1000 },
      options: { charter, services: { events: { emit }, host: { learn: async () => done.push('learned') } } },
      seen: () => {},
      keepUpdate: (link: string) => done.push(`kept ${link}`),
      dispatch: (event: FederationEvent) => void events.push(event)
    } as unknown as FederationCore
    const evidence = new Evidence({
      state: node.state,
      speakers: () => new Set([a.peer, peerOf('b').peer]),
      ...signedProofs(() => builder.id),
      say: () => {},
      accuse: () => {},
      fault: (peer, code) => void faults.push(`${code} of ${peer}`)
    })
    const parts = {
      evidence,
      sync: { catchUp: async (from: string) => done.push(`catches up from ${from}`), onHead: () => done.push('head') },
      presence: {
        strengthOf: (_: string, strength: number) => done.push(`strength ${strength}`),
        leads: (_: string, { aggregator, term }: Leads) => done.push(`${aggregator} leads in term ${term}`)
      },
      onContribution: () => done.push('contribution')
    }
    return { incoming: new Incoming(node, parts as never), node, events, faults, done }
  }

  it('goes no further with a wrong signature: a certificate made of it would be nobody’s (I1)', () => {
    const entry = builder.membersEntry({})
    const [link, other] = [linkOf(entryCodec.encode(entry)), linkOf(new Uint8Array(2))]
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

  it('goes no further where an entry is proposed by another’s link: who has accepted that one would take it for that', () => {
    const [entry, another] = [builder.membersEntry({}), builder.membersEntry({ absent: [a.peer] })]
    const link = linkOf(entryCodec.encode(entry))
    const signature = a.sign(acceptBytes(builder.id, entry.index, 3, link))
    const { incoming, events, faults } = listener()
    const propose = (proposed: Entry) =>
      incoming.onConsensus(a.peer, {
        federation: builder.id,
        message: { type: 'propose', term: 3, link, entry: proposed, signature }
      })
    propose(another)
    assert.deepEqual([events.length, faults], [0, ['BAD_ACCEPTANCE']])
    propose(entry)
    assert.equal(events.length, 1)
  })

  it('is passed on if it is well formed and of somebody in the roster', () => {
    const presence = { index: 1, term: 1, aggregator: null, addresses: [], phase: 'idle', starting: false, strength: 1 }
    const bytes = topicCodec.encode({ kind: 'presence', ...presence })
    const { incoming, faults } = listener()
    const verdicts = [incoming.validate(a.peer, bytes), incoming.validate(mallory.peer, bytes)]
    assert.deepEqual([...verdicts, faults], ['accept', 'ignore', []])
    assert.deepEqual([incoming.validate(a.peer, bytes.slice(1)), faults], ['reject', ['MALFORMED']])
  })

  it('in a presence: who leads, as it says, how strong it is, and that there is more to fetch', () => {
    const { incoming, node, done } = listener()
    const { commitIndex } = node.state.consensus
    const say = (aggregator: string | null, index: number) => {
      const presence = { index, term: 3, aggregator, addresses: [], phase: 'idle', starting: false, strength: 7 }
      incoming.onTopic(a.peer, topicCodec.encode({ kind: 'presence', ...presence }))
      return done.splice(0)
    }
    assert.deepEqual(say(a.peer, commitIndex), ['learned', 'strength 7', `${a.peer} leads in term 3`])
    assert.deepEqual(say(null, commitIndex + 1).slice(2), ['null leads in term 3', `catches up from ${a.peer}`])
  })

  it('in a presence: whether it remembers how it voted, when that is news', () => {
    const { incoming, node, events } = listener()
    const say = (starting: boolean) => {
      const presence = { index: 0, term: 3, aggregator: null, addresses: [], phase: 'idle', starting, strength: 7 }
      incoming.onTopic(a.peer, topicCodec.encode({ kind: 'presence', ...presence }))
      return events.splice(0)
    }
    assert.deepEqual([say(true), say(false)], [[], [{ type: 'presence', peer: a.peer, present: true, remembers: true }]])
    Object.assign(node.state, { remembering: new Set([a.peer]) })
    assert.deepEqual([say(false), say(true)], [[], [{ type: 'presence', peer: a.peer, present: true, remembers: false }]])
  })

  it('of updates is kept, held to what is known of their maker, and counted, if it is of this federation and rightly signed', () => {
    const { incoming, node, events, faults, done } = listener()
    const say = (facts: object, edit = (bytes: Uint8Array) => bytes) => {
      const link = builder.signUpdate(builder.update('a', facts))
      const signed = signedCodec.decode(edit(builder.updates.get(link)!))
      assert.ok(!isMalformed(signed))
      incoming.onTopic(a.peer, topicCodec.encode({ kind: 'update', signed }))
      return link
    }
    const link = say({})
    assert.deepEqual([done, events.map(({ type }) => type), faults], [[`kept ${link}`], ['update'], []])
    say({ federation: linkOf(new Uint8Array(1)) })
    say({}, bytes => bytes.with(bytes.length - 1, bytes.at(-1)! ^ 1))
    assert.deepEqual([done.length, events.length, faults], [1, 1, ['BAD_UPDATE', 'BAD_UPDATE']])
    Object.assign(node.state, { known: new Map([[a.peer, { link, update: builder.update('a') }]]) })
    say({})
    assert.equal(faults.length, 2)
    say({ weight: 64 })
    assert.equal(faults.at(-1), `TWO_UPDATES of ${a.peer}`)
  })
})
