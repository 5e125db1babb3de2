/** What a mix may cost at once: models are numbers here, and the text's likelihood any function of them. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { softmax } from '../../src/aggregate/attend.ts'
import { type MemberOperations, memberDown } from '../../src/aggregate/down.ts'

/** A ridge between the models: each is good by itself, what lies between them is not. */
const ridge = (height: number) => (model: number) => 1 + height * Math.sin(Math.PI * model) ** 2

/** @param noise - of a model, by part of the text. */
function operations(nll: (model: number) => number, noise: (model: number) => number[] = () => []): MemberOperations<number> {
  return {
    combine: async (_backbone, keys) => keys,
    score: async () => assert.fail('likelihood asks for no score'),
    judge: async (_backbone, keys) => ({ nllPerByte: nll(keys), parts: noise(keys).map(one => nll(keys) + one) }),
    mix: async (_backbone, candidates) => {
      const weights = softmax(candidates.map(({ logits }) => logits))
      return { model: candidates.reduce((sum, { model }, place) => sum + model * weights[place]![0]!, 0), weights }
    }
  }
}

const at = (model: number) => ({ name: `at ${model}`, model, textBytes: 1024 })
/** One's own, as if it had not been trained in this round. */
const mine = { ...at(0), start: 0 }
const options = { down: 'likelihood', downTemperature: 0.25, downCooling: 1, textPrior: 0.5 } as const
const down = (nll: (model: number) => number, downTolerance: number, others: number[]) =>
  memberDown(operations(nll), { ...options, downTolerance }, 1, mine, [at(others[0]!), ...others.slice(1).map(at)])

describe('a model that gives no numbers', () => {
  it('has no weight: the others are weighed as if it were not there', async () => {
    const slope = (model: number) => 1 - 0.1 * model
    for (const none of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const nll = (model: number) => (model === 3 ? none : slope(model))
      const [with3, without] = [await down(nll, 1e9, [1, 3]), await down(nll, 1e9, [1])]
      assert.equal(with3.model, without.model)
      assert.deepEqual(
        with3.weighed.map(({ weight }) => weight),
        [...without.weighed.map(({ weight }) => weight), 0]
      )
    }
  })

  it('is left, where it is one’s own, for one that does; where none does, one’s own stays', async () => {
    const broken = (model: number) => (model === 1 ? 1 : Number.NaN)
    assert.equal((await down(broken, 0, [1])).model, 1)
    const cooled = { ...options, downTolerance: 0, downCooling: 0.5 }
    assert.equal((await memberDown(operations(broken), cooled, 1, mine, [at(1)])).model, 1)
    assert.equal((await down(() => Number.NaN, 0, [1, 2])).model, 0)
  })
})

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

  it('does not matter to a mix that helps at once by more than a standard error; any other is weighed as cold as it is', async () => {
    const parts = 9
    const spread = (model: number) => Array.from({ length: parts }, (_, part) => model * (part % 3) - model)
    const run = async (slope: number, downCooling: number, downTolerance: number) => {
      const nll = (model: number) => 1 + slope * model
      const at1 = (more: object) =>
        memberDown(operations(nll, spread), { ...options, downTolerance, ...more }, 1, mine, [at(1)])
      const [warm, made] = [await down(nll, 1e9, [1]), await at1({ downCooling })]
      const cold = await at1({ downTemperature: options.downTemperature * downCooling })
      // Differences are −1, 0 and 1 times the mix's place, three times each: their standard error is that place over √12.
      const helps = warm.model > 0.02 && slope * warm.model + warm.model / Math.sqrt(12) < 0
      const expected = helps && warm.model > cold.model ? warm : cold
      assert.ok(Math.abs(made.model - expected.model) < 1e-12)
      for (const [one, { weight }] of made.shares.entries()) assert.ok(Math.abs(weight - expected.shares[one]!.weight) < 1e-12)
    }
    const [slope, cooling] = [fc.integer({ min: -90, max: 40 }), fc.integer({ min: 1, max: 99 })].map(all =>
      all.map(one => one / 100)
    )
    const tolerance = fc.nat(200).map(one => one / 2001)
    await fc.assert(fc.asyncProperty(slope!, cooling!, tolerance, run), { seed: 2, numRuns: 300 })
  })

  it('is not asked where half of a mix helps: late, when the whole would cost', async () => {
    const valley = (model: number) => (model < 0.3 ? 1 - model / 5 : model < 1 ? 1.1 : 1)
    const warm = await down(valley, 1e9, [1])
    assert.ok(valley(warm.model) > 1)
    const late = { ...options, downTolerance: 0, downCooling: 0.01 }
    const { model } = await memberDown(
      operations(valley, () => [0, 0, 0]),
      late,
      1,
      mine,
      [at(1)]
    )
    assert.ok(Math.abs(model - warm.model / 2) < 1e-12)
    assert.ok(valley(model) < 1)
  })

  it('is not asked where a mix helps by more than its standard error, and not by less', async () => {
    // The other by itself is worse: late, nothing of it is tolerated.
    const valley = (model: number) => (model < 0.3 ? 1 - model / 5 : 1.1)
    const late = { ...options, downTolerance: 0, downCooling: 0.01 }
    const takenBeside = async (spread: number) => {
      const noise = (model: number) => (model === 0 ? [0, 0, 0] : [-spread, 0, spread])
      return (await memberDown(operations(valley, noise), late, 1, mine, [at(1)])).model
    }
    const half = (await down(valley, 1e9, [1])).model / 2
    // Three differences, −spread, 0 and spread: their standard error is spread over √3.
    const gain = half / 5
    assert.ok(Math.abs((await takenBeside(gain * Math.sqrt(3) * 0.99)) - half) < 1e-12)
    assert.ok((await takenBeside(gain * Math.sqrt(3) * 1.01)) < 1e-12)
  })

  it('is not asked for the best of the mixes that help, which is taken: no larger one, nor a smaller one than is tolerated', async () => {
    const late = { ...options, downTolerance: 0, downCooling: 0.01 }
    const best = (nll: (model: number) => number) =>
      memberDown(
        operations(nll, () => [0, 0, 0]),
        late,
        1,
        mine,
        [at(1)]
      )
    const atEnds = (model: number) => (model === 0 ? 1 : 1.1)
    const { model: warm } = await down(atEnds, 1e9, [1])
    const between = (model: number) => (model < 1e-9 || model === 1 ? atEnds(model) : 0.9 + Math.abs(model - warm / 4) / 10)
    assert.ok(Math.abs((await best(between)).model - warm / 4) < 1e-12)
    // Where the other is more likely by itself, what is tolerated is nearly all of it.
    const whole = await best(model => (model < 0.2 ? 1 - 2 * model : 0.6 + (model - 0.2) * 0.3))
    assert.ok(whole.model > 0.99)
  })

  it('is for text that one does not have: beside less of it less is tolerated, and nothing where there is next to none', async () => {
    const taken = async (textBytes: number, isResidual: boolean, tolerance: number) => {
      const other = { ...at(1), textBytes, isResidual }
      const given = { ...options, textPrior: 0, downTolerance: tolerance }
      const { model } = await memberDown(operations(ridge(0.2)), given, 1, mine, [at(0), other], name => name === other.name)
      return model
    }
    const whole = await taken(1024, true, 1e9)
    const cost = ridge(0.2)(whole) - 1
    assert.ok(cost > 0.1)
    for (const [textBytes, isResidual, share] of [
      [1024, true, 1],
      [4096, true, 1],
      [256, true, 1 / 4],
      // A federation's mean over two, of which one is oneself: 1024 and 512 bytes, 1024 and 0.
      [768, false, 1 / 2],
      [512, false, 0]
    ] as const) {
      if (share > 0) assert.equal(await taken(textBytes, isResidual, (cost * 1.001) / share), whole, `${textBytes} bytes`)
      assert.ok((await taken(textBytes, isResidual, (cost * 0.999) / Math.max(share, 0.1))) < whole, `${textBytes} bytes`)
    }
  })

  it('is measured beside one’s own model without the noise of its steps, as far as the others have one’s own text', async () => {
    const run = async (averaging: number, mixing: number, freshParts: number) => {
      const nll = (model: number) => (model < 0 ? 1 - averaging : model > 0 ? 1 - mixing : 1)
      const other = { ...at(1), textBytes: (1024 * freshParts) / 8, isResidual: true }
      const late = { ...options, downTolerance: 0, downCooling: 0.01 }
      const own = { ...mine, start: -1 }
      const made = await memberDown(operations(nll), late, 1, own, [at(0), other], name => name === other.name)
      const bar = (1 - freshParts / 8) * Math.max(0, averaging)
      if (Math.abs(mixing - bar) > 1e-9) assert.equal(made.model > 0.02, mixing > bar, `a mix gains ${mixing} beside ${bar}`)
    }
    const gain = fc.integer({ min: -50, max: 100 }).map(one => one / 1000)
    await fc.assert(fc.asyncProperty(gain, gain, fc.integer({ min: 1, max: 8 }), run), { seed: 3, numRuns: 300 })
  })

  it('takes back by halves, and all of it from a ridge that begins at once', async () => {
    const free = await down(ridge(0.2), 1e9, [1])
    const half = await down(ridge(0.2), 0.11, [1])
    assert.ok(Math.abs(half.model - free.model / 2) < 1e-12)
    const gentle = (model: number) => 1 + model / 10
    const { model: whole } = await down(gentle, 1e9, [1])
    const eighth = await down(gentle, whole / 79, [1])
    assert.ok(Math.abs(eighth.model - whole / 8) < 1e-12)
    const wall = await down(model => (model === 0 || model === 1 ? 1 : 9), 0.5, [1])
    assert.equal(wall.model, 0)
    assert.deepEqual(
      wall.shares.map(({ weight }) => weight),
      [1, 0]
    )
  })
})

describe('a chain', () => {
  it('attends to its federation and to residuals, not to those above its federation', async () => {
    const given = { ...operations(() => 1), score: async (_query: number, candidates: number[]) => candidates.map(() => [0]) }
    const residual = { ...at(3), isResidual: true }
    const { shares } = await memberDown(given, { ...options, down: 'chain', downTolerance: 0 }, 1, mine, [
      at(1),
      at(2),
      residual
    ])
    assert.deepEqual(
      shares.map(({ name }) => name),
      ['at 0', 'at 1', 'at 3']
    )
  })
})
