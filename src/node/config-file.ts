/** The list of federations in a node's worldlm.yaml, changed in place: comments stay. */
import { readFileSync } from 'node:fs'
import { parseDocument } from 'yaml'
import { WorldlmError } from '../errors.ts'
import type { FederationId } from '../ids.ts'
import { isMapping, parseYaml } from '../yaml.ts'
import { writeFileDurably } from './files.ts'

interface Written {
  federations?: { id: string; leaving?: boolean }[]
  bootstrap?: string[]
}

/** What is no list of federations is told of, and left alone; whatever else is wrong, a federation can still be taken out. @throws {WorldlmError} CONFIG_INVALID */
function openConfig(path: string) {
  const text = readFileSync(path, 'utf8')
  const parsed = parseYaml(text)
  const invalid = (what: string) => new WorldlmError('CONFIG_INVALID', `${path}${what}`, 'Mend the YAML there.')
  if ('fault' in parsed) throw invalid(`: ${parsed.fault}`)
  const written = parsed.value ?? {}
  if (!isMapping(written)) throw invalid(' is not a list of options')
  for (const key of ['federations', 'bootstrap'] as const)
    if (written[key] !== undefined && !Array.isArray(written[key])) throw invalid(`: ${key} is no list`)
  return { document: parseDocument(text), written: written as Written }
}

/** @param path - of worldlm.yaml. @throws {WorldlmError} CONFIG_INVALID */
export function addFederation(path: string, id: FederationId, as: 'organization' | 'witness', bootstrap: string[]): void {
  const { document, written } = openConfig(path)
  const { federations = [], bootstrap: known = [] } = written
  const others = federations.filter(one => one.id !== id)
  document.set('federations', document.createNode([...others, as === 'witness' ? { id, as } : { id }]))
  if (bootstrap.length > 0) document.set('bootstrap', document.createNode([...new Set([...known, ...bootstrap])]))
  writeFileDurably(path, document.toString())
}

/** The node goes on leaving it when it is started again. Joined anew, it is not leaving any more. */
export function noteLeaving(path: string, id: FederationId): void {
  const { document, written } = openConfig(path)
  const { federations = [] } = written
  document.set('federations', document.createNode(federations.map(one => (one.id === id ? { ...one, leaving: true } : one))))
  writeFileDurably(path, document.toString())
}

/** @returns whether it was there. */
export function removeFederation(path: string, id: FederationId): boolean {
  const { document, written } = openConfig(path)
  const { federations = [] } = written
  const others = federations.filter(one => one.id !== id)
  if (others.length === federations.length) return false
  document.set('federations', document.createNode(others))
  writeFileDurably(path, document.toString())
  return true
}
