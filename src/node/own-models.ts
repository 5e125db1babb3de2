/**
 * What an organization's own models are worth when its node starts. Those of another federation, which it has left, and those that are cut off
 * are set aside, and it goes on as if they had never been: what its federation knows is fetched, the rest is trained again.
 *
 * Is not a digest: in a file of the right length a number that changed is not seen.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { WorldlmError } from '../errors.ts'
import type { FederationId } from '../ids.ts'
import type { Layout } from '../model/layout.ts'
import { assertWholeModel, checkpointSections } from '../train/model-file.ts'
import { writeFileDurably } from './files.ts'
import type { NodeFolder } from './folder.ts'

type Warn = (code: string, message: string) => void

/** Before anything is made in `models/` for this federation. @throws {WorldlmError} DISK_FULL */
export function checkOwnModels(folder: NodeFolder, federation: FederationId, layout: Layout, warn: Warn): void {
  const marker = join(folder.models, 'federation')
  const before = existsSync(marker) ? readFileSync(marker, 'utf8').trim() : federation
  if (before !== federation) setForeignAside(folder, before, warn)
  if (before !== federation || !existsSync(marker)) writeFileDurably(marker, `${federation}\n`)
  setDamagedAside(folder, layout, warn)
}

const modelsIn = ({ models }: NodeFolder): string[] =>
  readdirSync(models)
    .filter(name => name.endsWith('.safetensors'))
    .sort()

/** They may be of another shape, and what rounds begin with is another's in any case. */
function setForeignAside(folder: NodeFolder, before: FederationId, warn: Warn): void {
  const aside = join(folder.models, `of-${before}`)
  rmSync(aside, { recursive: true, force: true })
  mkdirSync(aside)
  for (const name of modelsIn(folder)) renameSync(join(folder.models, name), join(aside, name))
  warn('MODELS_SET_ASIDE', `what was trained in the federation ${before} lies in ${aside}; in this one training begins anew`)
}

function setDamagedAside(folder: NodeFolder, layout: Layout, warn: Warn): void {
  for (const file of modelsIn(folder)) {
    const [, name, numbered] = /^(personal|start|initial|base|(rest|checkpoint)-\d+)\.safetensors$/.exec(file) ?? []
    if (name === undefined) continue
    const path = join(folder.models, file)
    try {
      const sections = numbered === 'checkpoint' ? checkpointSections : ['']
      assertWholeModel(path, name === 'base' ? (layout.base ?? layout) : layout, sections)
    } catch (error) {
      if (!(error instanceof WorldlmError) || error.code !== 'MODEL_DAMAGED') throw error
      renameSync(path, `${path}.damaged`)
      warn('MODEL_DAMAGED', `${error.message}; it is set aside as ${file}.damaged, and the node goes on without it`)
    }
  }
}
