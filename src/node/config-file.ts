/** The list of federations in a node's worldlm.yaml, changed in place: comments stay. */
import { readFileSync } from 'node:fs'
import { parseDocument } from 'yaml'
import type { FederationId } from '../ids.ts'
import { writeFileDurably } from './files.ts'

interface Written {
  federations?: { id: string; leaving?: boolean }[]
  bootstrap?: string[]
}

/** @param path - of worldlm.yaml. */
export function addFederation(path: string, id: FederationId, as: 'organization' | 'witness', bootstrap: string[]): void {
  const document = parseDocument(readFileSync(path, 'utf8'))
  const { federations = [], bootstrap: known = [] } = (document.toJS() ?? {}) as Written
  const others = federations.filter(one => one.id !== id)
  document.set('federations', document.createNode([...others, as === 'witness' ? { id, as } : { id }]))
  if (bootstrap.length > 0) document.set('bootstrap', document.createNode([...new Set([...known, ...bootstrap])]))
  writeFileDurably(path, document.toString())
}

/** The node goes on leaving it when it is started again. Joined anew, it is not leaving any more. */
export function noteLeaving(path: string, id: FederationId): void {
  const document = parseDocument(readFileSync(path, 'utf8'))
  const { federations = [] } = (document.toJS() ?? {}) as Written
  document.set('federations', document.createNode(federations.map(one => (one.id === id ? { ...one, leaving: true } : one))))
  writeFileDurably(path, document.toString())
}

/** @returns whether it was there. */
export function removeFederation(path: string, id: FederationId): boolean {
  const document = parseDocument(readFileSync(path, 'utf8'))
  const { federations = [] } = (document.toJS() ?? {}) as Written
  const others = federations.filter(one => one.id !== id)
  if (others.length === federations.length) return false
  document.set('federations', document.createNode(others))
  writeFileDurably(path, document.toString())
  return true
}
