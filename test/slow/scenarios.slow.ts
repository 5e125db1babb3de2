/** Every built-in scenario, with real processes: invariants hold, every federation comes right, whoever is started again is counted again. */
import assert from 'node:assert/strict'
import { stories } from '../../testnet/scenarios/stories.ts'
import { play } from '../testnet/play.ts'

describe('scenarios on real processes', () => {
  for (const name of Object.keys(stories))
    it(name, async function () {
      this.timeout(600_000)
      const { faults } = await play(name, 0)
      if (name === 'lost-aggregator')
        assert.deepEqual(
          faults.map(({ kind }) => kind),
          Array<string>(4).fill('kill-aggregator')
        )
      if (name === 'lost-member')
        assert.deepEqual(
          faults.map(({ kind, mendedAtSeconds }) => [kind, mendedAtSeconds]),
          [['kill-member', null]]
        )
      if (name === 'rolling-restart') assert.equal(faults.length, 6)
    })
  // Each draws other faults at other moments; half an hour in all.
  for (let seed = 1; seed <= 20; seed++)
    it(`chaos, seed ${seed}`, async function () {
      this.timeout(600_000)
      const { faults } = await play('chaos', seed)
      assert.ok(faults.length >= 10, `${faults.length} faults are no chaos`)
    })
})
