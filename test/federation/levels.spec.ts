/** What every peer that follows two federations, or none above, decides alike. */
import assert from 'node:assert/strict'
import { holdersOfUpdate } from '../../src/federation/levels.ts'
import { genesisRoster } from '../../src/federation/membership.ts'
import { updateOf } from './federation-bench.ts'

describe('the likely holders of an update', () => {
  it('are whom it names, who signed it, then the voters: one that led before has fetched it, and its maker may be dead', () => {
    const roster = genesisRoster({ founders: ['v', 'w', 'b'] })
    assert.deepEqual(holdersOfUpdate({ roster }, updateOf('b', { holders: ['a'], by: 'b' })), ['a', 'b', 'v', 'w'])
  })
})
