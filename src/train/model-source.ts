/**
 * A model that stands alone, wherever it comes from:
 *
 *   FILE.safetensors          ours: configuration in the metadata, FILE.tokenizer.json beside it unless tokens are bytes
 *   a folder                  `transformers`' (config.json, weights, tokenizer.json)
 *
 * A node's folder is read by node/node-model.ts, which knows its charter.
 */
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs'
import { WorldlmError } from '../errors.ts'
import { byteTokenizerJson } from '../data/byte-level.ts'
import type { Encoding } from '../model/checkpoint.ts'
import type { ModelConfig } from '../model/layout.ts'
import { contextOf } from '../model/hugging-face.ts'
import { isForeignFolder, plainLayout, readForeignFolder, writeForeignFolder } from './hugging-face-folder.ts'
import { readModelFile, readModelMetadata, writeModelFile } from './model-file.ts'
import { writeFully, writeWhole } from '../engine/tensor-file.ts'

export interface StandaloneModel {
  config: ModelConfig
  /** Shape [layout.floats]. */
  parameters: Float32Array<ArrayBuffer>
  /** Text of tokenizer.json; null: tokens are bytes. */
  tokenizer: string | null
}

const tokenizerBeside = (path: string): string => `${path.slice(0, -'.safetensors'.length)}.tokenizer.json`
export const isModelFile = (path: string): boolean => path.endsWith('.safetensors')

/** @param context - tokens of a window, if not all that the model allows. @throws {WorldlmError} of `readForeignFolder`, MODEL_UNKNOWN */
export function readModel(path: string, context?: number): StandaloneModel {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
    if (isForeignFolder(path)) return readForeignFolder(path, context)
    throw unknown(path, 'the folder has no config.json')
  }
  if (!isModelFile(path)) throw unknown(path, 'it is neither a folder nor a .safetensors file')
  const { model } = readModelMetadata(path)
  if (model === undefined) throw unknown(path, 'its metadata do not hold a configuration (`model`)')
  const stored = parseConfig(model, path)
  const layout = plainLayout(stored)
  const config = { ...stored, context: contextOf(stored.context, context, path) }
  const parameters = new Float32Array(layout.floats)
  readModelFile(path, layout, [parameters])
  const beside = tokenizerBeside(path)
  return { config, parameters, tokenizer: existsSync(beside) ? readFileSync(beside, 'utf8') : null }
}

function parseConfig(text: string, path: string): ModelConfig {
  try {
    const config: unknown = JSON.parse(text)
    if (typeof config === 'object' && config !== null) return config as ModelConfig
  } catch {
    // Said below.
  }
  throw new WorldlmError('MODEL_CONFIG', `${path}: the configuration in its metadata is not JSON`, 'Import or export it again.')
}

const unknown = (path: string, why: string): WorldlmError =>
  new WorldlmError(
    'MODEL_UNKNOWN',
    `${path} is no model that can be read: ${why}`,
    'Give a folder with config.json and safetensors, a file of `worldlm model import`, or a node’s folder.'
  )

/** Metadata that make a model file stand alone. */
export const configMetadata = (config: ModelConfig): Record<string, string> => ({ model: JSON.stringify(config) })

/** Writes FILE.safetensors and the tokenizer beside it, or, for any other path, a folder for `transformers`. @throws {WorldlmError} DISK_FULL */
export function writeModel(
  path: string,
  { config, parameters, tokenizer }: StandaloneModel,
  encoding: Encoding,
  shardBytes?: number
): void {
  if (!isModelFile(path)) {
    writeForeignFolder(path, { config, parameters }, tokenizer ?? byteTokenizerJson(), encoding, shardBytes)
    return
  }
  writeModelFile(path, plainLayout(config), [parameters], { encoding, metadata: configMetadata(config) })
  if (tokenizer === null) rmSync(tokenizerBeside(path), { force: true })
  else writeWhole(tokenizerBeside(path), fd => writeFully(fd, new TextEncoder().encode(tokenizer)))
}
