/**
 * Text from a model, one token at a time, at size S: milliseconds to the first token behind a prompt of 200 bytes, then tokens a second.
 * Goals: ≤ 100 ms, ≥ 200 tokens/s. Command: `worldlm bench generate`. What comes with the cache is compared with the whole forward pass
 * before anything is timed.
 */
import { availableParallelism } from 'node:os'
import { byteTokenizer } from '../src/data/tokenizer.ts'
import { Generator } from '../src/engine/onnx/generator.ts'
import { WorldlmError } from '../src/errors.ts'
import { initialParameters } from '../src/model/initial.ts'
import { createLayout } from '../src/model/layout.ts'
import { presets } from '../src/model/presets.ts'
import { generate } from '../src/train/generate.ts'
import { type BenchReport, benchReport, median } from './report.ts'

export interface GenerateBenchOptions {
  threads?: number
  turns?: number
  onProgress?: (line: string) => void
}

const promptBytes = 200
/** Fits the context of 256 with the prompt: nothing is read twice. */
const tokens = 56

export async function benchGenerate({
  threads = availableParallelism(),
  turns = 9,
  onProgress
}: GenerateBenchOptions = {}): Promise<BenchReport> {
  const { model } = presets.small
  const parameters = initialParameters(createLayout(model, { keyFraction: 1, embeddingIsKey: true }), 0)
  const generator = await Generator.create(model, parameters, threads)
  try {
    await check(generator)
    const prompt = 'x'.repeat(promptBytes)
    const [first, speeds]: [number[], number[]] = [[], []]
    for (let turn = 0; turn < turns; turn++) {
      const began = performance.now()
      let made = 0
      for await (const _ of generate(generator, byteTokenizer, prompt, { tokens, temperature: 0.8, topP: 0.95, seed: turn }))
        if (made++ === 0) first.push(performance.now() - began)
      speeds.push(((tokens - 1) * 1000) / (performance.now() - began - first.at(-1)!))
      onProgress?.(
        `turn ${turn + 1} of ${turns}: first after ${first.at(-1)!.toFixed(1)} ms, then ${speeds.at(-1)!.toFixed(0)} tokens/s`
      )
    }
    return benchReport('generate', [
      { case: `S, ${threads} threads, first token behind ${promptBytes} bytes`, value: median(first), unit: 'ms' },
      { case: `S, ${threads} threads, tokens after it`, value: median(speeds), unit: 'tokens/s' }
    ])
  } finally {
    await generator.dispose()
  }
}

/** A wrong token has no speed. */
async function check(generator: Generator): Promise<void> {
  const text = Array.from({ length: 20 }, (_, place) => (place * 37) % 256)
  const whole = await generator.feed(text)
  generator.truncate(0)
  let last = whole
  for (const token of text) last = await generator.feed([token])
  const worst = last.reduce((most, value, place) => Math.max(most, Math.abs(value - whole[place]!)), 0)
  if (!(worst < 1e-4))
    throw new WorldlmError('BENCH_WRONG', `logits with and without the cache differ by ${worst}`, 'One of the two is wrong.')
}
