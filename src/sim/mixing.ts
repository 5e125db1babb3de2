/**
 * The arithmetic of src/aggregate over whole models in memory: what the daemon's mixer does over files (node/mixer-worker.ts), with the
 * same kernels, the same order of inputs, and so the same bits (I7).
 */
import { hash } from 'node:crypto'
import { Attention } from '../aggregate/attend.ts'
import { clipFactors } from '../aggregate/clip.ts'
import type { ModelOperations } from '../aggregate/down.ts'
import { outerStep } from '../aggregate/outer-step.ts'
import { scoreOf } from '../aggregate/scores.ts'
import { type SketchedInput, sketchGroupBytes, sketchLogits, sketchUpdate } from '../aggregate/sketch.ts'
import type { Algorithm } from '../governance/charter.ts'
import type { Link } from '../ids.ts'
import { Vectors } from '../math/vector.ts'
import type { Range } from '../model/layout.ts'
import type { ModelShape } from './learner.ts'

export interface MixInput {
  /** ΔB and K. */
  model: Float32Array
  weight: number
  sketches: Uint8Array
  keysDistance: number
}

export class Mixing {
  readonly shape: ModelShape
  readonly sketchBytes: number
  readonly #vectors: Vectors
  readonly #slots: Float32Array[]
  readonly #scratch: Float64Array
  readonly #seed: number
  readonly #backbone: Range[]
  readonly #keys: Range[]
  /** By the sketches of the first input. */
  readonly #logits = new WeakMap<Uint8Array, { algorithm: Algorithm; inputs: readonly SketchedInput[]; logits: number[][] }>()

  constructor(shape: ModelShape, seed: number) {
    this.shape = shape
    this.sketchBytes = shape.keys.length * sketchGroupBytes
    this.#vectors = new Vectors(shape.floats * 4)
    this.#slots = Array.from({ length: 4 }, () => this.#vectors.allocate(shape.floats))
    this.#scratch = this.#vectors.allocateSketch()
    this.#seed = seed
    this.#backbone = [...shape.backbone]
    this.#keys = [...shape.keys]
  }

  /** ΔB against `base`, K as it is: without a backbone the same model, for nobody changes one in place. */
  difference(after: Float32Array, base: Float32Array): Float32Array {
    if (this.#backbone.length === 0) return after
    const made = after.slice()
    for (const { offset, floats } of this.#backbone)
      for (let place = offset; place < offset + floats; place++) made[place] = after[place]! - base[place]!
    return made
  }

  sketch(after: Float32Array, before: Float32Array): Uint8Array {
    return sketchUpdate(this.#vectors, this.#keys, this.#load(2, after), this.#load(1, before), this.#seed, this.#scratch)
  }

  /** ‖K − K_F‖. */
  keysDistance(candidate: Float32Array, previous: Float32Array): number {
    const [left, right] = [this.#load(2, candidate), this.#load(1, previous)]
    const squared = this.#keys.reduce(
      (sum, range) => sum + this.#vectors.distanceSquared(view(left, range), view(right, range)),
      0
    )
    return Math.sqrt(squared)
  }

  /** As `sketchLogits` has them. Who aggregates an entry, who checks it and I7 ask for the same ones, and replicas share sketches: found once. */
  logits(inputs: readonly SketchedInput[], algorithm: Algorithm): number[][] {
    const key = inputs[0]?.sketches
    const known = key === undefined ? undefined : this.#logits.get(key)
    if (known !== undefined && known.algorithm === algorithm && areSame(known.inputs, inputs)) return known.logits
    const logits = sketchLogits([...inputs], this.#keys.length, algorithm)
    if (key !== undefined)
      this.#logits.set(key, { algorithm, inputs: inputs.map(({ sketches, weight }) => ({ sketches, weight })), logits })
    return logits
  }

  /** @param inputs - sorted by member. */
  aggregate(algorithm: Algorithm, inputs: readonly MixInput[], previous: Float32Array) {
    const vectors = this.#vectors
    const result = this.#slots[0]!
    const before = this.#load(1, previous)
    const total = inputs.reduce((sum, { weight }) => sum + weight, 0)
    const factors = algorithm.clip === 'centered' ? clipFactors(inputs.map(one => one.keysDistance)) : inputs.map(() => 1)
    const logits = this.logits(inputs, algorithm)
    const attention = new Attention(vectors, this.#keys, result)
    for (const range of this.#backbone) view(result, range).fill(0)
    for (const [place, input] of inputs.entries()) {
      const candidate = this.#load(2, input.model)
      for (const range of this.#backbone)
        vectors.scaleAndAdd(view(result, range), 1, view(candidate, range), input.weight / total)
      const factor = factors[place]!
      if (factor < 1)
        for (const range of this.#keys) vectors.scaleAndAdd(view(candidate, range), factor, view(before, range), 1 - factor)
      attention.add(candidate, logits[place]!)
    }
    const weights = this.#keys.length > 0 ? attention.finish() : inputs.map(() => [])
    for (const range of this.#backbone) {
      const target = view(before, range)
      outerStep(vectors, { outer: 'average', outerLearningRate: 1, outerMomentum: 0 }, target, view(result, range), [])
      view(result, range).set(target)
    }
    return { model: result.slice(), attention: weights }
  }

  /** Backbone of one model, key layers of another. */
  combine(backboneFrom: Float32Array, keysFrom: Float32Array): Float32Array {
    if (this.#backbone.length === 0) return keysFrom
    const made = keysFrom.slice()
    // Without views: most models here are smaller than one.
    for (const { offset, floats } of this.#backbone)
      for (let place = offset; place < offset + floats; place++) made[place] = backboneFrom[place]!
    return made
  }

  /** What the way down asks for (aggregate/down.ts). @param initial - what cosines are taken against. */
  operations(initial: Float32Array): ModelOperations<Float32Array> {
    return {
      combine: async (backboneFrom, keysFrom) => this.combine(backboneFrom, keysFrom),
      score: async (query, candidates) => candidates.map(candidate => this.#cosines(query, candidate, initial)),
      mix: async (backboneFrom, candidates) => this.#mix(backboneFrom, candidates)
    }
  }

  #cosines(query: Float32Array, candidate: Float32Array, initial: Float32Array): number[] {
    const [one, other, from] = [this.#load(1, query), this.#load(2, candidate), this.#load(3, initial)]
    return scoreOf(this.#vectors, this.#keys, 'cosine', one, other, from)
  }

  /** A member's own attention: key layers by `logits`, one a candidate and group. */
  #mix(backboneFrom: Float32Array, candidates: readonly { model: Float32Array; logits: number[] }[]) {
    const result = this.#slots[0]!
    const attention = new Attention(this.#vectors, this.#keys, result)
    for (const { model, logits } of candidates) attention.add(this.#load(2, model), logits)
    const weights = this.#keys.length > 0 ? attention.finish() : candidates.map(() => [])
    for (const range of this.#backbone) view(result, range).set(view(backboneFrom, range))
    return { model: result.slice(), weights }
  }

  #load(slot: number, model: Float32Array): Float32Array {
    const target = this.#slots[slot]!
    target.set(model)
    return target
  }
}

const areSame = (left: readonly SketchedInput[], right: readonly SketchedInput[]): boolean =>
  left.length === right.length &&
  left.every(({ sketches, weight }, place) => sketches === right[place]!.sketches && weight === right[place]!.weight)

const view = (vector: Float32Array, { offset, floats }: Range): Float32Array => vector.subarray(offset, offset + floats)

/** The name of a model by its bits. */
export const blobLink = (model: Float32Array): Link => `blob${hash('sha256', model, 'base64url')}`
