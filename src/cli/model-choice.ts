/** What --model names. */
import { existsSync, readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { WorldlmError } from '../errors.ts'
import { presets } from '../model/presets.ts'

/** A preset's name, or a YAML file with `model:` and `algorithm:`. @returns the fields of a charter. @throws {WorldlmError} USAGE, CHARTER_INVALID */
export function charterOf(model: string): Record<string, unknown> {
  if (model in presets) return { model }
  if (!existsSync(model))
    throw new WorldlmError(
      'USAGE',
      `--model ${model} is neither a preset (${Object.keys(presets).join(', ')}) nor a file`,
      'Name one of them, or a YAML file with `model:` and `algorithm:`.'
    )
  const parsed = parse(readFileSync(model, 'utf8')) as Record<string, unknown> | null
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
