/**
 * When the steps of a scenario are due. Is: pure but for what it remembers; time and rounds come in as facts, chance from a seed.
 */
import type { Random } from '../../src/math/random.ts'
import type { Phase, Range, ScenarioStep } from './schema.ts'

export interface Facts {
  /** Since all nodes were up. */
  seconds: number
  /** Newest certified round of a federation; 0 before the first. */
  round(federation: string): number
  /** Where its aggregator is in the round that it makes; null when nothing is known. */
  phase(federation: string): Phase | null
  /** Whether it has a majority of its voters without any one of them, as all its nodes that are up say. */
  hasSpare(federation: string): boolean
}

interface Plan {
  step: ScenarioStep
  /** When it is due, in seconds; null: what it waits for has not happened. */
  dueAt: number | null
  times: number
  /** When it was done first. */
  doneAt: number | null
  over: boolean
}

export class Script {
  readonly #plans: Plan[]
  readonly #random: Random

  constructor(steps: ScenarioStep[], random: Random) {
    this.#random = random
    this.#plans = steps.map(step => ({ step, dueAt: null, times: 0, doneAt: null, over: false }))
  }

  /** Every step was done as often as it asks for. */
  get over(): boolean {
    return this.#plans.every(({ over }) => over)
  }

  /** What was waited for, and did not come. */
  get notPlayed(): ScenarioStep[] {
    return this.#plans.filter(({ times }) => times === 0).map(({ step }) => step)
  }

  /** Steps that are due, in their order. They stay due until `done` is told. */
  due(facts: Facts): ScenarioStep[] {
    for (const [place, plan] of this.#plans.entries()) {
      plan.dueAt ??= this.#arm(plan.step, this.#plans[place - 1] ?? null, facts)
      const { repeat } = plan.step
      if (plan.times > 0 && repeat?.untilRound !== undefined && newestRound(facts) >= repeat.untilRound) plan.over = true
    }
    return this.#plans.filter(({ over, dueAt }) => !over && dueAt !== null && dueAt <= facts.seconds).map(({ step }) => step)
  }

  done(step: ScenarioStep, facts: Facts): void {
    const plan = this.#plans.find(one => one.step === step)!
    plan.times++
    plan.doneAt ??= facts.seconds
    const { repeat } = step
    if (repeat === undefined || plan.times >= (repeat.times ?? Number.POSITIVE_INFINITY)) plan.over = true
    else plan.dueAt = facts.seconds + draw(repeat.everySeconds, this.#random)
  }

  #arm({ at, afterSeconds, whenSpare }: ScenarioStep, before: Plan | null, facts: Facts): number | null {
    if (whenSpare !== undefined && !facts.hasSpare(whenSpare)) return null
    if (at === undefined) {
      if (before !== null && before.doneAt === null) return null
      return (before?.doneAt ?? 0) + draw(afterSeconds ?? 0, this.#random)
    }
    if ('seconds' in at) return draw(at.seconds, this.#random)
    if (facts.round(at.federation) < at.round - 1) return null
    if (at.phase !== undefined && facts.phase(at.federation) !== at.phase) return null
    return facts.seconds + draw(at.laterBySeconds ?? 0, this.#random)
  }
}

const newestRound = (facts: Facts): number => facts.round('*')

/** A number, or one of a range. */
export const draw = (range: Range, random: Random): number =>
  typeof range === 'number' ? range : range[0] + (range[1] - range[0]) * random.float()
