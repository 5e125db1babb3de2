/**
 * Real training for the simulator (sim/learner.ts, whose interface this has): each simulated organization has text of its own, and trains
 * by the same engine, batches and schedule as a node.
 *
 * Deterministic: what a round of training comes to depends on the organization, its start, the round, and those that it trained before; who of
 * the worker threads does it, and when, does not matter. An organization that dies before its update is on disk trains the round again, from
 * the same windows and moments.
 */
import { declaredTextBytes } from '../aggregate/attend.ts'
import type { OrganizationText } from '../data/text-tree.ts'
import type { Engine } from '../engine/engine.ts'
import { initialParameters } from '../model/initial.ts'
import { backboneRanges, createLayout, groupRanges, type Range } from '../model/layout.ts'
import { scheduleOf, stepsBefore } from '../train/schedule.ts'
import type { SessionOptions } from '../train/session.ts'
import { shared, sharedModel } from './jobs.ts'
import { type AlgorithmInput, cellOptions, validationTokens } from './options.ts'
import { Pool } from './pool.ts'

export interface EngineLearnerOptions {
  /** One an organization, in their order. */
  texts: readonly OrganizationText[]
  model: unknown
  /** Of the charter: steps, batch, keyFraction and the like. */
  algorithm: AlgorithmInput
  engine: Engine['name']
  /** Threads that train, an organization each. */
  workers: number
  seed: number
  onSteps?: (steps: number) => void
}

/** What an organization's training goes on from, by the rounds before. */
interface Moments {
  first: Float32Array
  second: Float32Array
  step: number
  windows: number[]
}

export class EngineLearner {
  readonly name = 'engine'
  readonly shape: { floats: number; backbone: readonly Range[]; keys: readonly Range[] }
  readonly initial: Float32Array
  readonly roundTokens: number
  readonly modelBytes: number
  readonly targetShare = 0.5
  readonly names: readonly string[]
  readonly #pool: Pool
  readonly #sessions: SessionOptions[]
  readonly #textBytes: number[]
  readonly #steps: number
  readonly #keepOptimizer: boolean
  /** Of each organization, its newest two. */
  readonly #moments: Map<number, Moments>[]

  private constructor(
    pool: Pool,
    sessions: SessionOptions[],
    opened: { trainBytes: number; windows: number[] }[],
    { steps, keepOptimizer }: { steps: number; keepOptimizer: boolean }
  ) {
    const { layout, batch, seed } = sessions[0]!
    this.#pool = pool
    this.#sessions = sessions
    this.#steps = steps
    this.#keepOptimizer = keepOptimizer
    this.#textBytes = opened.map(({ trainBytes }) => declaredTextBytes(trainBytes))
    this.shape = { floats: layout.floats, backbone: backboneRanges(layout), keys: groupRanges(layout) }
    this.initial = initialParameters(layout, seed)
    this.roundTokens = steps * batch * layout.config.context
    this.modelBytes = layout.floats * 4
    this.names = sessions.map(({ text }) => text.path)
    this.#moments = opened.map(({ windows }) => new Map([[0, { ...noMoments(layout.floats), windows }]]))
  }

  /** @throws {WorldlmError} of the model, the options, the texts. */
  static async open({ texts, workers, seed, engine, onSteps, ...rest }: EngineLearnerOptions): Promise<EngineLearner> {
    const { model, algorithm } = cellOptions({ ...rest, settings: {} }, {}, {})
    const { batch, weightDecay, gradientClip } = algorithm
    const layout = createLayout(model, algorithm)
    const sessions = texts.map(text => ({
      ...{ layout, tokenizer: null, text, engine, threads: 1, batch, weightDecay, gradientClip },
      ...{ schedule: scheduleOf(algorithm), seed, validationTokens }
    }))
    const pool = new Pool(workers, steps => onSteps?.(steps))
    try {
      const opened = await Promise.all(sessions.map(session => pool.open(session)))
      return new EngineLearner(pool, sessions, opened, algorithm)
    } catch (error) {
      await pool.close()
      throw error
    }
  }

  async train(organization: number, start: Float32Array, trained: number, round: number) {
    const [session, known] = [this.#sessions[organization]!, this.#moments[organization]!]
    // One that lost its disk begins anew.
    const before = known.get(trained) ?? known.get(0)!
    const learner = {
      ...{ parameters: shared(start), first: shared(before.first), second: shared(before.second) },
      ...{ step: before.step, windows: before.windows }
    }
    const [steps, startStep] = [this.#steps, stepsBefore(round, trained, this.#steps)]
    const job = {
      session,
      start: shared(start),
      learner,
      keepOptimizer: this.#keepOptimizer,
      steps,
      startStep,
      ownStartStep: trained * this.#steps
    }
    const { loss } = await this.#pool.train({ ...job, pull: null, base: null, evaluate: false })
    const { parameters, first, second, step, windows } = learner
    known.set(trained + 1, { first, second, step, windows })
    for (const round of known.keys()) if (round > 0 && round < trained) known.delete(round)
    return { after: parameters.slice(), loss, tokens: this.roundTokens }
  }

  /** Nats a byte on the validation set. */
  async loss(organization: number, model: Float32Array): Promise<number> {
    return this.#nll(organization, model, 'validation')
  }

  /** Nats a byte on the slice that is kept back from training. */
  async judge(organization: number, model: Float32Array): Promise<number> {
    return this.#nll(organization, model, 'kept-back')
  }

  textBytes(organization: number): number {
    return this.#textBytes[organization]!
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    await this.#pool.close()
  }

  async #nll(organization: number, model: Float32Array, set: 'validation' | 'kept-back'): Promise<number> {
    const [evaluated] = await this.#pool.evaluate(this.#sessions[organization]!, [shared(model)], set)
    return evaluated!.nllPerByte
  }
}

const noMoments = (floats: number) => ({ first: sharedModel(floats), second: sharedModel(floats), step: 0 })
