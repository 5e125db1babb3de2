/**
 * Windows of an organization's text: random ones to train on, a slice that is kept back for judging models, a fixed set for validation.
 */
import type { Batch } from '../engine/engine.ts'
import { Random } from '../math/random.ts'

export interface Tokens {
  readonly length: number
  subarray(from: number, to: number): Tokens & Iterable<number>
  readonly [place: number]: number
}

/** Kept back from training for good; what a model is judged by on the way down (docs/algorithm.md, "Names"). */
export const keptBackBytes = 4096

/** Where the kept-back slice begins: drawn once, by seed. Its last window ends with a target, hence one more. */
export function keptBackStart(length: number, seed: number | string): number {
  return new Random(`kept-back/${seed}`).below(Math.max(1, length - keptBackBytes))
}

/** Random windows that never touch the kept-back slice. Its state can be stored and taken up again. */
export class Batches {
  readonly #tokens: Tokens
  readonly #context: number
  readonly #windows: number
  readonly #starts: { before: number; after: number; afterFrom: number }
  readonly #random: Random

  /** @param keptBack - first token of the kept-back slice. @param windows - a batch. @param state - of a `Batches` before. */
  constructor(
    tokens: Tokens,
    options: { context: number; windows: number; seed: number | string; keptBack: number; state?: number[] }
  ) {
    const { context, windows, keptBack, seed, state } = options
    this.#tokens = tokens
    this.#context = context
    this.#windows = windows
    // A window at s covers s .. s + context, its last target included.
    const before = Math.max(0, keptBack - context)
    const afterFrom = keptBack + keptBackBytes + 1
    this.#starts = { before, after: Math.max(0, tokens.length - context - afterFrom), afterFrom }
    if (before + this.#starts.after === 0) throw new RangeError('the text has no window besides its kept-back slice')
    this.#random = state === undefined ? new Random(`batches/${seed}`) : Random.from(state)
  }

  next(): Batch {
    return windowsAt(
      this.#tokens,
      Array.from({ length: this.#windows }, () => this.#start()),
      this.#context
    )
  }

  state(): number[] {
    return this.#random.state()
  }

  #start(): number {
    const { before, after, afterFrom } = this.#starts
    const drawn = this.#random.below(before + after)
    return drawn < before ? drawn : afterFrom + drawn - before
  }
}

/** Windows at these starts; the target of a token is the next one. */
export function windowsAt(tokens: Tokens, starts: number[], context: number): Batch {
  const inputs = new Int32Array(starts.length * context)
  const targets = new Int32Array(starts.length * context)
  for (const [row, start] of starts.entries()) {
    for (let time = 0; time < context; time++) {
      inputs[row * context + time] = tokens[start + time]!
      targets[row * context + time] = tokens[start + time + 1]!
    }
  }
  return { inputs, targets }
}

/** Starts of the kept-back windows, one after the other. */
export function keptBackStarts(keptBack: number, context: number): number[] {
  const windows = Math.max(1, Math.floor(keptBackBytes / context))
  return Array.from({ length: windows }, (_, window) => keptBack + window * context)
}

/** Starts of the validation windows: as many as `tokens` hold, spread evenly over the text; the same for every method. */
export function validationStarts(length: number, context: number, tokens: number): number[] {
  const most = Math.max(1, Math.floor((length - 1) / context))
  const count = Math.min(most, Math.max(1, Math.floor(tokens / context)))
  const last = length - context - 1
  return Array.from({ length: count }, (_, window) => (count === 1 ? 0 : Math.floor((window * last) / (count - 1))))
}
