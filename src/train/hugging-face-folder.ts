/**
 * Folders of Llama-family checkpoints (config.json, safetensors in one file or in shards, tokenizer.json) in and out, one tensor in
 * memory at a time besides the model itself.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { WorldlmError } from '../errors.ts'
import { firstNotFinite } from '../math/finite.ts'
import type { Encoding } from '../model/checkpoint.ts'
import { configFromForeign, configToForeign, foreignTensor, isNeedless, transpose } from '../model/hugging-face.ts'
import { createLayout, type Layout, type ModelConfig } from '../model/layout.ts'
import { type NamedTensor, TensorFile, writeTensorFile } from '../engine/tensor-file.ts'

export interface ImportedModel {
  config: ModelConfig
  /** Shape [layout.floats]; order and offsets do not depend on which layers are key layers. */
  parameters: Float32Array<ArrayBuffer>
  /** Text of tokenizer.json; null where the folder has none. */
  tokenizer: string | null
}

/** Any division into backbone and keys: offsets are the same for all. */
export const plainLayout = (config: ModelConfig): Layout => createLayout(config, { keyFraction: 1, embeddingIsKey: true })

/**
 * Reads config.json, the weights, and tokenizer.json where there is one.
 * @param context - tokens of a window, if not all that the checkpoint allows.
 * @throws {WorldlmError} MODEL_ARCHITECTURE, MODEL_CONFIG, MODEL_ROPE, BAD_MODEL, MODEL_MISSING (a shard), MODEL_DAMAGED, MODEL_SHAPE,
 * MODEL_DTYPE, MODEL_NOT_FINITE
 */
export function readForeignFolder(folder: string, context?: number): ImportedModel {
  const stated = configFromForeign(readJson(join(folder, 'config.json')), join(folder, 'config.json'), context)
  plainLayout(stated) // Sizes that do not fit together are refused before there is room for them.
  const shards = openShards(folder)
  try {
    const config = hasHeadOfItsOwn(stated, shards) ? { ...stated, tiedHead: false } : stated
    const layout = plainLayout(config)
    refuseStrangers(layout, shards, folder)
    const parameters = readTensors(layout, shards, folder)
    const tokenizer = join(folder, 'tokenizer.json')
    return { config, parameters, tokenizer: existsSync(tokenizer) ? readFileSync(tokenizer, 'utf8') : null }
  } finally {
    for (const shard of new Set(shards.values())) shard.close()
  }
}

/** Whether the weights hold a head that is not the embedding, whatever config.json says: transformers 5 computes with it then. */
function hasHeadOfItsOwn({ vocabulary, width, tiedHead = true }: ModelConfig, shards: Map<string, TensorFile>): boolean {
  if (!tiedHead || !shards.has('lm_head.weight')) return !tiedHead
  const [embedding, head] = ['model.embed_tokens.weight', 'lm_head.weight'].map(name => {
    const floats = new Float32Array(vocabulary * width)
    shards.get(name)?.read(name, [vocabulary, width], floats)
    return Buffer.from(floats.buffer)
  })
  return !embedding!.equals(head!)
}

/** Whether a folder looks like one of theirs. */
export const isForeignFolder = (folder: string): boolean => existsSync(join(folder, 'config.json'))

function readJson(path: string): unknown {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw new WorldlmError(
      'MODEL_MISSING',
      `${path} cannot be read: ${(cause as Error).message}`,
      'The folder must hold config.json and model.safetensors, or model.safetensors.index.json and its shards.',
      { cause }
    )
  }
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new WorldlmError('MODEL_CONFIG', `${path} is not JSON: ${(cause as Error).message}`, 'Fetch it again.', { cause })
  }
}

/** Which file holds which tensor. @throws {WorldlmError} MODEL_MISSING: no weights, or a shard that the index names. */
function openShards(folder: string): Map<string, TensorFile> {
  const indexPath = join(folder, 'model.safetensors.index.json')
  const found = new Map<string, TensorFile>()
  if (!existsSync(indexPath)) {
    const file = new TensorFile(join(folder, 'model.safetensors'))
    for (const name of Object.keys(file.header.tensors)) found.set(name, file)
    return found
  }
  const index = readJson(indexPath) as { weight_map?: Record<string, unknown> } | null
  const map = index?.weight_map
  if (typeof map !== 'object' || map === null)
    throw new WorldlmError('MODEL_CONFIG', `${indexPath} has no weight_map`, 'Fetch it again.')
  const open = new Map<string, TensorFile>()
  try {
    for (const [name, shard] of Object.entries(map)) {
      // A name, not a path: an index must not reach out of its folder.
      if (typeof shard !== 'string' || /[/\\]/.test(shard) || shard.startsWith('.'))
        throw new WorldlmError('MODEL_CONFIG', `${indexPath} names ${JSON.stringify(shard)} as a shard`, 'Fetch it again.')
      if (!existsSync(join(folder, shard)))
        throw new WorldlmError(
          'MODEL_MISSING',
          `${folder} is not a whole checkpoint: ${shard} is missing, which its index names`,
          'Fetch that file again.'
        )
      const file = open.get(shard) ?? new TensorFile(join(folder, shard))
      open.set(shard, file)
      found.set(name, file)
    }
    return found
  } catch (error) {
    for (const file of open.values()) file.close()
    throw error
  }
}

/** Weights that ours would not compute with: biases, norms of heads, experts. */
function refuseStrangers(layout: Layout, shards: Map<string, TensorFile>, folder: string): void {
  const known = new Set(layout.tensors.map(tensor => foreignTensor(tensor).name))
  const stranger = [...shards.keys()].find(name => !known.has(name) && !isNeedless(name, layout.config))
  if (stranger === undefined) return
  throw new WorldlmError(
    'MODEL_ARCHITECTURE',
    `${folder} holds a tensor that a plain Llama does not have: ${stranger}`,
    'Choose a checkpoint without biases, norms of heads, adapters or experts.'
  )
}

function readTensors(layout: Layout, shards: Map<string, TensorFile>, folder: string): Float32Array<ArrayBuffer> {
  const parameters = new Float32Array(layout.floats)
  const scratch = new Float32Array(Math.max(...layout.tensors.map(({ floats }) => floats)))
  for (const tensor of layout.tensors) {
    const { name, shape, transposed } = foreignTensor(tensor)
    const target = parameters.subarray(tensor.offset, tensor.offset + tensor.floats)
    const shard = shards.get(name)
    if (shard === undefined)
      throw new WorldlmError(
        'MODEL_DAMAGED',
        `${folder} is not a whole model: tensor ${name} is missing`,
        'config.json and the weights are of different models, or a file is missing: fetch them again.'
      )
    const raw = transposed ? scratch.subarray(0, tensor.floats) : target
    shard.read(name, shape, raw)
    const wrong = firstNotFinite(raw)
    if (wrong >= 0)
      throw new WorldlmError(
        'MODEL_NOT_FINITE',
        `${shard.path}: tensor ${name} holds ${raw[wrong]} at place ${wrong}`,
        'Such a model computes nothing: fetch it again, or choose an earlier checkpoint.'
      )
    if (transposed) transpose(raw, shape[0]!, shape[1]!, target)
  }
  return parameters
}

/** As `transformers` has it. */
export const shardBytesDefault = 5e9

/**
 * Writes a folder that `transformers` loads: config.json, model.safetensors or shards with their index, tokenizer.json and its settings.
 * @param tokenizer - text of tokenizer.json. @param shardBytes - of a file's tensors, at most, but for a single one that is larger.
 */
export function writeForeignFolder(
  folder: string,
  { config, parameters }: { config: ModelConfig; parameters: Float32Array },
  tokenizer: string,
  encoding: Encoding,
  shardBytes = shardBytesDefault
): void {
  mkdirSync(folder, { recursive: true })
  const layout = plainLayout(config)
  const scratch = new Float32Array(Math.max(...layout.tensors.map(({ floats }) => floats)))
  const tensors = layout.tensors.map(tensor => {
    const { name, shape, transposed } = foreignTensor(tensor)
    const own = parameters.subarray(tensor.offset, tensor.offset + tensor.floats)
    const floats = () => {
      if (!transposed) return own
      const turned = scratch.subarray(0, tensor.floats)
      transpose(own, tensor.shape[0]!, tensor.shape[1]!, turned)
      return turned
    }
    return { name, shape, floats }
  })
  writeShards(folder, tensors, encoding, shardBytes)
  const write = (name: string, value: unknown) =>
    writeFileSync(join(folder, name), `${typeof value === 'string' ? value : JSON.stringify(value, null, 2)}\n`)
  write('config.json', configToForeign(config, encoding === 'f32' ? 'float32' : 'bfloat16'))
  write('generation_config.json', { do_sample: true, max_length: config.context })
  write('tokenizer.json', tokenizer)
  write('tokenizer_config.json', {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: config.context,
    clean_up_tokenization_spaces: false
  })
}

/** Weights of an export before are removed once the new ones are there: a folder with both would be read by either name. */
function writeShards(folder: string, tensors: NamedTensor[], encoding: Encoding, shardBytes: number): void {
  const bytesOf = ({ shape }: NamedTensor) => shape.reduce((product, size) => product * size, encoding === 'f32' ? 4 : 2)
  const shards: NamedTensor[][] = [[]]
  let bytes = 0
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + bytesOf(tensor) > shardBytes) {
      shards.push([])
      bytes = 0
    }
    shards.at(-1)!.push(tensor)
    bytes += bytesOf(tensor)
  }
  const number = (place: number) => String(place).padStart(5, '0')
  const nameOf = (place: number) =>
    shards.length === 1 ? 'model.safetensors' : `model-${number(place + 1)}-of-${number(shards.length)}.safetensors`
  const kept = new Set(shards.map((_, place) => nameOf(place)))
  for (const [place, some] of shards.entries()) writeTensorFile(join(folder, nameOf(place)), some, encoding, { format: 'pt' })
  const index = 'model.safetensors.index.json'
  if (shards.length > 1) {
    kept.add(index)
    const weight_map = Object.fromEntries(shards.flatMap((some, place) => some.map(({ name }) => [name, nameOf(place)])))
    const total_size = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0)
    writeFileSync(join(folder, index), `${JSON.stringify({ metadata: { total_size }, weight_map }, null, 2)}\n`)
  }
  for (const name of readdirSync(folder))
    if (/^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/.test(name) && !kept.has(name)) rmSync(join(folder, name))
}
