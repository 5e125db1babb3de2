/**
 * Logits of a text token by token, with what was computed for the tokens before kept (the KV cache). One text at a time.
 * Is not: a choice of tokens; train/generate.ts makes it.
 */
import '../no-telemetry.ts'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { assert } from '../../errors.ts'
import { createLayout, kvHeadsOf, headWidthOf, type ModelConfig } from '../../model/layout.ts'
import { buildGenerationGraph } from './generation-graph.ts'
import { openSession } from './onnx-engine.ts'

/** Tokens computed at once: enough to fill the matrix kernels, and the mask stays small. */
const chunkTokens = 256

export class Generator {
  readonly config: ModelConfig
  readonly #session: InferenceSession
  readonly #weights: Record<string, Tensor> = {}
  /** Keys, then values, of each block, shape [context, c]; the first `length` rows hold. */
  readonly #cache: { key: Float32Array<ArrayBuffer>; value: Float32Array<ArrayBuffer> }[]
  readonly #columns: number
  #length = 0

  private constructor(config: ModelConfig, parameters: Float32Array<ArrayBuffer>, session: InferenceSession) {
    this.config = config
    this.#session = session
    this.#columns = kvHeadsOf(config) * headWidthOf(config)
    const rows = () => new Float32Array(config.context * this.#columns)
    this.#cache = Array.from({ length: config.layers }, () => ({ key: rows(), value: rows() }))
    const { tensors } = createLayout(config, { keyFraction: 0, embeddingIsKey: false })
    for (const { name, shape, offset, floats } of tensors)
      this.#weights[name] = new Tensor('float32', parameters.subarray(offset, offset + floats), shape)
  }

  /** @param parameters - shape [layout.floats], read in place. @param threads - of the kernels. */
  static async create(config: ModelConfig, parameters: Float32Array<ArrayBuffer>, threads: number): Promise<Generator> {
    return new Generator(config, parameters, await openSession(buildGenerationGraph(config), threads))
  }

  /** Tokens known. */
  get length(): number {
    return this.#length
  }

  /** Forgets all tokens from place `length` on. */
  truncate(length: number): void {
    assert(length >= 0 && length <= this.#length, 'what is kept was there', { length, had: this.#length })
    this.#length = length
  }

  /**
   * Appends tokens; together with those known they must fit the context.
   * @returns logits after the last token, shape [vocabulary], or after each, [tokens × vocabulary].
   */
  async feed(tokens: ArrayLike<number>, wanted: 'last' | 'each' = 'last'): Promise<Float32Array> {
    assert(tokens.length > 0, 'there is a token to feed')
    assert(this.#length + tokens.length <= this.config.context, 'a text fits the context', {
      length: this.#length + tokens.length,
      context: this.config.context
    })
    const { vocabulary } = this.config
    const parts: Float32Array[] = []
    for (let from = 0; from < tokens.length; from += chunkTokens) {
      const chunk = Int32Array.from(
        { length: Math.min(chunkTokens, tokens.length - from) },
        (_, place) => tokens[from + place]!
      )
      assert(
        chunk.every(token => token >= 0 && token < vocabulary),
        'a token is of the vocabulary',
        vocabulary
      )
      parts.push(await this.#run(chunk, wanted))
    }
    if (wanted === 'last' || parts.length === 1) return parts.at(-1)!
    const all = new Float32Array(tokens.length * vocabulary)
    for (const [place, part] of parts.entries()) all.set(part, place * chunkTokens * vocabulary)
    return all
  }

  async #run(tokens: Int32Array<ArrayBuffer>, wanted: 'last' | 'each'): Promise<Float32Array> {
    const [S, n, c] = [tokens.length, this.#length, this.#columns]
    const numbers = (count: number, from: number) => BigInt64Array.from({ length: count }, (_, place) => BigInt(from + place))
    const rows = wanted === 'last' ? 1 : S
    const feeds: Record<string, Tensor> = {
      ...this.#weights,
      tokens: new Tensor('int32', tokens, [S]),
      positions: new Tensor('int64', numbers(S, n), [1, S]),
      mask: this.#mask(S, n),
      wanted: new Tensor('int64', numbers(rows, S - rows), [rows])
    }
    const logits = new Float32Array(rows * this.config.vocabulary)
    const fetches: Record<string, Tensor> = { logits: new Tensor('float32', logits, [rows, this.config.vocabulary]) }
    for (const [block, cache] of this.#cache.entries()) {
      for (const kind of ['key', 'value'] as const) {
        feeds[`blocks.${block}.past.${kind}`] = new Tensor('float32', cache[kind].subarray(0, n * c), [n, c])
        fetches[`blocks.${block}.new.${kind}`] = new Tensor('float32', cache[kind].subarray(n * c, (n + S) * c), [S, c])
      }
    }
    await this.#session.run(feeds, fetches)
    this.#length += S
    return logits
  }

  /** A token looks at those before it and at itself; a single new one at all there are. Shape [G·S, L], or [1, 1]. */
  #mask(S: number, n: number): Tensor {
    if (S === 1) return new Tensor('float32', new Float32Array(1), [1, 1])
    const [G, L] = [this.config.heads / kvHeadsOf(this.config), n + S]
    const mask = new Float32Array(G * S * L)
    for (let row = 0; row < G * S; row++) mask.fill(-1e9, row * L + n + (row % S) + 1, (row + 1) * L)
    return new Tensor('float32', mask, [G * S, L])
  }

  async dispose(): Promise<void> {
    await this.#session.release()
  }
}
