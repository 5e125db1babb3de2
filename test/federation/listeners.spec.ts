/** When what a peer has said has new listeners: held to a plain account of who leads, in which term, and who stands for the federation. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { FederationState } from '../../src/federation/federation-state.ts'
import { Listeners } from '../../src/federation/listeners.ts'
import { stateOf } from './states.ts'

const base = stateOf('a', ['a', 'b', 'c'])

describe('listeners', () => {
  it('are new where another leads, or in another term, or where others stand above, whoever tells of it', () => {
    const roster = fc.constantFrom(...[['a'], ['a', 'b'], ['a', 'b']].map(delegates => ({ ...base.roster, delegates })))
    const aggregator = fc.constantFrom('a', 'b', null)
    const look = fc.record({ roster, aggregator, term: fc.integer({ min: 1, max: 2 }), votes: fc.boolean() })
    fc.assert(
      fc.property(fc.array(look, { maxLength: 12 }), looks => {
        const listeners = new Listeners()
        let before = ' 0 '
        for (const { roster, aggregator, term, votes } of looks) {
          // Who votes has it from consensus, everybody else from presences.
          const consensus = { ...base.consensus, aggregator: votes ? aggregator : null, term }
          const state: FederationState = { ...base, roster, consensus }
          const areNew = listeners.areNew(state, {
            aggregator: votes ? null : aggregator,
            term: votes && aggregator === null ? 0 : term
          })
          const now = [aggregator ?? '', votes && aggregator === null ? 0 : term, roster.delegates].join(' ')
          assert.equal(areNew, now !== before && aggregator !== null)
          before = now
        }
      })
    )
  })
})
