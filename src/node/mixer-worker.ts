/**
 * The heavy half of the mixer: whole models in a worker thread, so that the node's event loop stays free for heartbeats.
 *
 * Memory: four vectors as long as the model (and the outer optimizer's), whatever the number of members; files are streamed through
 * one of them.
 */
import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { Attention } from '../aggregate/attend.ts'
import { clipFactors } from '../aggregate/clip.ts'
import { outerStateVectors, outerStep } from '../aggregate/outer-step.ts'
import { normalizeDistances, scoreOf, type WeightScore } from '../aggregate/scores.ts'
import { isSketched, sketchLogits, sketchUpdate } from '../aggregate/sketch.ts'
import { Vectors } from '../math/vector.ts'
import { backboneRanges, groupRanges, type Layout, type Range } from '../model/layout.ts'
import { readModelFile, writeModelFile } from '../train/model-file.ts'
import { WorldlmError } from '../errors.ts'
import type { AggregateJob, AggregateResult, MixerJob, MixJob, ScoreJob } from './mixer.ts'

/** Vectors for one layout, kept between jobs. */
class Workspace {
  readonly layout: Layout
  readonly vectors: Vectors
  readonly keys: Range[]
  readonly backbone: Range[]
  readonly scratch: Float64Array
  readonly #slots: Float32Array[] = []

  constructor(layout: Layout) {
    this.layout = layout
    this.vectors = new Vectors(layout.floats * slotsMax)
    this.keys = groupRanges(layout)
    this.backbone = backboneRanges(layout)
    this.scratch = this.vectors.allocateSketch()
  }

  slot(place: number): Float32Array {
    for (let next = this.#slots.length; next <= place; next++) this.#slots.push(this.vectors.allocate(this.layout.floats))
    return this.#slots[place]!
  }

  read(path: string, place: number): Float32Array {
    const slot = this.slot(place)
    readModelFile(path, this.layout, [slot])
    return slot
  }
}

/** Result, previous, candidate, reference; two more for the outer optimizer. Untouched pages of the memory cost nothing. */
const slotsMax = 6

const workspaces = new Map<string, Workspace>()
function workspaceOf(layout: Layout): Workspace {
  const key = JSON.stringify([layout.config, layout.groups])
  const known = workspaces.get(key)
  if (known !== undefined) return known
  workspaces.clear()
  const workspace = new Workspace(layout)
  workspaces.set(key, workspace)
  return workspace
}

const view = (vector: Float32Array, { offset, floats }: Range): Float32Array => vector.subarray(offset, offset + floats)

function inspect(layout: Layout, path: string, reference: string): { fault: string | null; keysDistance: number } {
  const space = workspaceOf(layout)
  try {
    const candidate = space.read(path, 2)
    if (!space.vectors.allFinite(candidate)) return { fault: 'it holds a value that is not finite', keysDistance: 0 }
    const previous = space.read(reference, 1)
    const squared = space.keys.reduce(
      (sum, range) => sum + space.vectors.distanceSquared(view(candidate, range), view(previous, range)),
      0
    )
    return { fault: null, keysDistance: Math.sqrt(squared) }
  } catch (error) {
    if (error instanceof WorldlmError && error.code === 'MODEL_DAMAGED') return { fault: error.message, keysDistance: 0 }
    throw error
  }
}

function aggregate(job: AggregateJob): AggregateResult {
  const space = workspaceOf(job.layout)
  const { vectors, keys, backbone } = space
  const { algorithm, inputs } = job
  const result = space.slot(0)
  const previous = space.read(job.previous, 1)
  const total = inputs.reduce((sum, { weight }) => sum + weight, 0)
  const factors =
    algorithm.clip === 'centered' ? clipFactors(inputs.map(({ keysDistance }) => keysDistance)) : inputs.map(() => 1)
  const logits = isSketched(algorithm) ? sketchLogits(inputs, keys.length, algorithm) : weightLogits(space, job)
  const own = logits.length - inputs.length
  const attention = new Attention(vectors, keys, result)
  if (own === 1) attention.add(previous, logits[0]!)
  for (const range of backbone) view(result, range).fill(0)
  for (const [place, input] of inputs.entries()) {
    const candidate = space.read(input.path, 2)
    for (const range of backbone) vectors.scaleAndAdd(view(result, range), 1, view(candidate, range), input.weight / total)
    const factor = factors[place]!
    if (factor < 1)
      for (const range of keys) vectors.scaleAndAdd(view(candidate, range), factor, view(previous, range), 1 - factor)
    attention.add(candidate, logits[own + place]!)
  }
  const weights = attention.finish()
  stepBackbone(space, job, result, previous)
  const sketches = sketchUpdate(vectors, keys, result, previous, job.seed, space.scratch)
  writeModelFile(job.output, job.layout, [result])
  return { attention: weights.slice(own), ownAttention: own === 1 ? (weights[0] ?? []) : [], sketches }
}

/** Scores of the paper's family: the federation's own K is the first candidate. */
function weightLogits(space: Workspace, { algorithm, inputs, genesis, previous }: AggregateJob): number[][] {
  const paths = [previous, ...inputs.map(({ path }) => path)]
  const scores = scorePaths(space, algorithm.up as WeightScore, previous, paths, genesis)
  return scores.map(row => row.map(score => score / algorithm.upTemperature))
}

function scorePaths(space: Workspace, score: WeightScore, query: string, paths: string[], reference: string): number[][] {
  const q = space.read(query, 1)
  const ref = space.read(reference, 3)
  const rows = paths.map(path => scoreOf(space.vectors, space.keys, score, q, space.read(path, 2), ref))
  return score === 'distance' ? normalizeDistances(rows) : rows
}

/** `result`'s backbone holds the mean change; afterwards, the new backbone. */
function stepBackbone(
  space: Workspace,
  { algorithm, outer, layout }: AggregateJob,
  result: Float32Array,
  previous: Float32Array
): void {
  const { vectors, backbone } = space
  const count = outer === null ? 0 : outerStateVectors[algorithm.outer]
  const state = Array.from({ length: count }, (_, place) => space.slot(4 + place))
  const sections = state.map((_, place) => `outer.${place}.`)
  if (outer !== null && count > 0) {
    if (outer.from === null) for (const vector of state) vector.fill(0)
    else readModelFile(outer.from, layout, state, sections)
  }
  const rule = outer === null ? { outer: 'average' as const, outerLearningRate: 1, outerMomentum: 0 } : algorithm
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
  if (outer !== null && count > 0) writeModelFile(outer.output, layout, state, { sections })
}

/** Backbone of one model, key layers of another. */
function combine(layout: Layout, backboneFrom: string, keysFrom: string, output: string): void {
  const space = workspaceOf(layout)
  const model = space.read(keysFrom, 0)
  const other = space.read(backboneFrom, 1)
  for (const range of space.backbone) view(model, range).set(view(other, range))
  writeModelFile(output, layout, [model])
}

/** ΔB against `base`, K as it is: what a federation hands in above, or an organization in its federation. */
function difference(layout: Layout, model: string, base: string, output: string, encoding: 'f32' | 'bf16'): void {
  const space = workspaceOf(layout)
  const after = space.read(model, 0)
  const before = space.read(base, 1)
  for (const range of space.backbone) space.vectors.scaleAndAdd(view(after, range), 1, view(before, range), -1)
  writeModelFile(output, layout, [after], { encoding })
}

function mix({ layout, backboneFrom, candidates, output }: MixJob): number[][] {
  const space = workspaceOf(layout)
  const result = space.slot(0)
  const attention = new Attention(space.vectors, space.keys, result)
  for (const { path, logits } of candidates) attention.add(space.read(path, 2), logits)
  const weights = space.keys.length > 0 ? attention.finish() : candidates.map(() => [])
  const base = space.read(backboneFrom, 1)
  for (const range of space.backbone) view(result, range).set(view(base, range))
  writeModelFile(output, layout, [result])
  return weights
}

function score({ layout, query, candidates, score: name, reference }: ScoreJob): number[][] {
  return scorePaths(workspaceOf(layout), name, query, candidates, reference)
}

function sketch(layout: Layout, after: string, before: string, seed: number): Uint8Array {
  const space = workspaceOf(layout)
  return sketchUpdate(space.vectors, space.keys, space.read(after, 0), space.read(before, 1), seed, space.scratch)
}

function perform(job: MixerJob): unknown {
  switch (job.do) {
    case 'inspect':
      return inspect(job.layout, job.path, job.reference)
    case 'aggregate':
      return aggregate(job)
    case 'combine':
      return combine(job.layout, job.backboneFrom, job.keysFrom, job.output)
    case 'difference':
      return difference(job.layout, job.model, job.base, job.output, job.encoding)
    case 'mix':
      return mix(job)
    case 'score':
      return score(job)
    case 'sketch':
      return sketch(job.layout, job.after, job.before, job.seed)
  }
}

parentPort?.on('message', ({ id, job }: { id: number; job: MixerJob }) => {
  try {
    parentPort?.postMessage({ id, result: perform(job) })
  } catch (error) {
    const { code = 'MIXER_FAILED', hint = '' } = error as Partial<WorldlmError>
    parentPort?.postMessage({ id, error: { code, hint, message: error instanceof Error ? error.message : String(error) } })
  }
})

// Below the node's own loop, so that heartbeats stay punctual; above training, because others wait for it.
try {
  setPriority(5)
} catch {
  // Not everywhere allowed, and nothing but comfort.
}
