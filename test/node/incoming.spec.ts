/** What a node makes of receipts that it is given. */
import assert from 'node:assert/strict'
import type { FederationEvent } from '../../src/federation/federation.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Incoming } from '../../src/node/incoming.ts'
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
