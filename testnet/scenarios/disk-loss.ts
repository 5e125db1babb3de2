/** A node that lost its disk: its identity and configuration are restored, as from a backup; all that it did is gone. */
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { TestnetNode } from '../spawn.ts'

/** What an operator has elsewhere. */
const restored = new Set(['identity.key', 'token', 'worldlm.yaml', 'charters'])

/** What was there is moved beside the folder: the invariants are checked on it too. */
export function emptyDisk({ folder }: TestnetNode): void {
  let lost = ''
  for (let times = 1; lost === '' || existsSync(lost); times++) lost = `${folder.root}.lost-${times}`
  mkdirSync(lost)
  for (const name of readdirSync(folder.root)) {
    if (restored.has(name)) continue
    // Not renamed: a folder that a scenario may fill up lies on a disk of its own.
    cpSync(join(folder.root, name), join(lost, name), { recursive: true })
    rmSync(join(folder.root, name), { recursive: true })
  }
}

/** The folder that a node has, then those that it had. */
export function foldersOf({ folder }: TestnetNode): string[] {
  const roots = [folder.root]
  for (let times = 1; existsSync(`${folder.root}.lost-${times}`); times++) roots.push(`${folder.root}.lost-${times}`)
  return roots
}
