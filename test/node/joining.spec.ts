/** Whom a node asks for a place in a federation, what it gives that is asked, and when it goes that wants to leave. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Entry } from '../../src/federation/entry.ts'
import type { FederationEvent } from '../../src/federation/federation.ts'
import { initialFederation } from '../../src/federation/federation-start.ts'
import { Random } from '../../src/math/random.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Joining } from '../../src/node/joining.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { enrollRecord, leaveRecord } from '../../src/wire/member-proofs.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { testCharter } from '../federation/charters.ts'
import { stateOf } from '../federation/states.ts'
import { fakeClock } from '../fake-clock.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

const noSync = { catchUp: async () => undefined, askBeside: async () => undefined }

describe('a node that asks for a place', () => {
  it('asks anybody when its aggregator does not answer, and then its aggregator again', async () => {
    const start = { self: 'self', entries: [], persisted: { term: 1, votedFor: null, accepted: null }, rank: 0, nonce: 7 }
    const state = initialFederation({ ...start, id: 'bafyF', charter: testCharter() })
    const asked: string[] = []
    const node = {
      id: 'bafyF',
      self: 'self',
      topic: 'topic',
      leaving: false,
      // It has heard the aggregator's heartbeats, and none of what was certified; without a vote it is told by no election that it is gone.
      state: { ...state, consensus: { ...state.consensus, aggregator: 'gone' } },
      heard: { aggregator: null, term: 0 },
      options: {
        as: 'organization',
        name: 'Self',
        children: () => [],
        services: { gossip: { subscribers: () => ['there'] }, host: { sign: () => new Uint8Array(64) } }
      },
      ask: async (peer: string) => {
        asked.push(peer)
        return peer === 'gone' ? null : { kind: 'join', taken: false, aggregator: null }
      }
    }
    const caughtUp: string[] = []
    const joining = new Joining(node as unknown as FederationCore, new Random('joining'), {
      ...noSync,
      catchUp: async from => void caughtUp.push(from)
    })
    for (let time = 0; time < 3; time++) {
      await joining.join()
      await sleep(420)
    }
    assert.deepEqual(asked, ['gone', 'there', 'gone'])
    assert.deepEqual(caughtUp, asked)
  })
})

describe('a node that was alone when its folder was copied', () => {
  it('asks whoever follows the federation, one beside another', async () => {
    const start = {
      self: 'self',
      entries: [],
      persisted: { term: 3, votedFor: 'self', accepted: null, fromDisk: true },
      rank: 0,
      nonce: null
    }
    const charter = testCharter({ founders: ['self'] })
    const state = initialFederation({ ...start, id: 'bafyF', charter })
    const node = {
      id: 'bafyF',
      self: 'self',
      topic: 'topic',
      leaving: false,
      state,
      heard: { aggregator: null, term: 0 },
      options: {
        as: 'organization',
        name: 'Self',
        charter,
        children: () => [],
        services: { gossip: { subscribers: () => ['mute', 'newcomer', 'follower'] }, host: { sign: () => new Uint8Array(64) } }
      },
      ask: async () => null
    }
    const asked: string[] = []
    const askBeside = (peer: string) => {
      asked.push(peer)
      return new Promise<void>(() => undefined)
    }
    const joining = new Joining(node as unknown as FederationCore, new Random('company'), { ...noSync, askBeside })
    for (let time = 0; time < 9; time++) {
      await joining.join()
      await sleep(420)
    }
    assert.deepEqual(new Set(asked), new Set(['mute', 'newcomer', 'follower']))
    node.state = { ...state, consensus: { ...state.consensus, voters: ['self', 'newcomer'] } }
    await joining.join()
    assert.equal(asked.length, 9, 'it knows its company now')
  })
})

/** Out of a federation in which `voters` stay. */
function leaver(voters: string[], answer: (peer: string) => object | null) {
  const state = stateOf('self', voters, { index: 9 })
  const told: string[] = []
  let gone = 0
  const node = {
    id: 'bafyF',
    self: 'self',
    path: 'world',
    leaving: true,
    state,
    options: {
      onLeft: () => void gone++,
      services: { events: { emit: ({ code, message }: { code: string; message: string }) => told.push(`${code} ${message}`) } }
    },
    leave: () => joining.goIfItMay(),
    ask: async (peer: string) => answer(peer)
  }
  const joining: Joining = new Joining(node as unknown as FederationCore, new Random('leaving'), noSync)
  return { joining, told, gone: () => gone }
}

describe('a node that is let go', () => {
  const clock = fakeClock()
  async function later(joining: Joining, ms: number): Promise<void> {
    clock.nowMs += ms
    for (let time = 0; time < 2; time++) {
      await joining.join()
      await new Promise(resolve => setImmediate(resolve))
    }
  }

  it('stays until the voter that is left shows that it knows, and says that it waits', async () => {
    let headIndex: number | null = null
    const { joining, told, gone } = leaver(['other'], () => (headIndex === null ? null : { kind: 'entries', headIndex }))
    for (const seen of [null, 8]) {
      headIndex = seen
      await later(joining, 20_000)
      await later(joining, 20_000)
      assert.deepEqual([gone(), joining.waitsFor], [0, ['other']])
    }
    assert.match(told.join(), /^LEAVE_UNSEEN world: .*other did not show.*leave bafyF --now$/)
    headIndex = 9
    await later(joining, 1_100)
    await later(joining, 1_100)
    assert.deepEqual([gone(), joining.waitsFor], [1, []])
  })

  it('goes all the same by its operator’s word, not before it has asked, and says what that may cost', async () => {
    const { joining, told, gone } = leaver(['other'], () => null)
    joining.goesUnseen = true
    await later(joining, 100)
    await later(joining, 1_000)
    assert.equal(gone(), 0)
    await later(joining, 6_000)
    assert.deepEqual([gone(), told.length], [1, 2])
    assert.match(told[1]!, /^LEFT_UNSEEN world: .*other.* for good$/)
  })
})

describe('an aggregator that is asked for a place', () => {
  const builder = new LogBuilder().admit('a', 'b')
  const [b, d, mallory] = [peerOf('b'), peerOf('d'), peerOf('mallory')]

  function aggregator(role = 'leader') {
    const events: FederationEvent[] = []
    const faults: string[] = []
    const { id, charter, entries } = builder
    const log = entries.map(({ entry }) => ({ link: linkOf(entry), entry: entryCodec.decode(entry) as Entry }))
    const persisted = { term: 1, votedFor: null, accepted: null }
    const state = initialFederation({ id, charter, self: peerOf('a').peer, entries: log, persisted, rank: 0 })
    const node = {
      id,
      self: peerOf('a').peer,
      path: 'prose',
      heard: { aggregator: b.peer, term: 1 },
      state: { ...state, consensus: { ...state.consensus, role } },
      seen: () => undefined,
      options: {
        services: { events: { emit: ({ peer, detail }: Record<string, string>) => faults.push(`${peer} ${detail}`) } }
      },
      dispatch: (event: FederationEvent) => events.push(event)
    }
    const joining = new Joining(node as unknown as FederationCore, new Random('asked'), noSync)
    return { joining, events, faults }
  }
  const nothing = { member: null, enrolled: null, left: null }
  const wishes = {
    member: d.member(builder.id),
    enrolled: enrollRecord(d.sign, builder.id, d.peer, 5),
    left: leaveRecord(d.sign, builder.id, d.peer, builder.entries.length)
  }

  it('takes what a peer wants for itself, all in one: enrolled first', () => {
    const { joining, events, faults } = aggregator()
    assert.equal((joining.onJoin(d.peer, wishes) as { taken: boolean }).taken, true)
    assert.deepEqual([events.map(({ type }) => type), faults], [['enroll', 'join', 'leave'], []])
  })

  it('takes nothing that a peer wants for another, or that is wrongly signed, and says so', () => {
    const { joining, events, faults } = aggregator()
    const signedByMallory = enrollRecord(mallory.sign, builder.id, d.peer, 5)
    const asked = [
      ...Object.entries(wishes).map(([kind, wish]) => [mallory.peer, { ...nothing, [kind]: wish }] as const),
      [d.peer, { ...nothing, member: { ...wishes.member, name: 'other' } }] as const,
      [d.peer, { ...nothing, enrolled: signedByMallory }] as const,
      [d.peer, { ...nothing, left: { ...wishes.left, proof: b.sign(new Uint8Array(1)) } }] as const
    ]
    for (const [from, wish] of asked)
      assert.deepEqual(joining.onJoin(from, wish), { kind: 'join', taken: false, aggregator: peerOf('a').peer })
    assert.deepEqual([events, faults.length], [[], asked.length])
    assert.deepEqual(faults.slice(0, 3), [
      `${mallory.peer} it asks for another`,
      `${mallory.peer} it speaks for another`,
      `${mallory.peer} it speaks for another`
    ])
  })

  it('that leads no more says who does', () => {
    const { joining, events } = aggregator('follower')
    assert.deepEqual(joining.onJoin(d.peer, wishes), { kind: 'join', taken: false, aggregator: b.peer })
    assert.deepEqual(events, [])
  })
})

describe('a node that waits to be enrolled anew', () => {
  it('says after a minute that most voters do, and what can be done', async () => {
    const nowReally = performance.now
    try {
      const told: string[] = []
      const asked = new Set<string>()
      const node = {
        id: 'bafyF',
        self: 'a',
        path: 'world',
        leaving: false,
        state: stateOf('a', ['a', 'b', 'c'], { nonce: 7 }),
        heard: { aggregator: null, term: 0 },
        ask: async (peer: string) => asked.add(peer) && null,
        options: {
          as: null,
          children: () => [],
          services: {
            gossip: { subscribers: () => [] },
            host: { sign: () => new Uint8Array(64) },
            events: { emit: ({ code, message }: { code: string; message: string }) => told.push(`${code} ${message}`) }
          }
        }
      }
      const joining = new Joining(node as unknown as FederationCore, new Random('enrolling'), noSync)
      const enrolled = { peer: 'b', nonce: 3, signature: new Uint8Array(64) }
      for (const atMs of [1_000, ...Array.from({ length: 40 }, (_, nth) => 30_000 + nth * 1_000)]) {
        performance.now = () => atMs
        joining.onJoin('b', { member: null, enrolled, left: null })
        joining.onJoin('c', { member: null, enrolled, left: null })
        await joining.join()
      }
      assert.deepEqual([told.length, [...asked].sort()], [1, ['b', 'c']])
      assert.match(told[0]!, /^ENROLL_WAITS world: .* 2 of 3 voters wait .*consensus\/ back, or found the federation anew/)
    } finally {
      performance.now = nowReally
    }
  })
})
