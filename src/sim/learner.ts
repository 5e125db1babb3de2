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
  /** Local training of a round. @param start - shape [floats], left as it is. @param trained - rounds that it trained before. */
  train(organization: number, start: Float32Array, trained: number): Learned | Promise<Learned>
  /** Excess loss of `model` on the organization's own data, in nats a byte or the like; ≥ 0. */
  loss(organization: number, model: Float32Array): number | Promise<number>
  /** Bytes of training text, as it declares them. */
  textBytes(organization: number): number
}
