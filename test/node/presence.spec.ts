/** Whom a node remembers to have heard. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FederationEvent } from '../../src/federation/federation.ts'
import { withPeer } from '../../src/federation/requests.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Presence } from '../../src/node/presence.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

/** Of `a` in a federation with `b`, the `member`. */
function presenceOf() {
  const builder = new LogBuilder({ timings: { presenceMs: 100 } }).admit('a', 'b')
  const { roster, charter } = builder
  const [self, member] = [peerOf('a').peer, peerOf('b').peer]
  const consensus = { commitIndex: 3, term: 1, aggregator: self, rank: 0 }
  const state = {
    self,
    roster,
    consensus,
    participation: { phase: 'away' },
    present: new Set<string>(),
    away: new Set<string>()
  }
  const events: FederationEvent[] = []
  // What is asked of a node, and no more.
  const node = {
    self,
    state,
    path: 'prose',
    options: { charter, services: { host: { addresses: () => [] }, events: { emit: () => undefined } } },
    say: () => undefined,
    dispatch: (event: FederationEvent) => {
      events.push(event)
      if (event.type === 'presence') Object.assign(state, { present: withPeer(state.present, event.peer, event.present) })
    }
  }
  const heardAtMs = new Map<string, number>()
  const presence = new Presence(node as unknown as FederationCore, heardAtMs)
  return { presence, heardAtMs, events, state, member }
}

describe('who was heard', () => {
  it('is remembered for as long as it is in the roster, or speaks: strangers are forgotten', async () => {
    const { presence, heardAtMs, state, member } = presenceOf()
    presence.seen(member)
    for (let place = 0; place < 1_000; place++) presence.seen(`stranger ${place}`)
    assert.equal(heardAtMs.size, 1_001)
    await sleep(600)
    presence.seen('another stranger')
    presence.tick(true)
    assert.deepEqual([...heardAtMs.keys()], [member, 'another stranger'])
    assert.deepEqual([...state.present], ['another stranger'])
  })
  it('is one that sends a blob, too, for a while: what it says waits behind its bytes', () => {
    const { presence, events, state, member } = presenceOf()
    const alive: FederationEvent = { type: 'consensus', event: { type: 'alive', peer: member } }
    presence.alive(member)
    assert.deepEqual([events, [...state.present]], [[], []], 'it has said nothing yet')
    presence.seen(member)
    presence.alive(member)
    assert.deepEqual([events.splice(0).at(-1), [...state.present]], [alive, [member]])
    const now = performance.now.bind(performance)
    try {
      performance.now = () => now() + 29_000
      presence.alive(member)
      performance.now = () => now() + 31_000
      presence.alive(member)
    } finally {
      performance.now = now
    }
    assert.deepEqual(events, [alive])
  })
})
