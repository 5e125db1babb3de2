/**
 * Training of one organization, in the thread that it is called in: its text, its engine, its place in the data. The trainer's worker and
 * `trainAlone` are built on it, so that both take the same steps over the same windows.
 */
import { Batches, keptBackBytes, keptBackPieces, keptBackStarts, validationStarts, windowsAt } from '../data/batches.ts'
import { loadText, type OrganizationText } from '../data/text-tree.ts'
import { byteTokenizer } from '../data/tokenizer.ts'
import { createEngine } from '../engine/create.ts'
import type { Engine, OptimizerState } from '../engine/engine.ts'
import type { Layout } from '../model/layout.ts'
import { learningRateAt, type Schedule } from './schedule.ts'

export interface SessionOptions {
  layout: Layout
  text: OrganizationText
  engine: Engine['name']
  threads: number
  /** Windows a step. */
  batch: number
  weightDecay: number
  gradientClip: number
  schedule: Schedule
  /** With the organization's path it draws its windows and its kept-back slice. */
  seed: number
  /** Tokens of the fixed validation set. */
  validationTokens: number
}

export interface Evaluated {
  /** exp of the mean nll a token. */
  perplexity: number
  /** nll in bits over bytes of text. */
  bitsPerByte: number
  nllPerToken: number
  nllPerByte: number
  seconds: number
}

export interface Trained {
  /** Mean over the steps, nats a token. */
  loss: number
  tokens: number
  seconds: number
}

export class TrainingSession {
  readonly engine: Engine
  readonly trainBytes: number
  readonly validBytes: number
  readonly #options: SessionOptions
  readonly #train: Uint8Array | Uint16Array
  readonly #valid: Uint8Array | Uint16Array
  readonly #keptBack: number[]
  #batches: Batches

  private constructor(options: SessionOptions, engine: Engine, train: Uint8Array, valid: Uint8Array) {
    this.#options = options
    this.engine = engine
    this.trainBytes = train.length
    this.validBytes = valid.length
    this.#train = byteTokenizer.encode(train)
    this.#valid = byteTokenizer.encode(valid)
    this.#keptBack = keptBackPieces(this.#train.length, options.layout.config.context, `${options.seed}/${options.text.path}`)
    this.#batches = this.#batchesFrom()
  }

  /** @throws {WorldlmError} of the text, the model, or the engine. */
  static async open(options: SessionOptions): Promise<TrainingSession> {
    const { layout, text, engine, threads, batch, weightDecay, gradientClip } = options
    const { train, valid } = loadText(text, { context: layout.config.context, keptBackBytes })
    const made = await createEngine(engine, { layout, batch, threads, weightDecay, gradientClip })
    return new TrainingSession(options, made, train, valid)
  }

  /** @param state - of the windows, from `state()`. */
  async load(parameters: Float32Array, optimizer?: OptimizerState, state?: number[]): Promise<void> {
    await this.engine.load(parameters, optimizer)
    if (state !== undefined) this.#batches = this.#batchesFrom(state)
  }

  /** Where the random windows stand. */
  state(): number[] {
    return this.#batches.state()
  }

  /** @param startStep - counted over all rounds, for the learning rate. */
  async train(
    steps: number,
    startStep: number,
    onStep: (step: number, loss: number, tokensPerSecond: number) => void,
    signal?: AbortSignal
  ): Promise<Trained> {
    const { layout, batch, schedule } = this.#options
    const stepTokens = batch * layout.config.context
    const begun = performance.now()
    let total = 0
    for (let step = 0; step < steps; step++) {
      signal?.throwIfAborted()
      const loss = await this.engine.step(this.#batches.next(), learningRateAt(startStep + step, schedule))
      total += loss
      onStep(step + 1, loss, ((step + 1) * stepTokens * 1000) / (performance.now() - begun))
    }
    return { loss: total / Math.max(1, steps), tokens: steps * stepTokens, seconds: (performance.now() - begun) / 1000 }
  }

  /** The loaded parameters on the fixed validation set, or on the kept-back slice. */
  async evaluate(set: 'validation' | 'kept-back'): Promise<Evaluated> {
    const { layout, batch, validationTokens } = this.#options
    const { context } = layout.config
    const tokens = set === 'validation' ? this.#valid : this.#train
    const starts =
      set === 'validation'
        ? validationStarts(tokens.length, context, validationTokens)
        : keptBackStarts(this.#keptBack, context)
    const begun = performance.now()
    let nll = 0
    for (let from = 0; from < starts.length; from += batch) {
      const some = starts.slice(from, from + batch)
      // An engine takes whole batches: the last is filled up with its first window, which is not counted again.
      const filled = [...some, ...Array<number>(batch - some.length).fill(some[0]!)]
      const losses = await this.engine.evaluate(windowsAt(tokens, filled, context))
      for (let place = 0; place < some.length * context; place++) nll += losses[place]!
    }
    const count = starts.length * context
    const nllPerByte = nll / byteTokenizer.bytesOf(count)
    const seconds = (performance.now() - begun) / 1000
    return {
      perplexity: Math.exp(nll / count),
      bitsPerByte: nllPerByte / Math.LN2,
      nllPerToken: nll / count,
      nllPerByte,
      seconds
    }
  }

  #batchesFrom(state?: number[]): Batches {
    const { layout, batch, seed, text } = this.#options
    return new Batches(this.#train, {
      context: layout.config.context,
      windows: batch,
      seed: `${seed}/${text.path}`,
      keptBack: this.#keptBack,
      ...(state ? { state } : {})
    })
  }
}
