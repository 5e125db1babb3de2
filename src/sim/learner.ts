/**
 * What an organization of a simulation learns. The simulator asks for three things and knows nothing else of models: `quadratic.ts`
 * answers in closed form, for thousands of peers; an engine answers by training, for a few (injected: this folder imports no engine).
 */
import type { Range } from '../model/layout.ts'

/** One flat model: what is averaged, and the groups that are attended to. */
export interface ModelShape {
  /** A multiple of 4. */
  floats: number
  backbone: readonly Range[]
  /** Key layers, a range a group. */
  keys: readonly Range[]
}

export interface Learned {
  /** Shape [floats]. */
  after: Float32Array
  /** Mean over the round's steps, in the unit of `loss`. */
  loss: number
  /** Weight of the update. */
  tokens: number
}

export interface Learner {
  readonly name: string
  readonly shape: ModelShape
  /** What all begin with, shape [floats]. */
  readonly initial: Float32Array
  /** Tokens of a round at most: heavier updates are refused. */
  readonly roundTokens: number
  /** What a model weighs on the network; left out: as the options say. */
  readonly modelBytes?: number
  /** Share of the loss before training that counts as reached. */
  readonly targetShare: number
  /** Paths of the organizations' texts, where they have any: then each has its figures in the report. */
  readonly names?: readonly string[]
  /** Local training of a round, begun when it begins in virtual time: those of several organizations may run side by side. @param start - shape [floats], left as it is. @param trained - rounds that it trained before. @param round - of its federation, from 1. */
  train(organization: number, start: Float32Array, trained: number, round: number): Learned | Promise<Learned>
  /** Excess loss of `model` on the organization's own data, in nats a byte or the like; ≥ 0. */
  loss(organization: number, model: Float32Array): number | Promise<number>
  /** The same on data that choices may be made by: what a federation's model is worth to the organization. */
  judge(organization: number, model: Float32Array): number | Promise<number>
  /** Bytes of training text, as it declares them. */
  textBytes(organization: number): number
}

/** What nobody may come to ask for, because its organization dies meanwhile, or another failed first: then nobody hears of its failure either. */
export function begun<Result>(result: Result | Promise<Result>): Result | Promise<Result> {
  if (result instanceof Promise) result.catch(() => undefined)
  return result
}
