/** Whose word a source or a target of residuals takes for a node elsewhere in the tree. */
import assert from 'node:assert/strict'
import { isVouched } from '../../src/node/federation-core.ts'
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
