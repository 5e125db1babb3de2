/**
 * Windows of an organization's text: random ones to train on, a slice that is kept back for judging models, a fixed set for validation.
 */
import type { Batch } from '../model/batch.ts'
import { Random } from '../math/random.ts'

/** A text's tokens; they may lie in a file. */
export interface Tokens {
  readonly length: number
  subarray(from: number, to: number): ArrayLike<number> & Iterable<number>
}

/** Kept back from training for good; what a model is judged by on the way down (docs/algorithm.md, "Names"). */
export const keptBackBytes = 4096

/** A piece of the slice, its last target included: long enough for a window. */
const pieceBytes = (context: number): number => Math.max(512, context)

/** A shorter text is not cut up. */
const spreadLeast = 128 * 1024

/**
 * Where the pieces of the kept-back slice begin, in order. Of a long text: eight pieces spread over it, drawn once by seed, because one place
 * may be of another kind than the rest. Of a short one, which is trained on many times over: its end, because what lies between trained text
 * is known by heart with it, and then flatters one's own model (docs/algorithm.md, "Scores").
 */
export function keptBackPieces(length: number, context: number, seed: number | string): number[] {
  if (length < spreadLeast) return [length - pieceLength(1, context) - 1]
  const count = Math.max(1, Math.floor(keptBackBytes / pieceBytes(context)))
  const random = new Random(`kept-back/${seed}`)
  const stratum = Math.floor(length / count)
  return Array.from(
    { length: count },
    (_, piece) => piece * stratum + random.below(Math.max(1, stratum - pieceLength(count, context)))
  )
}

/** Bytes of a piece: a single one holds the whole slice. */
const pieceLength = (pieces: number, context: number): number =>
  pieces === 1 ? Math.max(keptBackBytes, context) : pieceBytes(context)

/** What a text must have, so that training has a window beside the kept-back slice, wherever that lies. */
export const textNeeds = (context: number): { context: number; keptBackBytes: number } => ({
  context,
  keptBackBytes: pieceLength(1, context)
})

/** Random windows that never touch the kept-back slice. Its state can be stored and taken up again. */
export class Batches {
  readonly #tokens: Tokens
  readonly #context: number
  readonly #windows: number
  /** Runs of starts that are allowed: first start, and how many. */
  readonly #runs: { from: number; count: number }[] = []
  readonly #starts: number
  readonly #random: Random

  /** @param keptBack - starts of the kept-back pieces. @param windows - a batch. @param state - of a `Batches` before. */
  constructor(
    tokens: Tokens,
    options: { context: number; windows: number; seed: number | string; keptBack: number[]; state?: number[] }
  ) {
    const { context, windows, keptBack, seed, state } = options
    this.#tokens = tokens
    this.#context = context
    this.#windows = windows
    const length = pieceLength(keptBack.length, context)
    let from = 0
    // A window at s covers s .. s + context, its last target included; a piece covers start .. start + length.
    for (const piece of [...keptBack, tokens.length]) {
      const count = piece - context - from
      if (count > 0) this.#runs.push({ from, count })
      from = piece + length + 1
    }
    this.#starts = this.#runs.reduce((sum, { count }) => sum + count, 0)
    if (this.#starts === 0) throw new RangeError('the text has no window besides its kept-back slice')
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
    let drawn = this.#random.below(this.#starts)
    for (const { from, count } of this.#runs) {
      if (drawn < count) return from + drawn
      drawn -= count
    }
    return 0
  }
}

/** Windows at these starts; the target of a token is the next one. */
export function windowsAt(tokens: Tokens, starts: number[], context: number): Batch {
  const inputs = new Int32Array(starts.length * context)
  const targets = new Int32Array(starts.length * context)
  for (const [row, start] of starts.entries()) {
    const window = tokens.subarray(start, start + context + 1)
    for (let time = 0; time < context; time++) {
      inputs[row * context + time] = window[time]!
      targets[row * context + time] = window[time + 1]!
    }
  }
  return { inputs, targets }
}

/** Starts of the kept-back windows: each piece holds as many as fit. */
export function keptBackStarts(pieces: number[], context: number): number[] {
  const each = Math.max(1, Math.floor(pieceLength(pieces.length, context) / context))
  return pieces.flatMap(piece => Array.from({ length: each }, (_, window) => piece + window * context))
}

/** Starts of the validation windows: as many as `tokens` hold, spread evenly over the text; the same for every method. */
export function validationStarts(length: number, context: number, tokens: number): number[] {
  const most = Math.max(1, Math.floor((length - 1) / context))
  const count = Math.min(most, Math.max(1, Math.floor(tokens / context)))
  const last = length - context - 1
  return Array.from({ length: count }, (_, window) => (count === 1 ? 0 : Math.floor((window * last) / (count - 1))))
}
