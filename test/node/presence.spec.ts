/** Whom a node takes for present: who was heard, whose connection broke, who is silent; and what it says of itself. */
import assert from 'node:assert/strict'
import type { FederationEvent } from '../../src/federation/federation.ts'
import { withPeer } from '../../src/federation/requests.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Presence } from '../../src/node/presence.ts'
import type { TopicMessage } from '../../src/wire/messages.ts'
import { fakeClock } from '../fake-clock.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

const presenceMs = 100
const builder = new LogBuilder({ timings: { presenceMs } }).admit('a', 'b', 'c')
const [self, member, other] = ['a', 'b', 'c'].map(name => peerOf(name).peer) as [string, string, string]

/** @param as - who it is. */
function nodeOf(as = self) {
  const consensus = { commitIndex: 3, term: 7, aggregator: member, rank: 0, nonce: null as number | null }
  const state = {
    self: as,
    roster: builder.roster,
    consensus,
    participation: { phase: 'away' },
    present: new Set<string>(),
    away: new Set<string>()
  }
  const events: FederationEvent[] = []
  const said: TopicMessage[] = []
  const told: string[] = []
  const reach = { dial: async (): Promise<void> => {}, connected: false }
  const services = {
    host: { addresses: () => ['/ip4/127.0.0.1/tcp/1'], dial: () => reach.dial(), connected: () => reach.connected },
    events: { emit: ({ name, reason }: { name: string; reason: string }) => told.push(`${name}: ${reason}`) }
  }
  // What is asked of a node, and no more.
  const node = {
    self: as,
    state,
    stopped: false,
    path: 'prose',
    heard: { aggregator: member as string | null, term: 7 },
    options: { charter: builder.charter, services },
    say: (message: TopicMessage) => said.push(message),
    dispatch: (event: FederationEvent) => {
      events.push(event)
      if (event.type === 'presence') Object.assign(state, { present: withPeer(state.present, event.peer, event.present) })
      if (event.type === 'away') state.away.add(event.peer)
    }
  }
  const heardAtMs = new Map<string, number>()
  const presence = new Presence(node as unknown as FederationCore, heardAtMs)
  return { node, state, presence, heardAtMs, events, said, told, reach }
}

const cannot = async (): Promise<void> => {
  throw new Error('refused')
}

describe('who is there', () => {
  const clock = fakeClock()

  it('is who was heard, until nothing is heard for four presences; nobody hears itself', () => {
    const { presence, state, told } = nodeOf()
    for (const peer of [self, member, other]) presence.seen(peer)
    assert.deepEqual([...state.present], [member, other])
    clock.nowMs += 300
    presence.seen(other)
    presence.seen(member, false)
    clock.nowMs += 101
    presence.tick()
    assert.deepEqual([[...state.present], told], [[other], [`b: nothing heard of ${member}`]])
    presence.seen(member)
    assert.deepEqual([...state.present], [other, member])
  })

  it('is remembered for as long as it is in the roster, or speaks: strangers are forgotten', async () => {
    const { presence, state, heardAtMs, reach } = nodeOf()
    presence.seen(member)
    for (let place = 0; place < 1_000; place++) presence.seen(`stranger ${place}`)
    assert.equal(heardAtMs.size, 1_001)
    // Most of them hang up before they would have been silent for long.
    reach.dial = cannot
    for (let place = 0; place < 500; place++) await presence.lost(`stranger ${place}`)
    assert.equal(heardAtMs.size, 501)
    clock.nowMs += 600
    presence.seen('another stranger')
    presence.tick()
    assert.deepEqual([...heardAtMs.keys()], [member, 'another stranger'])
    assert.deepEqual([...state.present], ['another stranger'])
  })

  it('is no more whoever cannot be reached again when its connection broke, which is told once', async () => {
    const { presence, node, state, events, told, reach } = nodeOf()
    for (const peer of [member, other]) presence.seen(peer)
    await presence.lost(other)
    assert.deepEqual([...state.present], [member, other])
    assert.deepEqual(events.at(-1), { type: 'consensus', event: { type: 'lost', peer: other } })
    assert.equal(node.heard.aggregator, member)
    reach.dial = cannot
    reach.connected = true
    await presence.lost(other)
    assert.deepEqual([...state.present, told.length], [member, other, 0], 'it came by itself')
    reach.connected = false
    await presence.lost(other)
    reach.dial = async () => assert.fail('who is not there is not dialed')
    await presence.lost(other)
    assert.deepEqual([[...state.present], told], [[member], [`c: ${other} cannot be reached any more`]])
    // To dial takes longer than its silence.
    reach.dial = async () => {
      clock.nowMs += 5_000
      presence.tick()
      return cannot()
    }
    await presence.lost(member)
    assert.deepEqual([[...state.present], told.slice(1)], [[], [`b: nothing heard of ${member}`]])
    assert.deepEqual(node.heard, { aggregator: null, term: 7 }, 'who led may lead no more')
  })

  it('is away after thirty presences in which it was not heard, itself never', () => {
    const { presence, events } = nodeOf()
    const away = () => events.flatMap(event => (event.type === 'away' ? event.peer : []))
    presence.tick()
    clock.nowMs += 30 * presenceMs
    presence.seen(other)
    presence.tick()
    assert.deepEqual(away(), [])
    clock.nowMs += 1
    for (let time = 0; time < 3; time++) presence.tick()
    assert.deepEqual(away(), [member])
  })

  it('says of itself where it is and how far, if it is in the roster; whether it has a vote to give, and how strong it is beside the other voters', () => {
    const { presence, said, events, state } = nodeOf()
    presence.strengthOf(member, 1e6)
    presence.strengthOf(other, 0.1)
    state.consensus.nonce = 7
    presence.tick()
    state.consensus.nonce = null
    presence.tick()
    assert.equal(said.length, 2)
    const [first, second] = said as Extract<TopicMessage, { kind: 'presence' }>[]
    const { strength } = first!
    assert.ok(strength > 0)
    assert.deepEqual(first, {
      kind: 'presence',
      index: 3,
      term: 7,
      aggregator: member,
      addresses: ['/ip4/127.0.0.1/tcp/1'],
      phase: 'away',
      starting: true,
      strength
    })
    assert.deepEqual(second, { ...first, starting: false })
    const ranks = events.flatMap(event => (event.type === 'consensus' && event.event.type === 'ranked' ? event.event.rank : []))
    assert.deepEqual(ranks, [0.5, 0.5], 'one of the other voters is stronger')
    const stranger = nodeOf('stranger')
    stranger.presence.tick()
    assert.deepEqual(stranger.said, [])
    stranger.presence.seen(member)
    clock.nowMs += 1_000
    stranger.presence.tick()
    assert.deepEqual(stranger.told, [], 'whoever looks on tells of nobody')
  })
  it('is one that sends a blob, too, for half a minute: what it says waits behind its bytes', () => {
    const { presence, state, events } = nodeOf()
    const alive: FederationEvent = { type: 'consensus', event: { type: 'alive', peer: member } }
    presence.alive(member)
    assert.deepEqual([events, [...state.present]], [[], []], 'it has said nothing yet')
    presence.seen(member)
    for (const passedMs of [20_000, 30_000, 30_001]) {
      clock.nowMs = 1_000 + passedMs
      presence.alive(member)
      presence.tick()
    }
    assert.deepEqual(
      [events.filter(event => event.type === 'consensus' && event.event.type === 'alive'), [...state.present]],
      [[alive, alive], [member]]
    )
    clock.nowMs += 4 * presenceMs
    presence.alive(member)
    presence.tick()
    assert.deepEqual([...state.present], [])
  })
})
