/** A node that is behind: what it fetches, and what it leaves alone until it has it. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { type FederationEvent, stepFederation } from '../../src/federation/federation.ts'
import { initialFederation } from '../../src/federation/federation-start.ts'
import type { PeerName } from '../../src/ids.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { LogSync } from '../../src/node/log-sync.ts'
import { apply } from '../../src/node/member-effects.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { LogBuilder } from '../wire/peers.ts'

const headOf = (round: number) => ({ round, link: `round ${round}`, entry: null })

describe('a node that catches up', () => {
  it('applies no round of long ago while newer ones are on their way, and then the newest', async () => {
    const applied: number[] = []
    const organization = { apply: async ({ round }: { round: number }) => void applied.push(round) }
    // What the effect asks of a node, and no more.
    const node = { isBehind: true, organization, options: {}, state: { head: headOf(43) }, dispatch: () => undefined }
    await apply(node as unknown as FederationCore, headOf(43))
    Object.assign(node, { isBehind: false, state: { head: headOf(437) } })
    assert.deepEqual(applied, [])
    for (let waited = 0; applied.length === 0 && waited < 50; waited++) await sleep(100)
    assert.deepEqual(applied, [437])
  })

  it('is behind no longer than it asks, whatever it was told', async () => {
    const node = {
      self: 'a',
      id: 'world',
      stopped: false,
      state: { consensus: { commitIndex: 3 } },
      ask: async () => ({ kind: 'entries', charter: null, entries: [], headIndex: 1e9 })
    }
    const sync: LogSync = new LogSync(node as unknown as FederationCore)
    assert.equal(sync.isBehind, false)
    await sync.catchUp('a liar')
    assert.equal(sync.isBehind, false, 'nobody waits for a log that does not come')
  })

  it('asks each that tells of more in turn: one that is slow, or gives little, holds up nobody else', async () => {
    const builder = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b').addRound('a', 'b')
    const asked: PeerName[] = []
    let catchUp = (_: PeerName) => Promise.resolve()
    const node = {
      self: 'self',
      id: builder.id,
      stopped: false,
      signedUpdates: builder.updates,
      state: initialFederation({
        ...{ id: builder.id, charter: builder.charter, self: 'self', rank: 0, entries: [] },
        persisted: { term: 0, votedFor: null, accepted: null }
      }),
      settled: async () => undefined,
      dispatch: (event: FederationEvent) => {
        node.state = stepFederation({ linkOf, sketchBytes: 0, roundTokens: 1000 } as never, node.state, event)[0]
      },
      ask: async (peer: PeerName, { fromIndex }: { fromIndex: number }) => {
        asked.push(peer)
        for (const other of ['a liar', 'an honest one']) void catchUp(other)
        await sleep(10)
        const entries = builder.entries.slice(fromIndex - 1, peer === 'a liar' ? fromIndex : undefined)
        return { kind: 'entries', charter: null, entries, headIndex: peer === 'a liar' ? 1e9 : builder.entries.length }
      }
    }
    const sync = new LogSync(node as unknown as FederationCore)
    catchUp = peer => sync.catchUp(peer)
    void sync.catchUp('a liar')
    await sleep(200)
    node.stopped = true
    assert.deepEqual(asked.slice(0, 2), ['a liar', 'an honest one'])
    assert.equal(node.state.consensus.commitIndex, builder.entries.length)
    assert.equal(sync.isBehind, false, 'though one tells without end of more')
  })
})
