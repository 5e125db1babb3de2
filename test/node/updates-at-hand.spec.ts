/** Which signed updates a node keeps, and which it drops first. */
import assert from 'node:assert/strict'
import type { FederationState } from '../../src/federation/federation-state.ts'
import { dropOldest } from '../../src/node/updates-at-hand.ts'
import { limits } from '../../src/wire/limits.ts'
import { testCharter } from '../federation/charters.ts'
import { FederationBench, updateOf } from '../federation/federation-bench.ts'

describe('signed updates at hand', () => {
  /** What is left of these, the oldest, when as many come after them as there is room for. */
  function left(state: FederationState, links: string[]): string[] {
    const updates = new Map(links.map(link => [link, new Uint8Array()]))
    for (let nth = 0; nth < limits.updatesKeptMax; nth++) {
      updates.set(`later-${nth}`, new Uint8Array())
      dropOldest(updates, state)
    }
    assert.equal(updates.size, limits.updatesKeptMax)
    return links.filter(link => updates.has(link))
  }

  const bench = () => new FederationBench({ charter: testCharter({ voters: 1 }) }, { automatic: false }).start().admit('a', 'b')

  it('are the newest, and those that a round counts or may count: nobody could verify it without them', () => {
    const open = bench().announce('a').announce('b')
    assert.deepEqual(left(open.state, ['old', 'u-a-1', 'u-b-1']), ['u-a-1', 'u-b-1'])
    for (const link of ['u-a-1', 'u-b-1']) open.on({ type: 'pulled', link, keysDistance: 0 })
    assert.equal(open.state.round.phase, 'aggregating')
    assert.deepEqual(left(open.state, ['old', 'u-a-1', 'u-b-1']), ['u-a-1', 'u-b-1'])
  })

  it('are those that were accepted, too, where their member has said another meanwhile', () => {
    const open = bench().announce('a').on({ type: 'pulled', link: 'u-a-1', keysDistance: 0 })
    open.on({ type: 'update', link: 'another', update: updateOf('a', { weight: 7 }) })
    assert.deepEqual(left(open.state, ['old', 'u-a-1', 'another']), ['u-a-1', 'another'])
  })

  it('are those of the newest round, and of one that is accepted and not certified', () => {
    const [counts, open] = [['mine', 'yours'], bench().state]
    const entry = { kind: 'round', inputs: counts.map(update => ({ update })) }
    const accepted = { ...open, consensus: { ...open.consensus, accepted: { entry } } } as unknown as FederationState
    assert.deepEqual(left(accepted, ['old', ...counts]), counts)
    const certified = { ...open, head: { ...open.head, entry } } as unknown as FederationState
    assert.deepEqual(left(certified, ['old', ...counts]), counts)
  })
})
