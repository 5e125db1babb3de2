/**
 * Llama-family checkpoints as `transformers` stores them (config.json and tensor names), and how they map onto our layout.
 *
 * Is: pure; the same model on both sides, to the bit in f32. Is not: files (train/hugging-face-folder.ts), or the family's other members:
 * biases, other activations, other head widths and windows longer than a sliding one are refused by name.
 */
import { WorldlmError } from '../errors.ts'
import { headWidthOf, kvHeadsOf, type ModelConfig, type RopeScaling } from './layout.ts'

/** A tensor as they name it; matrices lie there as [out, in], ours as [in, out]. */
export interface ForeignTensor {
  name: string
  shape: number[]
  transposed: boolean
}

const parts: Record<string, string> = {
  attentionNorm: 'input_layernorm',
  query: 'self_attn.q_proj',
  key: 'self_attn.k_proj',
  value: 'self_attn.v_proj',
  output: 'self_attn.o_proj',
  feedForwardNorm: 'post_attention_layernorm',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj'
}

/** @param tensor - of the layout. */
export function foreignTensor({ name, shape }: { name: string; shape: number[] }): ForeignTensor {
  switch (name) {
    case 'embedding':
      return { name: 'model.embed_tokens.weight', shape, transposed: false }
    case 'finalNorm':
      return { name: 'model.norm.weight', shape, transposed: false }
    case 'head':
      return { name: 'lm_head.weight', shape, transposed: false }
  }
  const [, block, part] = name.split('.') as [string, string, string]
  const transposed = shape.length === 2
  return {
    name: `model.layers.${block}.${parts[part]}.weight`,
    shape: transposed ? [shape[1]!, shape[0]!] : shape,
    transposed
  }
}

/** Tensors that a checkpoint may hold besides the model's: RoPE's tables of old versions, and a copy of a tied head. */
export const isNeedless = (name: string, { tiedHead = true }: ModelConfig): boolean =>
  name.endsWith('.rotary_emb.inv_freq') || (tiedHead && name === 'lm_head.weight')

/** [rows, columns] → [columns, rows], into `out`, in blocks that fit the cache. */
export function transpose(from: Float32Array, rows: number, columns: number, out: Float32Array): void {
  const block = 32
  for (let top = 0; top < rows; top += block)
    for (let left = 0; left < columns; left += block)
      for (let row = top; row < Math.min(rows, top + block); row++)
        for (let column = left; column < Math.min(columns, left + block); column++)
          out[column * rows + row] = from[row * columns + column]!
}

type Json = Record<string, unknown>

/** Architectures that compute what ours computes, once the options below are checked. */
const architectures = new Set(['llama', 'mistral'])

/**
 * @param context - tokens of a window, instead of all that the checkpoint allows.
 * @throws {WorldlmError} MODEL_ARCHITECTURE, MODEL_CONFIG, MODEL_ROPE; BAD_MODEL comes later, from the layout.
 */
export function configFromForeign(json: unknown, where: string, context?: number): ModelConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw wrongConfig(where, 'it is not an object')
  const config = json as Json
  checkArchitecture(config, where)
  const whole = (key: string, fallback?: number): number => {
    const value = config[key] ?? fallback
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1)
      throw wrongConfig(where, `${key} is ${JSON.stringify(value)}, a whole number ≥ 1 is needed`)
    return value
  }
  const heads = whole('num_attention_heads')
  const width = whole('hidden_size')
  const headWidth = whole('head_dim', width / heads)
  if (headWidth * heads !== width)
    throw wrongConfig(where, `head_dim is ${headWidth}; only hidden_size / num_attention_heads (${width / heads}) is known`)
  const longest = whole('max_position_embeddings', 2048)
  const kvHeads = whole('num_key_value_heads', heads)
  const normEpsilon = config.rms_norm_eps ?? 1e-6
  if (typeof normEpsilon !== 'number')
    throw wrongConfig(where, `rms_norm_eps is ${JSON.stringify(normEpsilon)}, a number is needed`)
  const { base, scaling } = ropeOf(config, longest, where)
  return {
    layers: whole('num_hidden_layers'),
    width,
    hidden: whole('intermediate_size'),
    heads,
    context: withinSliding(contextOf(longest, context, where), config, where),
    vocabulary: whole('vocab_size'),
    ropeBase: base,
    normEpsilon,
    ...(kvHeads === heads ? {} : { kvHeads }),
    // Defaults of transformers: Llama's head is its own unless config.json says otherwise.
    ...(config.tie_word_embeddings === true ? {} : { tiedHead: false }),
    ...(scaling === undefined ? {} : { ropeScaling: scaling })
  }
}

/** @param asked - tokens of a window, instead of all that the model allows. @throws {WorldlmError} MODEL_CONFIG */
export function contextOf(longest: number, asked: number | undefined, where: string): number {
  if (asked === undefined || asked <= longest) return asked ?? longest
  throw new WorldlmError(
    'MODEL_CONFIG',
    `${where}: it knows windows of ${longest} tokens at most, ${asked} were asked for`,
    `Ask for ${longest} or fewer (--context), or choose a model with longer ones.`
  )
}

/** What Mistral's are where config.json does not say (a default of transformers). */
const mistralSliding = 4096

/** Within a sliding window attention is full. @throws {WorldlmError} MODEL_ARCHITECTURE */
function withinSliding(context: number, { model_type: type, sliding_window: stated }: Json, where: string): number {
  const sliding = stated === undefined && type === 'mistral' ? mistralSliding : (stated ?? null)
  if (sliding === null || (typeof sliding === 'number' && context <= sliding)) return context
  throw new WorldlmError(
    'MODEL_ARCHITECTURE',
    `${where} has a sliding window of ${JSON.stringify(sliding)} tokens, and a context of ${context}`,
    'Within a sliding window attention is full: ask for so many tokens or fewer (--context).'
  )
}

function checkArchitecture(config: Json, where: string): void {
  const type = config.model_type
  if (typeof type !== 'string' || !architectures.has(type)) {
    throw new WorldlmError(
      'MODEL_ARCHITECTURE',
      `${where} is a model of type ${JSON.stringify(type ?? 'unknown')}`,
      `Known are Llama-family models: ${[...architectures].join(', ')}.`
    )
  }
  const refuse = (what: string) => {
    throw new WorldlmError(
      'MODEL_ARCHITECTURE',
      `${where} has ${what}, which this model does not have`,
      'Choose a checkpoint that is plain Llama: SwiGLU, RMSNorm, no biases, full attention.'
    )
  }
  if ((config.hidden_act ?? 'silu') !== 'silu') refuse(`activation ${JSON.stringify(config.hidden_act)}`)
  if (config.attention_bias === true || config.mlp_bias === true) refuse('biases')
  if ((config.quantization_config ?? null) !== null) refuse('quantized weights')
}

/** RoPE as transformers 5 writes it (`rope_parameters`) or as versions before did (`rope_theta`, `rope_scaling`). */
function ropeOf(config: Json, longest: number, where: string): { base: number; scaling: RopeScaling | undefined } {
  const asked = config.rope_parameters ?? config.rope_scaling ?? {}
  if (typeof asked !== 'object' || Array.isArray(asked))
    throw wrongConfig(where, `its RoPE is ${JSON.stringify(asked)}, an object is needed`)
  const given = asked as Json
  const turned = given.partial_rotary_factor ?? config.partial_rotary_factor ?? 1
  if (turned !== 1)
    throw new WorldlmError(
      'MODEL_ROPE',
      `${where} turns ${JSON.stringify(turned)} of a head (partial_rotary_factor)`,
      'Only whole heads are turned here: choose a checkpoint that is plain Llama.'
    )
  const type = given.rope_type ?? given.type ?? 'default'
  const base = Number(given.rope_theta ?? config.rope_theta ?? 10_000)
  const number = (key: string, fallback?: number): number => {
    const value = given[key] ?? fallback
    if (typeof value !== 'number' || !(value > 0)) throw wrongConfig(where, `RoPE's ${key} is ${JSON.stringify(value)}`)
    return value
  }
  switch (type) {
    case 'default':
      return { base, scaling: undefined }
    case 'linear':
      return { base, scaling: { type: 'linear', factor: number('factor') } }
    case 'llama3':
      return {
        base,
        scaling: {
          type: 'llama3',
          factor: number('factor'),
          lowFrequencyFactor: number('low_freq_factor'),
          highFrequencyFactor: number('high_freq_factor'),
          originalContext: number('original_max_position_embeddings', longest)
        }
      }
    default:
      throw new WorldlmError(
        'MODEL_ROPE',
        `${where} scales RoPE by ${JSON.stringify(type)}`,
        'Known are default, linear and llama3.'
      )
  }
}

/** config.json of the model, for `transformers`. No token begins or ends a text: ours are streams. */
export function configToForeign(config: ModelConfig, dtype: 'float32' | 'bfloat16'): Json {
  const { ropeScaling: scaling, ropeBase } = config
  const rope: Json =
    scaling === undefined
      ? { rope_type: 'default' }
      : scaling.type === 'linear'
        ? { rope_type: 'linear', factor: scaling.factor }
        : {
            rope_type: 'llama3',
            factor: scaling.factor,
            low_freq_factor: scaling.lowFrequencyFactor,
            high_freq_factor: scaling.highFrequencyFactor,
            original_max_position_embeddings: scaling.originalContext
          }
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: config.vocabulary,
    hidden_size: config.width,
    intermediate_size: config.hidden,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: kvHeadsOf(config),
    head_dim: headWidthOf(config),
    max_position_embeddings: config.context,
    hidden_act: 'silu',
    rms_norm_eps: config.normEpsilon,
    tie_word_embeddings: config.tiedHead ?? true,
    attention_bias: false,
    mlp_bias: false,
    // Both ways of writing it: `rope_parameters` since transformers 5, the others before.
    rope_parameters: { ...rope, rope_theta: ropeBase },
    rope_theta: ropeBase,
    rope_scaling: scaling === undefined ? null : rope,
    bos_token_id: null,
    eos_token_id: null,
    pad_token_id: null,
    dtype,
    torch_dtype: dtype
  }
}

const wrongConfig = (where: string, what: string): WorldlmError =>
  new WorldlmError('MODEL_CONFIG', `${where}: ${what}`, 'It must be the config.json of a Llama-family model.')
