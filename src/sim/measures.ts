/** What is measured of learning: losses by round, how far models lie apart, when a target was reached, what faults cost. */
import type { Measures, Topic } from './core.ts'

export interface RoundMeasures {
  round: number
  /** Virtual seconds at which the last organization applied it. */
  seconds: number
  /** Means over organizations: after local training, after aggregation. */
  personal: number
  aggregated: number
  /** Root of the mean squared distance of the organizations' models from their mean, a float; NaN where nobody took it over. */
  consensus: number
  organizations: number
  /** Sent by all until then. */
  bytes: number
}

/** Newest losses of one organization. */
export interface OrganizationMeasures {
  round: number
  personal: number
  aggregated: number
}

interface Sums {
  personal: number
  trained: number
  aggregated: number
  applied: number
  lastMs: number
  bytes: number
  sum: Float64Array
  squares: number
}

export class LearningMeasures implements Measures {
  /** How often each warning was given, by code. */
  readonly warnings = new Map<string, number>()
  readonly #rounds = new Map<number, Sums>()
  readonly #nowMs: () => number
  readonly #floats: number
  readonly #bytes: () => number
  /** What became of residuals, by outcome. */
  readonly residuals = new Map<string, number>()
  readonly organizations = new Map<number, OrganizationMeasures>()
  /** What each organization trained last. */
  readonly #trained = new Map<number, { round: number; loss: number }>()

  /** @param bytes - sent by all until now. */
  constructor(nowMs: () => number, floats: number, bytes: () => number) {
    this.#nowMs = nowMs
    this.#floats = floats
    this.#bytes = bytes
  }

  trained(organization: number, round: number, loss: number): void {
    const aggregated = this.organizations.get(organization)?.aggregated ?? Number.NaN
    this.organizations.set(organization, { round, personal: loss, aggregated })
    const sums = this.#of(round)
    const before = this.#trained.get(organization)
    // It died before it could use what it had trained, and trained the round again.
    if (before?.round === round) sums.personal -= before.loss
    else sums.trained++
    sums.personal += loss
    this.#trained.set(organization, { round, loss })
    // Of a round that nobody takes over, for the run ends before: as far as it came.
    if (sums.applied === 0) this.#mark(sums)
  }

  applied(organization: number, round: number, loss: number, model: Float32Array): void {
    const personal = this.organizations.get(organization)?.personal ?? Number.NaN
    this.organizations.set(organization, { round, personal, aggregated: loss })
    const sums = this.#of(round)
    sums.aggregated += loss
    sums.applied++
    this.#mark(sums)
    for (let place = 0; place < model.length; place++) {
      const value = model[place]!
      sums.sum[place]! += value
      sums.squares += value * value
    }
  }

  #mark(sums: Sums): void {
    sums.lastMs = this.#nowMs()
    sums.bytes = this.#bytes()
  }

  told(_topic: Topic | null, code: string): void {
    this.warnings.set(code, (this.warnings.get(code) ?? 0) + 1)
  }

  residual(outcome: string): void {
    this.residuals.set(outcome, (this.residuals.get(outcome) ?? 0) + 1)
  }

  curve(): RoundMeasures[] {
    return [...this.#rounds]
      .sort(([left], [right]) => left - right)
      .map(([round, { personal, trained, aggregated, applied, lastMs, bytes, sum, squares }]) => {
        const mean = sum.reduce((total, value) => total + (value / Math.max(1, applied)) ** 2, 0)
        const spread = Math.max(0, squares / Math.max(1, applied) - mean) / this.#floats
        return {
          round,
          seconds: lastMs / 1000,
          personal: trained === 0 ? Number.NaN : personal / trained,
          aggregated: applied === 0 ? Number.NaN : aggregated / applied,
          consensus: applied === 0 ? Number.NaN : Math.sqrt(spread),
          organizations: applied,
          bytes: Math.round(bytes)
        }
      })
  }

  #of(round: number): Sums {
    let sums = this.#rounds.get(round)
    if (sums === undefined) {
      sums = {
        personal: 0,
        trained: 0,
        aggregated: 0,
        applied: 0,
        lastMs: 0,
        bytes: 0,
        sum: new Float64Array(this.#floats),
        squares: 0
      }
      this.#rounds.set(round, sums)
    }
    return sums
  }
}
