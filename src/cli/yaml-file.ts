/** YAML files that a command is given. */
import { readFileSync, statSync } from 'node:fs'
import { parse } from 'yaml'
import { WorldlmError } from '../errors.ts'

/** @throws {WorldlmError} `code`, with the place, where it cannot be read or is no YAML. */
export function readYaml(path: string, code: string, hint: string): unknown {
  try {
    return parse(readFileSync(path, 'utf8')) as unknown
  } catch (cause) {
    // The lines that follow show the place, which the first one names.
    throw new WorldlmError(code, `${path}: ${(cause as Error).message.split('\n')[0]!.replace(/:$/, '')}`, hint, { cause })
  }
}

/** Whether a name is meant as a file, for a message where there is none. */
export const isFileName = (name: string): boolean => /[/\\]|\.ya?ml$/i.test(name)

/** Whether something can be read by that name. A folder cannot: `data`, `none` and the like may well lie in the current one. */
export const isFile = (name: string): boolean => statSync(name, { throwIfNoEntry: false })?.isDirectory() === false
