/** The learning rate of a step: linear warm-up, then a cosine down to a tenth. */
export interface Schedule {
  learningRate: number
  warmupSteps: number
  /** Steps after which a tenth is reached; 0: it stays at its peak. */
  decaySteps: number
}

const floor = 0.1

/** @param step - from 0, counted over all rounds. */
export function learningRateAt(step: number, { learningRate, warmupSteps, decaySteps }: Schedule): number {
  const warm = warmupSteps === 0 ? 1 : Math.min(1, (step + 1) / warmupSteps)
  if (decaySteps === 0) return learningRate * warm
  const done = Math.min(1, step / decaySteps)
  return learningRate * warm * (floor + ((1 - floor) * (1 + Math.cos(Math.PI * done))) / 2)
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
