/** What --model names. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { WorldlmError } from '../errors.ts'
import { type PresetName, presets } from '../model/presets.ts'
import { isModelFile, readModel } from '../train/model-source.ts'
import type { Start } from '../node/starting-model.ts'
import { readYaml } from './yaml-file.ts'

/** A preset's name, or a YAML file with `model:` and `algorithm:`. @returns the fields of a charter. @throws {WorldlmError} USAGE, CHARTER_INVALID */
export function charterOf(model: string): Record<string, unknown> {
  if (model in presets) return { model }
  if (!existsSync(model))
    throw new WorldlmError(
      'USAGE',
      `--model ${model} is neither a preset (${Object.keys(presets).join(', ')}) nor a file`,
      'Name one of them, or a YAML file with `model:` and `algorithm:`.'
    )
  const parsed = readYaml(model, 'CHARTER_INVALID', 'It is a YAML file with `model:` and `algorithm:`.') as Record<
    string,
    unknown
  > | null
  const unknown = Object.keys(parsed ?? {}).filter(
    key => !['model', 'algorithm', 'voters', 'delegates', 'minMembers'].includes(key)
  )
  if (parsed === null || typeof parsed !== 'object' || unknown.length > 0) {
    throw new WorldlmError(
      'CHARTER_INVALID',
      `${model}: ${unknown.length > 0 ? `unknown key ${unknown[0]}` : 'it holds no options'}`,
      'It may have `model:`, `algorithm:`, `voters:`, `delegates:`, `minMembers:`.'
    )
  }
  return parsed
}

/** Whether --model names parameters to begin with: a folder of transformers, or a file of `worldlm model import`. */
const isCheckpoint = (model: string): boolean =>
  isModelFile(model) || (!(model in presets) && statSync(model, { throwIfNoEntry: false })?.isDirectory() === true)

/**
 * What --model and --tokenizer together say.
 * @returns the fields of a charter, and what is to be put into its founder's store (`addStart`).
 * @throws {WorldlmError} USAGE, CHARTER_INVALID, TOKENIZER_MISSING, those of `readModel`
 */
export function beginningOf(
  model: string,
  { tokenizer, context }: { tokenizer?: string; context?: number } = {}
): { charter: Record<string, unknown>; start: Start | null } {
  const text = tokenizer === undefined ? null : readTokenizerFile(tokenizer)
  if (isCheckpoint(model)) {
    const read = readModel(model, context)
    return { charter: {}, start: { model: text === null ? read : { ...read, tokenizer: text } } }
  }
  if (context !== undefined)
    throw new WorldlmError('USAGE', '--context is for a checkpoint', 'Write `context:` into the YAML file of the model.')
  const charter = charterOf(model)
  if (text === null) return { charter, start: null }
  const { model: chosen = 'tiny' } = charter
  if (typeof chosen === 'string') return { charter, start: { tokenizer: text, preset: chosen as PresetName } }
  throw new WorldlmError(
    'USAGE',
    `--tokenizer with the model that ${model} describes`,
    'Name a preset, whose vocabulary becomes the tokenizer’s, or a checkpoint.'
  )
}

function readTokenizerFile(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new WorldlmError(
      'TOKENIZER_MISSING',
      `${path} cannot be read: ${(cause as Error).message}`,
      'Make one: worldlm model tokenizer --train DIR --vocabulary N --out FILE.',
      { cause }
    )
  }
}
