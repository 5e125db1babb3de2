/** What an aggregator brings here for a round: which updates it takes, and what it measures of their way. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FederationEvent } from '../../src/federation/federation.ts'
import { type FederationCore, nothingMeasured } from '../../src/node/federation-core.ts'
import { pull } from '../../src/node/round-effects.ts'
import { stateOf } from '../federation/states.ts'
import { LogBuilder } from '../wire/peers.ts'

const builder = new LogBuilder().admit('a', 'b', 'c')

/** @param ways - how each member's blob comes: its bytes, after so many milliseconds; or why it does not. */
function aggregator(ways: Record<string, { bytes: number; ms: number } | Error>, fault: string | null = null) {
  const events: FederationEvent[] = []
  const updates = Object.keys(ways).map(name => builder.update(name))
  const services = {
    exchange: {
      pull: async (blob: string) => {
        const way = ways[Object.keys(ways)[updates.findIndex(update => update.blob === blob)]!]!
        if (way instanceof Error) throw way
        await sleep(way.ms)
        return way.bytes
      }
    },
    blobs: { path: (blob: string) => blob },
    mixer: { inspect: async (_layout: unknown, path: string) => ({ fault, keysDistance: path.length }) },
    folder: { model: (name: string) => name }
  }
  const node = {
    measured: nothingMeasured(0),
    state: stateOf('a', ['a']),
    options: { services, charter: builder.charter, sibling: () => null },
    dispatch: (event: FederationEvent) => events.push(event)
  }
  const pullAll = () =>
    Promise.all(updates.map((update, place) => pull(node as unknown as FederationCore, `link ${place}`, update)))
  return { node, updates, events, pullAll }
}

describe('updates on their way to an aggregator', () => {
  it('are all measured, however many come at once', async () => {
    const { node, pullAll, events, updates } = aggregator({
      a: { bytes: 1_000, ms: 30 },
      b: { bytes: 200, ms: 10 },
      c: { bytes: 30, ms: 20 }
    })
    await pullAll()
    assert.equal(node.measured.bytesIn, 1_230)
    assert.ok(node.measured.transferSeconds >= 0.055, `${node.measured.transferSeconds} s`)
    assert.deepEqual(
      events.map(event => (event.type === 'pulled' ? [event.link, event.keysDistance] : [])),
      ['link 1', 'link 2', 'link 0'].map(link => [link, updates[0]!.blob.length])
    )
  })

  it('are told by name where nobody gives them, and where they are no model', async () => {
    const away = aggregator({ a: new Error('nobody has it') })
    await away.pullAll()
    const spoiled = aggregator({ a: { bytes: 1, ms: 0 } }, 'a number is none')
    await spoiled.pullAll()
    assert.deepEqual(
      [...away.events, ...spoiled.events].map(event => (event.type === 'unpulled' ? event.fault : event.type)),
      [
        { code: 'NOT_FOUND', verdict: 'ignore', detail: 'nobody has it' },
        { code: 'DAMAGED', verdict: 'reject', detail: 'a number is none' }
      ]
    )
  })
})
