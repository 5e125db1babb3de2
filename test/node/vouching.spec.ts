/** Whose word a source or a target of residuals takes for a node elsewhere in the tree. */
import assert from 'node:assert/strict'
import { type FederationCore, isVouched } from '../../src/node/federation-core.ts'
import { ResidualExchange } from '../../src/node/residual-exchange.ts'
import { ResidualTarget } from '../../src/node/residual-target.ts'
import type { Shown } from '../../src/wire/messages.ts'
import type { ReadShown } from '../../src/wire/residual-records.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

/** A federation of these organizations, as a node knows it. */
function federation(name: string, ...members: string[]) {
  const builder = new LogBuilder({ name, path: name, founders: [peerOf(members[0]!).peer] }).admit(...members)
  return { builder, state: { roster: builder.roster }, options: { charter: builder.charter } }
}

const own = federation('own', 'a', 'b')
const top = federation('top', 'c', 'd')
/** A node directly in the common ancestor, or below a child that its log has (or has not) admitted. */
const direct = (name: string) => ({ fingerprint: { node: peerOf(name).peer }, line: [] }) as unknown as ReadShown
const below = (branch: string) =>
  ({ fingerprint: { node: peerOf('far').peer }, line: [{ id: 'lower' }, { id: branch }] }) as unknown as ReadShown

const rows: { why: string; bridge: string; shown: ReadShown; believed: boolean }[] = [
  { why: 'a member of the own federation may say it of anyone', bridge: 'b', shown: below('unknown'), believed: true },
  { why: 'who speaks in the ancestor, of its member', bridge: 'd', shown: direct('c'), believed: true },
  { why: 'who speaks in the ancestor, below an admitted child', bridge: 'd', shown: below(peerOf('c').peer), believed: true },
  { why: 'who speaks in the ancestor, of a stranger', bridge: 'd', shown: direct('mallory'), believed: false },
  {
    why: 'who speaks in the ancestor, below a child that nobody admitted',
    bridge: 'd',
    shown: below('unknown'),
    believed: false
  },
  { why: 'a stranger, even of a member', bridge: 'mallory', shown: direct('c'), believed: false }
]

describe('a bridge', () => {
  for (const { why, bridge, shown, believed } of rows)
    it(`is ${believed ? '' : 'not '}believed: ${why}`, () =>
      assert.equal(isVouched(own, top, peerOf(bridge).peer, shown), believed))
})

describe('a stranger', () => {
  it('has nothing read of what it shows: some milliseconds of work, thousands of times', () => {
    const { peer } = peerOf('b')
    const read: string[] = []
    const shown = new Proxy({} as Shown, { get: (_, name) => void read.push(String(name)) })
    const services = { folder: { residuals: '/nowhere' } }
    const node = {
      ...own,
      self: peer,
      organization: { newest: null },
      residuals: { known: new Map([[peer, {}]]) },
      options: { charter: { ...own.builder.charter, parent: null }, services }
    } as unknown as FederationCore
    const federation = own.builder.id
    const mallory = peerOf('mallory').peer
    const grant = { record: new Uint8Array(), by: peer, signature: new Uint8Array(64) }
    const answers = [
      new ResidualExchange(node).grant(mallory, { kind: 'residual', federation, from: peer, to: shown }),
      new ResidualTarget(node).answer(mallory, { kind: 'offer', federation, to: peer, source: shown, grant, held: false })
    ]
    assert.deepEqual(
      answers.map(answer => 'detail' in answer && answer.detail),
      ['nobody known vouches for it', 'nobody known vouches for it']
    )
    assert.deepEqual(read, [])
  })
})
