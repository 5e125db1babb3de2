/**
 * The learner `quadratic`: organization i has the loss ½·Σ aⱼ(θⱼ − θ*ᵢⱼ)²/d, and trains by H steps of gradient descent with noise, in
 * closed form: θ ← θ* + (1 − η·a)^H·(θ − θ*) + σ·noise.
 *
 * Heterogeneity h sets how far optima lie apart: each federation on an organization's path moves it by h·N(0, 1), and the
 * organization itself by h/2·N(0, 1), so that kin are alike. h = 0: all want the same.
 */
import { Random } from '../math/random.ts'
import type { Learned, Learner, ModelShape } from './learner.ts'

export interface QuadraticOptions {
  /** Path of federations of each organization, the world first. */
  paths: readonly string[]
  /** h ≥ 0. */
  heterogeneity: number
  /** Share of the model that is key layers, 0 to 1. */
  keyFraction: number
  /** A multiple of 8. */
  floats: number
  seed: number
}

const localSteps = 10
const learningRate = 0.08
const noise = 0.02
const stepTokens = 1000

export class Quadratic implements Learner {
  readonly name = 'quadratic'
  readonly targetShare = 0.1
  readonly shape: ModelShape
  readonly initial: Float32Array
  readonly roundTokens = localSteps * stepTokens
  readonly #optima: Float32Array[]
  readonly #curvature: Float32Array
  readonly #contraction: Float32Array
  readonly #text: number[]
  readonly #seed: number

  constructor({ paths, heterogeneity, keyFraction, floats, seed }: QuadraticOptions) {
    const keyFloats = Math.round((keyFraction * floats) / 4) * 4
    this.shape = {
      floats,
      backbone: keyFloats < floats ? [{ offset: 0, floats: floats - keyFloats }] : [],
      keys: keyFloats > 0 ? [{ offset: floats - keyFloats, floats: keyFloats }] : []
    }
    this.#seed = seed
    const random = new Random(`quadratic/${seed}`)
    const draw = (scale: number, from: Random) => Float32Array.from({ length: floats }, () => scale * from.normal())
    const center = draw(2, random)
    this.initial = new Float32Array(floats)
    this.#curvature = Float32Array.from({ length: floats }, () => 0.3 * 10 ** random.float())
    this.#contraction = this.#curvature.map(a => (1 - Math.min(0.9, learningRate * a)) ** localSteps)
    const shifts = new Map<string, Float32Array>()
    this.#optima = paths.map((path, organization) => {
      const optimum = center.slice()
      const steps = path.split('/')
      for (let depth = 2; depth <= steps.length; depth++) {
        const federation = steps.slice(0, depth).join('/')
        const shift = shifts.get(federation) ?? draw(heterogeneity, new Random(`${seed}/${federation}`))
        shifts.set(federation, shift)
        for (const [place, value] of shift.entries()) optimum[place]! += value
      }
      const own = new Random(`${seed}/organization/${organization}`)
      for (let place = 0; place < floats; place++) optimum[place]! += (heterogeneity / 2) * own.normal()
      return optimum
    })
    this.#text = paths.map(() => 2 ** (16 + random.below(4)))
  }

  train(organization: number, start: Float32Array, trained: number): Learned {
    const optimum = this.#optima[organization]!
    const random = new Random(`${this.#seed}/${organization}/${trained}`)
    const after = new Float32Array(start.length)
    for (let place = 0; place < after.length; place++) {
      const from = optimum[place]!
      after[place] = from + this.#contraction[place]! * (start[place]! - from) + noise * random.normal()
    }
    return { after, loss: (this.loss(organization, start) + this.loss(organization, after)) / 2, tokens: this.roundTokens }
  }

  loss(organization: number, model: Float32Array): number {
    const optimum = this.#optima[organization]!
    let sum = 0
    for (let place = 0; place < model.length; place++) {
      const gap = model[place]! - optimum[place]!
      sum += this.#curvature[place]! * gap * gap
    }
    return sum / (2 * model.length)
  }

  judge(organization: number, model: Float32Array): number {
    return this.loss(organization, model)
  }

  textBytes(organization: number): number {
    return this.#text[organization]!
  }
}
