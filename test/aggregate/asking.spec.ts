import assert from 'node:assert/strict'
import { isDue, type Memory, remember } from '../../src/aggregate/asking.ts'
import { type MemberOperations, memberDown } from '../../src/aggregate/down.ts'

describe('candidates that are light', () => {
  const memory: Memory = { light: { round: 3, weight: 0.0099 }, heavy: { round: 3, weight: 0.01 } }
  const rows = [
    { name: 'new', round: 4, due: true },
    { name: 'heavy', round: 4, due: true },
    { name: 'light', round: 4, due: false },
    { name: 'light', round: 7, due: false },
    { name: 'light', round: 8, due: true },
    { name: 'light', round: 20, due: true }
  ]
  for (const { name, round, due } of rows)
    it(`${due ? 'asks' : 'does not ask'} for the ${name} one in round ${round}`, () =>
      assert.equal(isDue(memory, name, round), due))

  it('are weighed anew when they are asked, and kept in mind when they are not', () => {
    const next = remember(memory, 8, [{ name: 'light', warmWeight: 0.5 }])
    assert.deepEqual(next, { light: { round: 8, weight: 0.5 }, heavy: { round: 3, weight: 0.01 } })
  })

  it('are neither judged nor mixed while they are not asked for; the backbone still is the federation’s', async () => {
    const judged: string[] = []
    const mixed: { backbone: string; candidates: string[] }[] = []
    const operations: MemberOperations<string> = {
      combine: async () => 'combined',
      score: async () => [],
      judge: async (_backbone, keys) => {
        judged.push(keys)
        return { nllPerByte: 1, parts: [] }
      },
      mix: async (backbone, candidates) => {
        mixed.push({ backbone, candidates: candidates.map(({ model }) => model) })
        return { model: 'mixed', weights: candidates.map(() => [1 / candidates.length]) }
      }
    }
    const options = { down: 'likelihood', downTemperature: 0.25, downTolerance: 10, downCooling: 1, textPrior: 0.5 } as const
    const candidate = (name: string) => ({ name, model: `model of ${name}`, textBytes: 1024 })
    const above = [candidate('federation'), candidate('world')] as [ReturnType<typeof candidate>, ReturnType<typeof candidate>]
    const own = { ...candidate('own'), start: 'model of own' }
    const { weighed } = await memberDown(operations, options, 2, own, above, name => name !== 'federation')
    assert.deepEqual(judged, ['model of own', 'model of world', 'mixed'])
    assert.deepEqual(mixed, [{ backbone: 'model of federation', candidates: judged.slice(0, 2) }])
    assert.deepEqual(
      weighed.map(({ name, weight }) => [name, weight]),
      [
        ['own', 0.5],
        ['world', 0.5]
      ]
    )
  })
})
