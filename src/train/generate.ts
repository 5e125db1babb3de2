/**
 * Text from a model, and how well it knows a text: both on the generator, which needs no more memory than the model.
 *
 * A text that reaches the model's context goes on: the older half is forgotten and the rest is read again.
 */
import { type Tokens, windowsAt } from '../data/batches.ts'
import type { Tokenizer } from '../data/tokenizer.ts'
import type { Generator } from '../engine/onnx/generator.ts'
import { WorldlmError } from '../errors.ts'
import { Random } from '../math/random.ts'
import { type SamplingOptions, sampleToken } from './sampling.ts'

export interface GenerateOptions extends SamplingOptions {
  /** Tokens to make. */
  tokens: number
  seed: number | string
  signal?: AbortSignal
}

export interface Generated {
  /** Null for what was left at the end of the text. */
  token: number | null
  /** What became certain with it; may be empty in the middle of a character. */
  text: string
}

/**
 * Equal models, prompts and options give equal text (with one thread of the generator). An empty prompt begins behind a line's end.
 * @throws {WorldlmError} PROMPT_EMPTY; GENERATION_FAILED, if the model gives no numbers
 */
export async function* generate(
  generator: Generator,
  tokenizer: Tokenizer,
  prompt: string,
  { tokens, seed, signal, ...sampling }: GenerateOptions
): AsyncGenerator<Generated> {
  const { context } = generator.config
  const random = new Random(`generate/${seed}`)
  const encoded = tokenizer.encode(new TextEncoder().encode(prompt === '' ? '\n' : prompt))
  const text = [...encoded.subarray(0, encoded.length)]
  if (text.length === 0)
    throw new WorldlmError(
      'PROMPT_EMPTY',
      `the prompt ${JSON.stringify(prompt)} has no token: ${tokenizer.name} leaves out spaces and line ends`,
      'Give a prompt with a word in it.'
    )
  const decoder = tokenizer.decoder(prompt === '' ? [] : text)
  // A prompt longer than the context: its end counts, with room for what comes.
  let logits = await reread(generator, text, context - 1)
  for (let made = 0; made < tokens; made++) {
    signal?.throwIfAborted()
    // A model may know more tokens than its tokenizer.
    const known = logits.subarray(0, tokenizer.vocabulary)
    if (!Number.isFinite(known[0]))
      throw new WorldlmError('GENERATION_FAILED', `the model gives ${known[0]} instead of a number`, 'Its weights are spoiled.')
    const token = sampleToken(known, sampling, random)
    text.push(token)
    yield { token, text: decoder.push(token) }
    if (made + 1 === tokens) break
    logits = generator.length < context ? await generator.feed([token]) : await reread(generator, text, Math.ceil(context / 2))
  }
  const rest = decoder.end()
  if (rest !== '') yield { token: null, text: rest }
}

async function reread(generator: Generator, text: number[], most: number): Promise<Float32Array> {
  generator.truncate(0)
  return generator.feed(text.slice(-Math.max(1, most)))
}

export interface TextScore {
  /** exp of the mean nll a token. */
  perplexity: number
  bitsPerByte: number
  tokens: number
  bytes: number
}

/** The model on windows of a text, that begin at `starts`: each is read from its own beginning. */
export async function scoreText(
  generator: Generator,
  tokenizer: Tokenizer,
  text: Tokens,
  starts: number[],
  onWindow: (done: number) => void = () => undefined,
  signal?: AbortSignal
): Promise<TextScore> {
  const { context, vocabulary } = generator.config
  let [nll, bytes, tokens] = [0, 0, 0]
  for (const [place, start] of starts.entries()) {
    signal?.throwIfAborted()
    const { inputs, targets } = windowsAt(text, [start], context)
    generator.truncate(0)
    const logits = await generator.feed(inputs, 'each')
    for (const [row, target] of targets.entries()) {
      nll += negativeLogLikelihood(logits.subarray(row * vocabulary, (row + 1) * vocabulary), target)
      bytes += tokenizer.bytesOf(target)
      tokens++
    }
    onWindow(place + 1)
  }
  const count = Math.max(1, tokens)
  return { perplexity: Math.exp(nll / count), bitsPerByte: nll / Math.max(1, bytes) / Math.LN2, tokens, bytes }
}

/** −ln softmax(logits)[target]. */
function negativeLogLikelihood(logits: Float32Array, target: number): number {
  let most = Number.NEGATIVE_INFINITY
  for (const value of logits) if (value > most) most = value
  let total = 0
  for (const value of logits) total += Math.exp(value - most)
  return most + Math.log(total) - logits[target]!
}
