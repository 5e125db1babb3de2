/** What a mix may cost at once: models are numbers here, and the text's likelihood any function of them. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { softmax } from '../../src/aggregate/attend.ts'
import { type MemberOperations, memberDown } from '../../src/aggregate/down.ts'

/** A ridge between the models: each is good by itself, what lies between them is not. */
const ridge = (height: number) => (model: number) => 1 + height * Math.sin(Math.PI * model) ** 2

function operations(nll: (model: number) => number): MemberOperations<number> {
  return {
    combine: async (_backbone, keys) => keys,
    score: async () => assert.fail('likelihood asks for no score'),
    nllPerByte: async (_backbone, keys) => nll(keys),
    mix: async (_backbone, candidates) => {
      const weights = softmax(candidates.map(({ logits }) => logits))
      return { model: candidates.reduce((sum, { model }, place) => sum + model * weights[place]![0]!, 0), weights }
    }
  }
}

const at = (model: number) => ({ name: `at ${model}`, model, textBytes: 1024 })
const down = (nll: (model: number) => number, downTolerance: number, others: number[]) =>
  memberDown(operations(nll), { down: 'likelihood', downTemperature: 0.25, downTolerance, textPrior: 0.5 }, 1, at(0), [
    at(others[0]!),
    ...others.slice(1).map(at)
  ])

describe('the tolerance of a mix', () => {
  it('is kept: what comes out costs no more, or is one’s own; in proportion, others weigh as they did', async () => {
    const models = fc.uniqueArray(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 })
    const amount = fc.double({ min: 0, max: 0.5, noNaN: true })
    const run = async (others: number[], height: number, slope: number, tolerance: number) => {
      const nll = (model: number) => ridge(height)(model) + slope * model
      const [free, held] = [await down(nll, 1e9, others), await down(nll, tolerance, others)]
      const cost = nll(held.model) - nll(0)
      const own = held.weighed[0]!.weight
      assert.ok(cost <= tolerance || own === 1 || free.weighed[0]!.weight > 0.98, `it costs ${cost}`)
      assert.ok(Math.abs(held.weighed.reduce((sum, { weight }) => sum + weight, 0) - 1) < 1e-9)
      const isLight = free.weighed[0]!.weight > 0.98
      if (isLight || nll(free.model) - nll(0) <= tolerance) assert.deepEqual(held, free)
      else assert.ok(own > free.weighed[0]!.weight)
      for (const [place, { weight }] of held.weighed.slice(1).entries()) {
        const kept = (1 - own) / (1 - free.weighed[0]!.weight)
        assert.ok(Math.abs(weight - free.weighed[place + 1]!.weight * kept) < 1e-9)
      }
    }
    await fc.assert(fc.asyncProperty(models, amount, amount, amount, run), { seed: 1, numRuns: 300 })
  })

  it('takes back by halves, and all of it from a ridge that begins at once', async () => {
    const free = await down(ridge(0.2), 1e9, [1])
    const half = await down(ridge(0.2), 0.11, [1])
    assert.ok(Math.abs(half.model - free.model / 2) < 1e-12)
    const wall = await down(model => (model === 0 || model === 1 ? 1 : 9), 0.5, [1])
    assert.equal(wall.model, 0)
    assert.deepEqual(
      wall.shares.map(({ weight }) => weight),
      [1, 0]
    )
  })
})
