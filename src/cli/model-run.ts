/** `worldlm model generate | evaluate`: what a model says, and how well it knows a text. */
import { availableParallelism } from 'node:os'
import { validationStarts } from '../data/batches.ts'
import { loadText } from '../data/text-tree.ts'
import type { Tokenizer } from '../data/tokenizer.ts'
import { Generator } from '../engine/onnx/generator.ts'
import { WorldlmError } from '../errors.ts'
import type { NodeModelName } from '../node/node-model.ts'
import { generate, scoreText } from '../train/generate.ts'
import { checkTokenizer, organizations, openModel } from './model.ts'
import { exitCodes, type Output } from './output.ts'
import { table } from './table.ts'

interface RunOptions {
  which?: NodeModelName
  context?: number
  threads?: number
}

async function open(source: string, options: RunOptions): Promise<{ generator: Generator; tokenizer: Tokenizer }> {
  const model = await openModel(source, options)
  const tokenizer = checkTokenizer(model, source)
  const { config, parameters } = model
  return { tokenizer, generator: await Generator.create(config, parameters, options.threads ?? availableParallelism()) }
}

/** Ctrl-C ends it after the token or window at hand; what was written stays. */
async function interruptible(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const abort = new AbortController()
  const stop = () => {
    if (abort.signal.aborted) process.exit(exitCodes.interrupted)
    abort.abort()
  }
  process.on('SIGINT', stop)
  try {
    await work(abort.signal)
  } catch (error) {
    if (!abort.signal.aborted) throw error
    process.exitCode = exitCodes.interrupted
  } finally {
    process.off('SIGINT', stop)
  }
}

export async function generateText(
  source: string,
  options: RunOptions & { prompt: string; tokens: number; temperature: number; topP: number; seed: number },
  output: Output
): Promise<void> {
  const { generator, tokenizer } = await open(source, options)
  const { prompt, tokens, temperature, topP, seed } = options
  // Whoever reads may have had enough (`| head`): that is no failure.
  process.stdout.on('error', () => process.exit(exitCodes.done))
  await interruptible(async signal => {
    const begun = performance.now()
    let [text, made, firstMs] = ['', 0, 0]
    for await (const part of generate(generator, tokenizer, prompt, { tokens, temperature, topP, seed, signal })) {
      if (made === 0) firstMs = performance.now() - begun
      if (part.token !== null) made++
      text += part.text
      if (!output.json) process.stdout.write(part.text)
    }
    if (!output.json) process.stdout.write('\n')
    const seconds = (performance.now() - begun) / 1000
    const tokensPerSecond = made > 1 ? (made - 1) / (seconds - firstMs / 1000) : null
    if (process.stderr.isTTY && !output.json)
      process.stderr.write(
        `${made} tokens, first after ${firstMs.toFixed(0)} ms, then ${tokensPerSecond?.toFixed(0)} a second\n`
      )
    output.document({ prompt, text, tokens: made, firstTokenMs: firstMs, tokensPerSecond })
  })
  await generator.dispose()
}

export async function evaluateModel(
  source: string,
  options: RunOptions & { data: string; tokens: number },
  output: Output
): Promise<void> {
  const { generator, tokenizer } = await open(source, options)
  const { context } = generator.config
  await interruptible(async signal => {
    const rows: { path: string; perplexity: number; bitsPerByte: number; tokens: number; bytes: number }[] = []
    for (const organization of organizations(options.data)) {
      const { valid } = await loadText(organization, { context: 1, keptBackBytes: 0 })
      const text = tokenizer.encode(valid)
      if (text.length < context + 1)
        throw new WorldlmError(
          'DATA_TOO_SHORT',
          `${organization.path} has ${text.length} tokens for validation, a window needs ${context + 1}`,
          'Add text, or give a shorter window: --context N.'
        )
      const starts = validationStarts(text.length, context, options.tokens)
      const tell = (done: number) => {
        if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${organization.path}: ${done} of ${starts.length} windows`)
      }
      rows.push({ path: organization.path, ...(await scoreText(generator, tokenizer, text, starts, tell, signal)) })
    }
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
    const cells = rows.map(row => [row.path, row.perplexity.toFixed(4), row.bitsPerByte.toFixed(4), String(row.tokens)])
    output.line(table(['text', 'perplexity', 'bits per byte', 'tokens'], cells))
    output.document({ model: source, tokenizer: tokenizer.name, texts: rows })
  })
  await generator.dispose()
}
