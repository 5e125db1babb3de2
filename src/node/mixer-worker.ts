/**
 * The heavy half of the mixer: whole models in a worker thread, so that the node's event loop stays free for heartbeats. What is computed
 * stands in aggregate/models.ts; here are the files that it reads and writes.
 */
import { setPriority } from 'node:os'
import { basename } from 'node:path'
import { parentPort } from 'node:worker_threads'
import {
  aggregateModels,
  combineModels,
  differenceOfModels,
  forgetKeys,
  keysAgainst,
  keysDistance,
  mixModels,
  ModelSpace,
  modelSlotsMax,
  parameterMax,
  type ReadModel,
  scoreModels
} from '../aggregate/models.ts'
import { WorldlmError } from '../errors.ts'
import { Vectors } from '../math/vector.ts'
import { initialParameters } from '../model/initial.ts'
import type { Layout } from '../model/layout.ts'
import { outerSections, readModelFile, writeModelFile } from '../train/model-file.ts'
import { readUpdateFile, writeUpdateFile } from '../train/update-file.ts'
import type { AggregateJob, AggregateResult, DifferenceJob, MixerJob, MixJob, ScoreJob } from './mixer.ts'

/** Kept between jobs: one layout at a time. */
let kept: { key: string; space: ModelSpace } | null = null
function spaceOf(layout: Layout): ModelSpace {
  const key = JSON.stringify([layout.config, layout.groups])
  if (kept?.key === key) return kept.space
  kept = null
  const space = new ModelSpace(layout, new Vectors(layout.floats * modelSlotsMax))
  kept = { key, space }
  return space
}

const file =
  (layout: Layout, path: string): ReadModel =>
  into =>
    void readModelFile(path, layout, [into])

const updateFile =
  (layout: Layout, path: string, base: string | null): ReadModel =>
  into =>
    readUpdateFile(path, layout, into, base)

function inspect(
  layout: Layout,
  path: string,
  base: string | null,
  reference: string | null
): { fault: string | null; keysDistance: number } {
  try {
    const from = reference === null ? null : file(layout, reference)
    const distance = keysDistance(spaceOf(layout), updateFile(layout, path, base), from)
    if (distance === null) return { fault: `it holds a value that is not finite, or beyond ±${parameterMax}`, keysDistance: 0 }
    return { fault: null, keysDistance: distance }
  } catch (error) {
    return { fault: damageOf(error, path), keysDistance: 0 }
  }
}

/** The fault is told to others: where the file lies here is nothing to them. @throws what is no fault of the file. */
function damageOf(error: unknown, path: string): string {
  if (error instanceof WorldlmError && error.code === 'MODEL_DAMAGED') return error.message.replaceAll(path, basename(path))
  throw error
}

const largestFloat = (2 - 2 ** -23) * 2 ** 127

function faultOf(layout: Layout, path: string, sections: string[]): string | null {
  try {
    const space = spaceOf(layout)
    const vectors = sections.map((_, place) => space.slot(place))
    readModelFile(path, layout, vectors, sections)
    return vectors.every(vector => space.vectors.allWithin(vector, largestFloat)) ? null : 'it holds a value that is not finite'
  } catch (error) {
    return damageOf(error, path)
  }
}

function aggregate({ layout, algorithm, previous, genesis, inputs, outer, seed, output }: AggregateJob): AggregateResult {
  const sections = (state: Float32Array[]) => outerSections(state.length)
  const outerFrom = outer?.from ?? null
  const { model, attention, ownAttention, sketches, outerState } = aggregateModels(spaceOf(layout), {
    options: algorithm,
    previous: file(layout, previous),
    genesis: file(layout, genesis),
    inputs: inputs.map(input => ({ ...input, read: updateFile(layout, input.path, input.base) })),
    root: outer !== null,
    outerState: outerFrom === null ? null : state => void readModelFile(outerFrom, layout, state, sections(state)),
    seed
  })
  if (outer !== null && outerState.length > 0)
    writeModelFile(outer.output, layout, outerState, { sections: sections(outerState) })
  writeModelFile(output, layout, [model])
  return { attention, ownAttention, sketches }
}

function combine(layout: Layout, backboneFrom: string, keysFrom: string, output: string): void {
  writeModelFile(output, layout, [combineModels(spaceOf(layout), file(layout, backboneFrom), file(layout, keysFrom))])
}

function difference({ layout, model, start, output, encoding, block }: DifferenceJob): void {
  const space = spaceOf(layout)
  const update = differenceOfModels(space, file(layout, model), file(layout, start))
  if (block === null) {
    writeUpdateFile(output, layout, update, encoding, null)
    return
  }
  keysAgainst(space, update, file(layout, block.keysBase))
  const rest = block.restFrom === null ? space.slot(1).fill(0) : space.read(file(layout, block.restFrom), 1)
  writeUpdateFile(output, layout, update, encoding, rest)
  if (block.keepsKeys) forgetKeys(space, rest)
  writeModelFile(block.restTo, layout, [rest])
}

function mix({ layout, backboneFrom, candidates, output }: MixJob): number[][] {
  const read = candidates.map(({ path, logits }) => ({ read: file(layout, path), logits }))
  const { model, weights } = mixModels(spaceOf(layout), file(layout, backboneFrom), read)
  writeModelFile(output, layout, [model])
  return weights
}

function score({ layout, query, candidates, score: name, reference }: ScoreJob): number[][] {
  const paths = candidates.map(path => file(layout, path))
  return scoreModels(spaceOf(layout), name, file(layout, query), paths, file(layout, reference))
}

function sketch(layout: Layout, after: string, before: string, seed: number): Uint8Array {
  const space = spaceOf(layout)
  return space.sketch(space.read(file(layout, after), 0), space.read(file(layout, before), 1), seed)
}

function perform(job: MixerJob): unknown {
  switch (job.do) {
    case 'inspect':
      return inspect(job.layout, job.path, job.base, job.reference)
    case 'fault':
      return faultOf(job.layout, job.path, job.sections)
    case 'aggregate':
      return aggregate(job)
    case 'combine':
      return combine(job.layout, job.backboneFrom, job.keysFrom, job.output)
    case 'difference':
      return difference(job)
    case 'mix':
      return mix(job)
    case 'score':
      return score(job)
    case 'draw':
      return writeModelFile(job.output, job.layout, [initialParameters(job.layout, job.seed)])
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
