/**
 * Training of one organization, in the thread that it is called in: its text, its engine, its place in the data. The trainer's worker and
 * `trainAlone` are built on it, so that both take the same steps over the same windows.
 */
import { readFileSync } from 'node:fs'
import {
  Batches,
  keptBackPieces,
  keptBackStarts,
  textNeeds,
  type Tokens,
  validationStarts,
  windowsAt
} from '../data/batches.ts'
import { loadText, type OrganizationText, trainLeast } from '../data/text-tree.ts'
import type { Bytes } from '../data/spool.ts'
import { openTokenizer, type Tokenizer } from '../data/tokenizer.ts'
import { WorldlmError } from '../errors.ts'
import { createEngine } from '../engine/create.ts'
import type { Engine, EngineOptions, ExternalOptions, OptimizerState, Pull } from '../engine/engine.ts'
import type { Batch } from '../model/batch.ts'
import type { Layout } from '../model/layout.ts'
import { readModelFile } from './model-file.ts'
import { learningRateAt, type Schedule } from './schedule.ts'

export interface SessionOptions {
  layout: Layout
  /** File of the model below, where the layout is of adapters. Whoever shares an engine gives it the base itself (`loadBase`). */
  base?: string
  text: OrganizationText
  /** tokenizer.json; null: tokens are bytes. */
  tokenizer: string | null
  engine: Engine['name']
  /** Of the engine `onnx`. */
  device?: EngineOptions['device']
  recompute?: EngineOptions['recompute']
  microBatch?: number
  /** Of the engine `external`. */
  external?: ExternalOptions
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
  /** The same of stretches of 128 tokens (or a whole window, where that is shorter), in their order. */
  parts: number[]
  seconds: number
}

export interface Trained {
  /** Mean over the steps, nats a token. */
  loss: number
  tokens: number
  seconds: number
}

/** A step that was taken. */
export interface Step {
  /** Counted from 1, with those before. */
  step: number
  loss: number
  /** Of all steps up to this one; of engines that take many at once, only of those before. */
  lossSum: number
  tokensPerSecond: number
}

interface TrainOptions {
  pull?: Pull
  before?: { steps: number; loss: number }
  ownStartStep?: number
}

const partTokensMost = 128

export class TrainingSession {
  readonly engine: Engine
  readonly trainBytes: number
  readonly validBytes: number
  readonly #options: SessionOptions
  readonly #tokenizer: Tokenizer
  readonly #train: Tokens
  readonly #valid: Tokens
  readonly #keptBack: number[]
  /** Where the windows stand before any was drawn. */
  readonly firstState: number[]
  #batches: Batches

  private constructor(options: SessionOptions, engine: Engine, tokenizer: Tokenizer, texts: Texts) {
    this.#options = options
    this.engine = engine
    this.trainBytes = texts.train.length
    this.validBytes = texts.valid.length
    this.#tokenizer = tokenizer
    this.#train = texts.trainTokens
    this.#valid = texts.validTokens
    this.#keptBack = keptBackPieces(this.#train.length, options.layout.config.context, `${options.seed}/${options.text.path}`)
    this.#batches = this.#batchesFrom()
    this.firstState = this.#batches.state()
  }

  /**
   * @param shared - an engine that sessions take turns with: each loads its parameters before it works.
   * @throws {WorldlmError} of the text, the model, the tokenizer, or the engine.
   */
  static async open(
    options: SessionOptions,
    shared?: Engine,
    onWarning?: (code: string, message: string) => void
  ): Promise<TrainingSession> {
    const { layout, engine, device, recompute, microBatch, external, threads, batch, weightDecay, gradientClip } = options
    const tokenizer = readTokenizer(options.tokenizer, layout.config.vocabulary)
    const texts = await readTexts(options, tokenizer)
    const made =
      shared ??
      (await createEngine(engine, {
        layout,
        batch,
        threads,
        weightDecay,
        gradientClip,
        ...(device && { device }),
        ...(recompute && { recompute }),
        ...(microBatch && { microBatch }),
        ...(external && { external }),
        ...(onWarning && { onWarning })
      }))
    if (shared === undefined && options.base !== undefined && layout.base !== undefined) {
      const base = new Float32Array(layout.base.floats)
      readModelFile(options.base, layout.base, [base])
      await made.loadBase(base)
    }
    return new TrainingSession(options, made, tokenizer, texts)
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

  /** The next random windows. */
  next(): Batch {
    return this.#batches.next()
  }

  /**
   * @param startStep - counted over all rounds, for the learning rate. @param onStep - awaited, but by engines that take many steps at once.
   * @param ownStartStep - of the steps before, those that were taken here. @param pull - a proximal term. @param before - steps of this training that were taken already, and the sum of their losses.
   */
  async train(
    steps: number,
    startStep: number,
    onStep: (told: Step) => void | Promise<void>,
    signal?: AbortSignal,
    { pull, before = { steps: 0, loss: 0 }, ownStartStep = startStep }: TrainOptions = {}
  ): Promise<Trained> {
    const { layout, batch, schedule } = this.#options
    const stepTokens = batch * layout.config.context
    const rateAt = (step: number) => learningRateAt(startStep + step, schedule, ownStartStep + step)
    const begun = performance.now()
    let total = before.loss
    const tell = (step: number, loss: number) =>
      onStep({
        step: before.steps + step,
        loss,
        lossSum: total,
        tokensPerSecond: (step * stepTokens * 1000) / (performance.now() - begun)
      })
    if (this.engine.steps !== undefined && pull === undefined) {
      const batches = Array.from({ length: steps }, () => this.next())
      const rates = batches.map((_, step) => rateAt(step))
      for (const loss of await this.engine.steps(batches, rates, tell, signal)) total += loss
    } else {
      for (let step = 0; step < steps; step++) {
        signal?.throwIfAborted()
        const loss = await this.engine.step(this.next(), rateAt(step), pull)
        total += loss
        await tell(step + 1, loss)
      }
    }
    const all = before.steps + steps
    return { loss: total / Math.max(1, all), tokens: all * stepTokens, seconds: (performance.now() - begun) / 1000 }
  }

  /** The loaded parameters on the fixed validation set, or on the kept-back slice. */
  async evaluate(set: 'validation' | 'kept-back', signal?: AbortSignal): Promise<Evaluated> {
    const { layout, batch, validationTokens } = this.#options
    const { context } = layout.config
    const tokens = set === 'validation' ? this.#valid : this.#train
    const starts =
      set === 'validation'
        ? validationStarts(tokens.length, context, validationTokens)
        : keptBackStarts(this.#keptBack, context)
    const begun = performance.now()
    const batches: Batch[] = []
    for (let from = 0; from < starts.length; from += batch) {
      const some = starts.slice(from, from + batch)
      // An engine takes whole batches: the last is filled up with its first window, which is not counted again.
      const filled = [...some, ...Array<number>(batch - some.length).fill(some[0]!)]
      batches.push(windowsAt(tokens, filled, context))
    }
    const far = await this.engine.evaluations?.(batches, signal)
    let nll = 0
    let bytes = 0
    const parts: { nll: number; bytes: number }[] = []
    const partTokens = Math.min(partTokensMost, context)
    for (const [place, windows] of batches.entries()) {
      signal?.throwIfAborted()
      const losses = far?.[place] ?? (await this.engine.evaluate(windows))
      const counted = Math.min(batch, starts.length - place * batch) * context
      for (let at = 0; at < counted; at++) {
        const length = this.#tokenizer.bytesOf(windows.targets[at]!)
        nll += losses[at]!
        bytes += length
        const part = (parts[Math.floor((place * batch * context + at) / partTokens)] ??= { nll: 0, bytes: 0 })
        part.nll += losses[at]!
        part.bytes += length
      }
    }
    const count = starts.length * context
    const nllPerByte = nll / Math.max(1, bytes)
    const seconds = (performance.now() - begun) / 1000
    return {
      perplexity: Math.exp(nll / count),
      bitsPerByte: nllPerByte / Math.LN2,
      nllPerToken: nll / count,
      nllPerByte,
      parts: parts.map(part => part.nll / Math.max(1, part.bytes)),
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

interface Texts {
  train: Bytes
  valid: Bytes
  trainTokens: Tokens
  validTokens: Tokens
}

/** @throws {WorldlmError} TOKENIZER_MISSING, TOKENIZER_INVALID, TOKENIZER_TOO_LARGE */
export function readTokenizer(path: string | null, vocabulary: number): Tokenizer {
  let json: string | null = null
  try {
    if (path !== null) json = readFileSync(path, 'utf8')
  } catch (cause) {
    throw new WorldlmError(
      'TOKENIZER_MISSING',
      `${path} cannot be read: ${(cause as Error).message}`,
      'Give the tokenizer.json that the model was trained with.',
      { cause }
    )
  }
  const tokenizer = openTokenizer(json, path ?? 'bytes')
  if (tokenizer.vocabulary > vocabulary) {
    throw new WorldlmError(
      'TOKENIZER_TOO_LARGE',
      `${path ?? 'the byte tokenizer'} has ${tokenizer.vocabulary} tokens, the model knows ${vocabulary}`,
      'Give the tokenizer that belongs to the model, or raise model.vocabulary.'
    )
  }
  return tokenizer
}

/** @throws {WorldlmError} DATA_*: also of a text that is long enough in bytes and too short in tokens. */
async function readTexts({ text, layout }: SessionOptions, tokenizer: Tokenizer): Promise<Texts> {
  const { context } = layout.config
  const needs = textNeeds(context)
  const { train, valid } = await loadText(text, needs)
  const [trainTokens, validTokens] = [train, valid].map(one => tokenizer.encode(one, text.memoryBytesMax)) as [Tokens, Tokens]
  const texts = { train, valid, trainTokens, validTokens }
  const checks = [
    ['for training', texts.trainTokens.length, trainLeast(needs)],
    ['for validation', texts.validTokens.length, context + 1]
  ] as const
  for (const [what, tokens, least] of checks) {
    if (tokens >= least) continue
    throw new WorldlmError(
      'DATA_TOO_SHORT',
      `organization ${text.path} has ${tokens} tokens ${what}, it needs at least ${least}`,
      'Add text, or choose a model with a shorter context.'
    )
  }
  return texts
}
