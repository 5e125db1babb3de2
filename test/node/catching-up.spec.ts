/** A node that is behind: what it fetches, and what it leaves alone until it has it. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { LogSync } from '../../src/node/log-sync.ts'
import { apply } from '../../src/node/member-effects.ts'

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
})
