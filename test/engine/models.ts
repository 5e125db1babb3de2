/** Small models and batches for the engines' tests, by seed. */
import assert from 'node:assert/strict'
import type { Engine, EngineOptions } from '../../src/engine/engine.ts'
import type { Batch } from '../../src/model/batch.ts'
import { Random } from '../../src/math/random.ts'
import { initialParameters } from '../../src/model/initial.ts'
import { type Adapters, createLayout, type ModelConfig } from '../../src/model/layout.ts'

export const micro: ModelConfig = {
  layers: 2,
  width: 8,
  hidden: 12,
  heads: 2,
  context: 6,
  vocabulary: 20,
  ropeBase: 10_000,
  normEpsilon: 1e-5
}

export function engineOptions(config: Partial<ModelConfig> = {}, overrides: Partial<EngineOptions> = {}): EngineOptions {
  const layout = createLayout({ ...micro, ...config }, { keyFraction: 0.5, embeddingIsKey: false })
  return { layout, batch: 2, threads: 1, weightDecay: 0.1, gradientClip: 1, ...overrides }
}

/** Larger than initial ones, norms away from 1: so that every path of the gradient carries weight. */
export function testParameters({ layout }: EngineOptions, seed: number): Float32Array {
  const random = new Random(`test/${seed}`)
  return initialParameters(layout, seed).map(value => value + 0.1 * random.normal())
}

export function randomBatch({ layout, batch }: EngineOptions, seed: number): Batch {
  const random = new Random(`batch/${seed}`)
  const tokens = () => Int32Array.from({ length: batch * layout.config.context }, () => random.below(layout.config.vocabulary))
  return { inputs: tokens(), targets: tokens() }
}

/** What Llama-family checkpoints vary, one by one and all at once. */
export const families: { why: string; config: Partial<ModelConfig> }[] = [
  { why: 'a head of its own', config: { tiedHead: false } },
  { why: 'two queries a key', config: { width: 16, heads: 4, kvHeads: 2 } },
  { why: 'one key for all queries, a head of its own', config: { width: 16, heads: 4, kvHeads: 1, tiedHead: false } },
  { why: 'another RoPE base, linear scaling', config: { ropeBase: 500, ropeScaling: { type: 'linear', factor: 4 } } },
  {
    why: 'all of Llama 3',
    config: {
      width: 32,
      heads: 4,
      kvHeads: 2,
      tiedHead: false,
      ropeBase: 500_000,
      normEpsilon: 1e-6,
      // A short original context, so that pairs fall below, between and above the two factors.
      ropeScaling: { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 64 }
    }
  }
]

/** As `engineOptions`, with adapters in the model's place. */
export function adapterOptions(
  config: Partial<ModelConfig> = {},
  adapters: Partial<Adapters> = {},
  overrides: Partial<EngineOptions> = {}
): EngineOptions {
  const asked = { rank: 2, alpha: 3, matrices: ['query', 'value'], ...adapters } satisfies Adapters
  const layout = createLayout({ ...micro, ...config }, { keyFraction: 0.5, embeddingIsKey: false, adapters: asked })
  return { ...engineOptions(config, overrides), layout }
}

/** At the largest component of each tensor, where the difference stands out of the rounding of 32-bit parameters. */
export async function assertFiniteDifferences(engine: Engine, parameters: Float32Array, batch: Batch): Promise<void> {
  await engine.load(parameters)
  const { gradient } = await engine.gradient(batch)
  const lossAt = async (place: number, step: number) => {
    const moved = parameters.slice()
    moved[place]! += step
    await engine.load(moved)
    return { loss: (await engine.gradient(batch)).loss, at: moved[place]! }
  }
  for (const { name, offset, floats } of engine.options.layout.tensors) {
    let place = offset
    for (let at = offset; at < offset + floats; at++) if (Math.abs(gradient[at]!) > Math.abs(gradient[place]!)) place = at
    const [after, before] = [await lossAt(place, 3e-4), await lossAt(place, -3e-4)]
    const slope = (after.loss - before.loss) / (after.at - before.at)
    const error = Math.abs(slope - gradient[place]!)
    assert.ok(error < 1e-4 * Math.abs(slope) + 1e-7, `${name}: ${gradient[place]} where differences give ${slope}`)
  }
}

/** That others are evaluated between two steps changes nothing. @param alike - an engine of the same options, which does not evaluate any. */
export async function assertSwaps(engine: Engine, alike: Engine): Promise<void> {
  const { options } = engine
  const [before, between, after] = [1, 2, 3].map(seed => randomBatch(options, seed)) as [Batch, Batch, Batch]
  for (const one of [engine, alike]) {
    await one.load(testParameters(options, 1))
    await one.step(before, 0.01)
  }
  const [own, others] = [await engine.read(), testParameters(options, 2)]
  await engine.swap(others)
  assert.deepEqual(others, own.parameters)
  assert.deepEqual(await engine.view(), { ...own, parameters: testParameters(options, 2) })
  const nll = await engine.evaluate(between)
  await engine.swap(others)
  assert.deepEqual(others, testParameters(options, 2))
  assert.deepEqual(await engine.read(), own)
  assert.equal(await engine.step(after, 0.01), await alike.step(after, 0.01))
  assert.deepEqual(await engine.read(), await alike.read())
  await alike.load(testParameters(options, 2))
  assert.deepEqual(nll, await alike.evaluate(between))
}

/** ‖a − b‖ / ‖b‖ */
export function distance(a: Float32Array, b: Float32Array): number {
  let [difference, length] = [0, 0]
  for (const [place, value] of b.entries()) {
    difference += (a[place]! - value) ** 2
    length += value ** 2
  }
  return Math.sqrt(difference / length)
}
