import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { fetchAncestors } from '../../src/node/ancestor-models.ts'

describe('models of federations above', () => {
  it('are waited for together, as long as the federation waits for its parent: one that never comes whole holds nobody up', async () => {
    const models = ['world', 'made up', 'made up too', 'here'].map(name => ({ name, federation: name, model: `of ${name}` }))
    const away: string[] = []
    const began = performance.now()
    const reached = await fetchAncestors(models, {
      pull: async (blob, _, signal) => {
        if (blob.includes('made up')) await sleep(60_000, undefined, { signal })
      },
      holders: () => [],
      patienceMs: 100,
      onAway: name => away.push(name)
    })
    assert.deepEqual(
      [reached.map(({ name }) => name), away],
      [
        ['world', 'here'],
        ['made up', 'made up too']
      ]
    )
    assert.ok(performance.now() - began < 10_000)
  })
})
