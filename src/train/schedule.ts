/** The learning rate of a step: linear warm-up, then a cosine down to a tenth. */
export interface Schedule {
  learningRate: number
  warmupSteps: number
  /** Steps after which a tenth is reached; 0: it stays at its peak. */
  decaySteps: number
}

/**
 * Steps that lie before a round. The federation's rounds count, not one's own: whoever joins late, or was away, begins from models that others
 * have trained for long, and a learning rate from the beginning of the schedule drives it out of what it has just taken over
 * (docs/experiments.md, "Measured").
 * @param round - from 1. @param trained - rounds that were trained here; more than the federation's where this one is not its first.
 */
export const stepsBefore = (round: number, trained: number, steps: number): number => Math.max(trained, round - 1) * steps

const floor = 0.1

/**
 * @param step - from 0, counted over all rounds. @param ownStep - of these, those that were taken here: whoever joins late has no moments yet,
 * and warms up as everybody did.
 */
export function learningRateAt(step: number, schedule: Schedule, ownStep: number = step): number {
  const { learningRate, warmupSteps, decaySteps } = schedule
  const warm = warmupSteps === 0 ? 1 : Math.min(1, (ownStep + 1) / warmupSteps)
  return learningRate * warm * decayAt(step, decaySteps)
}

/** Share of the peak that the decay leaves, 0.1 to 1. */
function decayAt(step: number, decaySteps: number): number {
  if (decaySteps === 0) return 1
  const done = Math.min(1, step / decaySteps)
  return floor + ((1 - floor) * (1 + Math.cos(Math.PI * done))) / 2
}

/** What is left of the temperature when the learning rate is at its floor: a logit divides by it. */
const coolingLeast = 0.01

/**
 * What a mix may cost on the way down after so many steps, and how much of the temperature is left for it (docs/algorithm.md, "Scores"):
 * with `downSchedule: learning-rate` both decay as the learning rate does above its floor, to nothing.
 */
export function downAt(
  step: number,
  algorithm: Parameters<typeof scheduleOf>[0] & { downTolerance: number; downSchedule: 'constant' | 'learning-rate' }
): { downTolerance: number; downCooling: number } {
  const { downTolerance, downSchedule } = algorithm
  const decay = downSchedule === 'constant' ? 1 : decayAt(step, scheduleOf(algorithm).decaySteps)
  const left = Math.max(0, (decay - floor) / (1 - floor))
  return { downTolerance: downTolerance * left, downCooling: Math.max(coolingLeast, left) }
}

/** A charter's schedule: where it names no decay, the decay ends with its last round. */
export function scheduleOf(algorithm: {
  learningRate: number
  warmupSteps: number
  decaySteps: number
  rounds: number
  steps: number
}): Schedule {
  const { learningRate, warmupSteps, decaySteps, rounds, steps } = algorithm
  return { learningRate, warmupSteps, decaySteps: decaySteps > 0 ? decaySteps : rounds * steps }
}
