/**
 * Aggregation over whole models (docs/algorithm.md, "A round"): the arithmetic that nodes and experiments share.
 *
 * Is: vectors in, vectors out; models are streamed through one slot, so memory is four models (and the outer optimizer's), whatever the
 * number of members. Is not: storage. Where a model comes from, a file or an array, is its `ReadModel`'s business.
 */
import type { Vectors } from '../math/vector.ts'
import { backboneRanges, groupRanges, type Layout, type Range } from '../model/layout.ts'
import { Attention } from './attend.ts'
import { clipFactors } from './clip.ts'
import { type OuterOptions, outerStateVectors, outerStep } from './outer-step.ts'
import { normalizeDistances, scoreOf, type WeightScore } from './scores.ts'
import { isSketched, sketchLogits, type SketchedInput, sketchUpdate, type UpOptions } from './sketch.ts'

/** Fills `into`, shape [layout.floats], with a model. */
export type ReadModel = (into: Float32Array) => void

/** A charter's choices for the way up. */
export interface AggregateOptions extends OuterOptions, UpOptions {
  clip: 'centered' | 'none'
}

/** Result, previous, candidate, reference; two more for the outer optimizer. Untouched pages of the memory cost nothing. */
export const modelSlotsMax = 6

/** Vectors for one layout, kept between jobs. */
export class ModelSpace {
  readonly layout: Layout
  readonly vectors: Vectors
  readonly keys: Range[]
  readonly backbone: Range[]
  readonly #scratch: Float64Array
  readonly #slots: Float32Array[] = []

  /** @param vectors - with room for `modelSlotsMax` models of this layout. */
  constructor(layout: Layout, vectors: Vectors) {
    this.layout = layout
    this.vectors = vectors
    this.keys = groupRanges(layout)
    this.backbone = backboneRanges(layout)
    this.#scratch = vectors.allocateSketch()
  }

  slot(place: number): Float32Array {
    for (let next = this.#slots.length; next <= place; next++) this.#slots.push(this.vectors.allocate(this.layout.floats))
    return this.#slots[place]!
  }

  read(source: ReadModel, place: number): Float32Array {
    const slot = this.slot(place)
    source(slot)
    return slot
  }

  /** Count sketches of the change of K, group after group. */
  sketch(after: Float32Array, before: Float32Array, seed: number): Uint8Array {
    return sketchUpdate(this.vectors, this.keys, after, before, seed, this.#scratch)
  }
}

const view = (vector: Float32Array, { offset, floats }: Range): Float32Array => vector.subarray(offset, offset + floats)

/**
 * No parameter of a trained model, nor its change in a round, comes near. Far beyond it sums of squares are no longer finite in 32 bits: such a
 * model predicts nothing, or nothing but noise, and whatever it is mixed into does as it.
 */
export const parameterMax = 1e6

/** ‖K − K_reference‖ over all key layers; null where the model holds what no model has: more than `parameterMax`, infinity, NaN. Without a reference 0. */
export function keysDistance(space: ModelSpace, model: ReadModel, reference: ReadModel | null): number | null {
  const candidate = space.read(model, 2)
  if (!space.vectors.allWithin(candidate, parameterMax)) return null
  if (reference === null) return 0
  const previous = space.read(reference, 1)
  return Math.sqrt(
    space.keys.reduce((sum, range) => sum + space.vectors.distanceSquared(view(candidate, range), view(previous, range)), 0)
  )
}

export interface AggregateModels {
  options: AggregateOptions
  /** The federation's last model: B_F and K_F. */
  previous: ReadModel
  /** The initial model: reference of the score `cosine`. */
  genesis: ReadModel
  /** In order of member: ΔB and K, weight w in tokens, the sketch of K's change, ‖K − K_F‖. */
  inputs: (SketchedInput & { read: ReadModel; keysDistance: number })[]
  /** Whether the outer optimizer steps the backbone (a root); below a root the mean change is added as it is. */
  root: boolean
  /** Reads the outer optimizer's state into these vectors, or null to begin; see `outerStateVectors`. */
  outerState: ((into: Float32Array[]) => void) | null
  /** Of the sketches. */
  seed: number
}

export interface AggregatedModel {
  /** The federation's new model: a slot, valid until the next job. */
  model: Float32Array
  /** [inputs][groups] */
  attention: number[][]
  /** Of the federation's own previous K, where it is a candidate; else empty. */
  ownAttention: number[]
  /** Of the change of K. */
  sketches: Uint8Array
  /** The outer optimizer's new state: slots; empty where it has none. */
  outerState: Float32Array[]
}

/** B ← outer(B, Σ w ΔB / Σ w); K ← attention over the members' clipped K, group by group. */
export function aggregateModels(space: ModelSpace, job: AggregateModels): AggregatedModel {
  const { vectors, keys, backbone } = space
  const { options, inputs } = job
  const result = space.slot(0)
  const previous = space.read(job.previous, 1)
  const total = inputs.reduce((sum, { weight }) => sum + weight, 0)
  const factors =
    options.clip === 'centered' ? clipFactors(inputs.map(({ keysDistance: distance }) => distance)) : inputs.map(() => 1)
  const logits = isSketched(options) ? sketchLogits(inputs, keys.length, options) : weightLogits(space, job)
  const own = logits.length - inputs.length
  const attention = new Attention(vectors, keys, result)
  if (own === 1) attention.add(previous, logits[0]!)
  for (const range of backbone) view(result, range).fill(0)
  for (const [place, input] of inputs.entries()) {
    const candidate = space.read(input.read, 2)
    for (const range of backbone) vectors.scaleAndAdd(view(result, range), 1, view(candidate, range), input.weight / total)
    const factor = factors[place]!
    if (factor < 1)
      for (const range of keys) vectors.scaleAndAdd(view(candidate, range), factor, view(previous, range), 1 - factor)
    attention.add(candidate, logits[own + place]!)
  }
  // Without key layers there is no attention, and still a row for each input.
  const weights = keys.length > 0 ? attention.finish() : logits.map(() => [])
  const outerState = stepBackbone(space, job, result, previous)
  return {
    model: result,
    attention: weights.slice(own),
    ownAttention: own === 1 ? (weights[0] ?? []) : [],
    sketches: space.sketch(result, previous, job.seed),
    outerState
  }
}

/** Scores of the paper's family: the federation's own K is the first candidate. */
function weightLogits(space: ModelSpace, { options, inputs, genesis, previous }: AggregateModels): number[][] {
  const scores = scoreModels(space, options.up as WeightScore, previous, [previous, ...inputs.map(({ read }) => read)], genesis)
  return scores.map(row => row.map(score => score / options.upTemperature))
}

/** @returns [candidates][groups]; the first candidate is the query itself. */
export function scoreModels(
  space: ModelSpace,
  score: WeightScore,
  query: ReadModel,
  candidates: ReadModel[],
  reference: ReadModel
): number[][] {
  const q = space.read(query, 1)
  const ref = space.read(reference, 3)
  const rows = candidates.map(read => scoreOf(space.vectors, space.keys, score, q, space.read(read, 2), ref))
  return score === 'distance' ? normalizeDistances(rows) : rows
}

/** `result`'s backbone holds the mean change; afterwards, the new backbone. */
function stepBackbone(
  space: ModelSpace,
  { options, root, outerState }: AggregateModels,
  result: Float32Array,
  previous: Float32Array
): Float32Array[] {
  const { vectors, backbone } = space
  const count = root && backbone.length > 0 ? outerStateVectors[options.outer] : 0
  const state = Array.from({ length: count }, (_, place) => space.slot(4 + place))
  if (count > 0) {
    if (outerState === null) for (const vector of state) vector.fill(0)
    else outerState(state)
  }
  const rule = root ? options : { outer: 'average' as const, outerLearningRate: 1, outerMomentum: 0 }
  for (const range of backbone) {
    const target = view(previous, range)
    outerStep(
      vectors,
      rule,
      target,
      view(result, range),
      state.map(vector => view(vector, range))
    )
    view(result, range).set(target)
  }
  return state
}

/** Backbone of one model, key layers of another. @returns a slot. */
export function combineModels(space: ModelSpace, backboneFrom: ReadModel, keysFrom: ReadModel): Float32Array {
  const model = space.read(keysFrom, 0)
  const other = space.read(backboneFrom, 1)
  for (const range of space.backbone) view(model, range).set(view(other, range))
  return model
}

/** ΔB against `base`, K as it is: what a federation hands in above, or an organization in its federation. @returns a slot. */
export function differenceOfModels(space: ModelSpace, model: ReadModel, base: ReadModel): Float32Array {
  const after = space.read(model, 0)
  const before = space.read(base, 1)
  for (const range of space.backbone) space.vectors.scaleAndAdd(view(after, range), 1, view(before, range), -1)
  return after
}

/** K ← K − K_base, in place: what the block encodings carry (encode.ts). Reads `base` into a slot. */
export function keysAgainst(space: ModelSpace, update: Float32Array, base: ReadModel): void {
  const before = space.read(base, 1)
  for (const range of space.keys) space.vectors.scaleAndAdd(view(update, range), 1, view(before, range), -1)
}

/** Forgets the rest of K: a member that keeps its K has what was not sent in its next difference again. */
export function forgetKeys(space: ModelSpace, rest: Float32Array): void {
  for (const range of space.keys) view(rest, range).fill(0)
}

/** K = Σ softmax(logits)·K_c a group, with the backbone of `backboneFrom`. @returns a slot, and the weights [candidates][groups]. */
export function mixModels(
  space: ModelSpace,
  backboneFrom: ReadModel,
  candidates: { read: ReadModel; logits: number[] }[]
): { model: Float32Array; weights: number[][] } {
  const result = space.slot(0)
  const attention = new Attention(space.vectors, space.keys, result)
  for (const { read, logits } of candidates) attention.add(space.read(read, 2), logits)
  const weights = space.keys.length > 0 ? attention.finish() : candidates.map(() => [])
  const base = space.read(backboneFrom, 1)
  for (const range of space.backbone) view(result, range).set(view(base, range))
  return { model: result, weights }
}
