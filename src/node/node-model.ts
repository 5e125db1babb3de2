/** The models in a node's folder, read without starting it: the charter says what they are. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readConfig } from '../config.ts'
import { WorldlmError } from '../errors.ts'
import type { Charter } from '../governance/charter.ts'
import { mergeAdapters } from '../model/adapters.ts'
import { createLayout, type Layout } from '../model/layout.ts'
import { readModelFile } from '../train/model-file.ts'
import type { StandaloneModel } from '../train/model-source.ts'
import { isMalformed } from '../wire/codec.ts'
import { charterCodec } from '../wire/records.ts'
import { readCharters } from './certified-car.ts'
import { NodeFolder } from './folder.ts'

/** `personal`: after its last training. `start`: what its next round trains from. `initial`: what all began with. */
export type NodeModelName = 'personal' | 'start' | 'initial'
const newestFirst: NodeModelName[] = ['personal', 'start', 'initial']

export const isNodeFolder = (path: string): boolean => existsSync(new NodeFolder(path).config)

/**
 * @param name - which one; left out: the newest that is there. Adapters are merged into the model below them.
 * @throws {WorldlmError} MODEL_MISSING, CHARTER_MISSING, MODEL_DAMAGED
 */
export async function readNodeModel(path: string, name?: NodeModelName): Promise<StandaloneModel> {
  const folder = new NodeFolder(path)
  const charter = await charterOf(folder)
  const found = name ?? newestFirst.find(one => existsSync(folder.model(one)))
  if (found === undefined || !existsSync(folder.model(found))) {
    throw new WorldlmError(
      'MODEL_MISSING',
      `${path} holds no model${name === undefined ? '' : ` ${name}`} yet`,
      'Start the node once: worldlm node start --dir …'
    )
  }
  const layout = createLayout(charter.model, charter.algorithm)
  const read = (file: string, of: Layout) => {
    const floats = new Float32Array(of.floats)
    readModelFile(folder.model(file), of, [floats])
    return floats
  }
  const own = read(found, layout)
  const parameters = layout.base === undefined ? own : mergeAdapters(layout, read('base', layout.base), own)
  const tokenizer = charter.tokenizer === undefined ? null : readFileSync(join(folder.blobs, charter.tokenizer), 'utf8')
  return { config: charter.model, parameters, tokenizer }
}

/** Charter of the federation that the node trains for. @throws {WorldlmError} CHARTER_MISSING */
async function charterOf(folder: NodeFolder): Promise<Charter> {
  const { federations } = readConfig(folder.config, {})
  const id = federations.find(({ as }) => as === 'organization')?.id
  const archived = await readCharters(folder.certifiedCar)
  const bytes = id === undefined ? undefined : (folder.charters().get(id) ?? archived.get(id))
  const charter = bytes === undefined ? null : charterCodec.decode(bytes)
  if (charter !== null && !isMalformed(charter)) return charter
  throw new WorldlmError(
    'CHARTER_MISSING',
    `${folder.root} trains for no federation whose charter it holds`,
    'Join a federation and start the node once: it fetches the charter.'
  )
}
