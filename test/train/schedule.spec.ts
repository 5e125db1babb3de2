import assert from 'node:assert/strict'
import fc from 'fast-check'
import { downAt, learningRateAt, scheduleOf, stepsBefore } from '../../src/train/schedule.ts'

const charter = fc.record({
  ...{ learningRate: fc.double({ min: 1e-5, max: 1, noNaN: true }), warmupSteps: fc.nat(200) },
  ...{ decaySteps: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 5000 })) },
  ...{ rounds: fc.integer({ min: 1, max: 100 }), steps: fc.integer({ min: 1, max: 100 }) },
  ...{
    downTemperature: fc.double({ min: 0.01, max: 2, noNaN: true }),
    downTolerance: fc.double({ min: 0, max: 1, noNaN: true })
  }
})
const falling = (algorithm: typeof charter extends fc.Arbitrary<infer A> ? A : never) => ({
  ...algorithm,
  downSchedule: 'learning-rate' as const
})

describe('the schedules of a run', () => {
  it('end the learning rate at a tenth, and what a mix may cost at nothing', () => {
    fc.assert(
      fc.property(charter, algorithm => {
        const schedule = scheduleOf(algorithm)
        const last = schedule.decaySteps
        const rate = learningRateAt(last + schedule.warmupSteps, schedule)
        assert.ok(Math.abs(rate / algorithm.learningRate - 0.1) < 1e-9)
        const { downTolerance, downCooling } = downAt(last, falling(algorithm))
        assert.ok(Math.abs(downTolerance) < 1e-12)
        assert.equal(downCooling, 0.01)
      })
    )
  })

  it('begin the way down with the charter’s own tolerance and temperature, and never raise them', () => {
    fc.assert(
      fc.property(charter, fc.nat(6000), fc.nat(6000), (algorithm, one, other) => {
        const options = falling(algorithm)
        assert.deepEqual(downAt(0, options), { downTolerance: algorithm.downTolerance, downCooling: 1 })
        const [early, late] = [downAt(Math.min(one, other), options), downAt(Math.max(one, other), options)]
        assert.ok(late.downTolerance <= early.downTolerance && late.downCooling <= early.downCooling)
      })
    )
  })

  it('leave the way down as it is where a run has no end, or the charter says so', () => {
    fc.assert(
      fc.property(charter, fc.nat(6000), (algorithm, step) => {
        const given = { downTolerance: algorithm.downTolerance, downCooling: 1 }
        assert.deepEqual(downAt(step, { ...algorithm, downSchedule: 'constant' }), given)
        assert.deepEqual(downAt(step, { ...falling(algorithm), rounds: 0, decaySteps: 0 }), given)
      })
    )
  })

  it('are the federation’s, for who joins late too; the warm-up is everybody’s own', () => {
    const rounds = fc.integer({ min: 1, max: 100 })
    fc.assert(
      fc.property(charter, rounds, rounds, fc.nat(300), (algorithm, round, missed, step) => {
        const { steps } = algorithm
        assert.equal(stepsBefore(round, round - 1, steps), (round - 1) * steps, 'who missed nothing')
        assert.equal(stepsBefore(round, Math.max(0, round - 1 - missed), steps), (round - 1) * steps, 'who missed some')
        assert.equal(stepsBefore(1, missed, steps), missed * steps, 'who has trained before, in another federation')
        const schedule = scheduleOf(algorithm)
        const at = stepsBefore(round, 0, steps) + step
        const [late, early] = [learningRateAt(at, schedule, step), learningRateAt(at, schedule)]
        assert.ok(late <= early)
        if (step >= schedule.warmupSteps) assert.equal(late, early)
      })
    )
  })
})
