/** Who may fetch what from a node; the rules themselves stand in test/governance/egress.spec.ts. */
import assert from 'node:assert/strict'
import { initialFederation } from '../../src/federation/federation-start.ts'
import { createLayout } from '../../src/model/layout.ts'
import { BlobGate } from '../../src/node/blob-gate.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

const organizations = ['a', 'b', 'c']

/** `b`'s node right after its start, with `pending` on its disk: it has caught up with nobody yet, and announced nothing. */
function comeBack(log: LogBuilder, pending: string | null): FederationCore {
  const { id, charter } = log
  const self = peerOf('b').peer
  const persisted = { term: 1, votedFor: null, accepted: null, signed: null, old: false, fromDisk: true }
  const state = initialFederation({ id, charter, self, entries: [], persisted, rank: 0 })
  const newest = log.update('b').blob
  const core = {
    self,
    state: { ...state, roster: log.roster },
    layout: createLayout(charter.model, charter.algorithm),
    log: { blobs: new Set() },
    options: { charter, sibling: () => null },
    organization: { pending: pending === null ? null : { link: pending, signed: log.updates.get(pending)! } },
    // What it trained last may be asked for as a residual, too.
    residuals: { readersOf: (blob: string) => (blob === newest ? new Set() : null) }
  }
  return core as unknown as FederationCore
}

describe('the gate before a node’s blobs', () => {
  const log = new LogBuilder().admit(...organizations)
  const update = log.update('b')
  const link = log.signUpdate(update)

  it('gives the update that was announced before a restart to those that know it already', () => {
    const refused: string[] = []
    const gate = new BlobGate(
      () => [comeBack(log, link)],
      (_peer, detail) => refused.push(detail)
    )
    assert.ok(gate.allows(peerOf('a').peer, update.blob))
    assert.deepEqual(refused, [])
  })

  it('gives it as a residual alone once it is settled', () => {
    const refused: string[] = []
    for (const pending of [null, log.signUpdate({ ...update, blob: linkOf(Uint8Array.of(1)) })]) {
      const gate = new BlobGate(
        () => [comeBack(log, pending)],
        (_peer, detail) => refused.push(detail)
      )
      assert.ok(!gate.allows(peerOf('a').peer, update.blob))
    }
    assert.equal(refused.length, 2)
  })
})
