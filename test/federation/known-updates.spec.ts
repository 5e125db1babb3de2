/** Members' newest announced updates, held to a map. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { type KnownUpdate, KnownUpdates } from '../../src/federation/known-updates.ts'
import { updateOf } from './federation-bench.ts'

describe('known updates', () => {
  it('are one a member, the last that was put, in the order in which members came; no change is a change of an earlier value', () => {
    const member = fc.constantFrom(...'abcd')
    const change = fc.oneof(fc.record({ put: member, round: fc.nat(5) }), fc.record({ drop: fc.uniqueArray(member) }))
    fc.assert(
      fc.property(fc.array(change, { maxLength: 20 }), changes => {
        const plain = new Map<string, KnownUpdate>()
        let known = KnownUpdates.none
        for (const one of changes) {
          const [before, values] = [known, [...known.values()]]
          if ('put' in one) {
            const update = { link: `u-${one.put}-${one.round}`, update: updateOf(one.put, { round: one.round }) }
            plain.set(one.put, update)
            known = known.with(update)
          } else {
            for (const name of one.drop) plain.delete(name)
            known = known.filter(({ update }) => !one.drop.includes(update.member))
          }
          assert.deepEqual(known.values(), [...plain.values()])
          for (const name of 'abcd') assert.deepEqual([known.get(name), known.has(name)], [plain.get(name), plain.has(name)])
          assert.deepEqual(before.values(), values)
        }
      })
    )
    assert.deepEqual(KnownUpdates.none.values(), [])
  })
})
