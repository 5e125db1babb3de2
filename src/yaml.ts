/** YAML that people write, as a value; or why it is none, with the place. */
import { parseDocument } from 'yaml'

export function parseYaml(text: string): { value: unknown } | { fault: string } {
  const document = parseDocument(text)
  if (document.errors.length > 0) return { fault: document.errors[0]!.message }
  try {
    return { value: document.toJS() as unknown }
  } catch (error) {
    // An alias of an anchor that is not there, or so many that they would fill the memory: found only when it is made a value.
    return { fault: (error as Error).message }
  }
}

export const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
