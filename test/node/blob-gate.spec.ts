/** Who may fetch what from a node; the rules themselves stand in test/governance/egress.spec.ts. */
import assert from 'node:assert/strict'
import type { RoundEntry } from '../../src/federation/entry.ts'
import { initialFederation } from '../../src/federation/federation-start.ts'
import { createLayout } from '../../src/model/layout.ts'
import { BlobGate } from '../../src/node/blob-gate.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

const organizations = ['a', 'b', 'c']

/** `b`'s node right after its start, with `pending` on its disk: it has announced nothing. `entry`: the newest round that it has. */
function comeBack(log: LogBuilder, pending: string | null, entry: RoundEntry | null = null): FederationCore {
  const { id, charter } = log
  const self = peerOf('b').peer
  const persisted = { term: 1, votedFor: null, accepted: null, signed: null, old: false, fromDisk: true }
  const state = initialFederation({ id, charter, self, entries: [], persisted, rank: 0 })
  const newest = log.update('b').blob
  const core = {
    self,
    state: { ...state, roster: log.roster, head: { ...state.head, entry } },
    signedUpdates: log.updates,
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
    assert.equal(gate.permission(peerOf('a').peer, update.blob), 'shared')
    assert.deepEqual(refused, [])
  })

  it('gives it a round longer than it waits: who has not heard of the round asks for nothing forbidden', () => {
    const gate = new BlobGate(
      () => [comeBack(log, null, log.roundEntry(organizations))],
      (_peer, detail) => assert.fail(detail)
    )
    assert.equal(gate.permission(peerOf('a').peer, update.blob), 'shared')
  })

  it('gives it as a residual alone once it is settled', () => {
    const refused: string[] = []
    const later = log.signUpdate({ ...update, blob: linkOf(Uint8Array.of(1)) })
    for (const [pending, entry] of [
      [null, log.roundEntry(['a', 'c'])],
      [later, null]
    ] as const) {
      const gate = new BlobGate(
        () => [comeBack(log, pending, entry)],
        (_peer, detail) => refused.push(detail)
      )
      assert.equal(gate.permission(peerOf('a').peer, update.blob), 'forbidden')
    }
    assert.equal(refused.length, 2)
  })

  it('takes nobody for a member below because it calls itself so: only who is in that federation’s roster is', () => {
    const world = new LogBuilder({ name: 'world', path: 'world' }).admit('a', 'b')
    const egress = [
      { tensor: '*' as const, to: 'members', allow: true },
      { tensor: '*' as const, to: '**', allow: false }
    ]
    const below = new LogBuilder({ name: 'law', path: 'world/law', parent: world.id, egress }).admit('a', 'b', 'c')
    const blob = below.update('b').blob
    const gateFor = (name: string) => {
      const cores = [world, below].map(log => comeBack(log, null))
      const [above, own] = cores as [FederationCore, FederationCore]
      const members = new Map(world.roster.members).set(peerOf('liar').peer, { ...peerOf('liar').member(world.id), name })
      Object.assign(above.state, { roster: { ...world.roster, members } })
      const isMade = { log: { blobs: new Set([blob]) }, residuals: { readersOf: () => null } }
      Object.assign(own, isMade, { options: { ...own.options, sibling: () => above } })
      Object.assign(above, { residuals: { readersOf: () => null } })
      return new BlobGate(
        () => cores,
        () => undefined
      )
    }
    for (const name of ['liar', 'law/c']) {
      const gate = gateFor(name)
      assert.deepEqual(
        [peerOf('c').peer, peerOf('liar').peer].map(peer => gate.permission(peer, blob)),
        ['shared', 'forbidden'],
        name
      )
    }
  })

  /** A federation that this node follows, whose charter says these; and what it knows of `blob`. */
  function followed(log: LogBuilder, facts: object = {}): FederationCore {
    return Object.assign(comeBack(log, null), { residuals: { readersOf: () => null } }, facts)
  }
  const blob = linkOf(Uint8Array.of(9))
  const [stranger, member] = [peerOf('z').peer, peerOf('a').peer]
  const closed = (facts: object = {}) =>
    new LogBuilder({
      egress: [
        { tensor: '*', to: 'members', allow: true },
        { tensor: '*', allow: false }
      ],
      ...facts
    }).admit(...organizations)
  const gateOf = (...federations: FederationCore[]) =>
    new BlobGate(
      () => federations,
      () => undefined
    )

  it('gives a residual to those that it was granted to, whatever else forbids it', () => {
    const granted = followed(closed(), { residuals: { readersOf: () => new Set([stranger]) } })
    assert.deepEqual(
      [stranger, member].map(peer => gateOf(granted).permission(peer, blob)),
      ['alone', 'forbidden']
    )
    const free = followed(new LogBuilder({ name: 'free', path: 'world/free' }).admit('z'), {
      log: { blobs: new Set([blob]) },
      residuals: { readersOf: () => new Set([stranger]) }
    })
    assert.equal(gateOf(free).permission(stranger, blob), 'alone', 'where it may have it as an update, too')
  })

  it('gives what cannot be told where all that it follows allow it, and what one of them made by that one’s rules', () => {
    const [one, free] = [closed(), new LogBuilder({ name: 'free', path: 'world/free' }).admit('z')]
    const both = (facts: object = {}) => gateOf(followed(one), followed(free, facts))
    assert.deepEqual(
      [stranger, member].map(peer => both().permission(peer, blob)),
      ['forbidden', 'shared']
    )
    assert.equal(both({ log: { blobs: new Set([blob]) } }).permission(stranger, blob), 'shared')
    assert.equal(gateOf(followed(free)).permission(stranger, blob), 'shared', 'where nothing is forbidden')
  })

  it('gives a child’s contribution by the child’s rules, where it follows the child', () => {
    const parent = new LogBuilder({ name: 'world', path: 'world' }).admit('z')
    const child = closed({ parent: parent.id })
    const ofChild = followed(child)
    const update = { ...parent.update('z'), member: child.id, blob }
    const above = followed(parent, { state: { ...followed(parent).state, known: new Map([[child.id, { update }]]) } })
    const sees = (sibling: (id: string) => FederationCore | null) =>
      gateOf(Object.assign(above, { options: { ...above.options, sibling } }), ofChild).permission(stranger, blob)
    assert.equal(
      sees(id => (id === child.id ? ofChild : null)),
      'forbidden'
    )
    assert.equal(
      sees(() => null),
      'shared'
    )
  })
})
