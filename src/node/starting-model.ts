/**
 * What a tree of federations begins with, where its charter names it: parameters and a tokenizer, both blobs. The founder puts them into
 * its store; every node fetches them before it takes part, so all begin with the same bits.
 */
import { copyFileSync, existsSync, renameSync, writeFileSync } from 'node:fs'
import { WorldlmError } from '../errors.ts'
import { firstNotFinite } from '../math/finite.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link } from '../ids.ts'
import { initialParameters } from '../model/initial.ts'
import type { Layout, ModelConfig } from '../model/layout.ts'
import { type PresetName, presets } from '../model/presets.ts'
import { openTokenizer } from '../data/tokenizer.ts'
import { plainLayout } from '../train/hugging-face-folder.ts'
import { readModelFile, writeModelFile } from '../train/model-file.ts'
import type { StandaloneModel } from '../train/model-source.ts'
import { limits } from '../wire/limits.ts'
import { Blobs } from './blobs.ts'
import type { NodeFolder } from './folder.ts'
import type { Services } from './services.ts'

/** A model with its tokenizer, or a tokenizer for a preset, whose vocabulary becomes the tokenizer's. */
export type Start = { model: StandaloneModel } | { tokenizer: string; preset: PresetName }

/** Fields of a charter. */
interface StartFields {
  model?: ModelConfig
  initial?: Link
  tokenizer?: Link
}

/**
 * Puts a model, or a tokenizer alone, into the store of a node that does not run.
 * @returns what the charter says of them. @throws {WorldlmError} TOKENIZER_INVALID, TOKENIZER_TOO_LARGE, DISK_FULL
 */
export async function addStart(folder: NodeFolder, given: Start): Promise<StartFields> {
  const { blobs } = await Blobs.open(folder.blobs)
  const put = async (name: string, write: (path: string) => void): Promise<Link> => {
    const path = folder.model(name)
    write(path)
    return (await blobs.put(path)).link
  }
  const text = 'model' in given ? given.model.tokenizer : given.tokenizer
  const tokens = openTokenizer(text, 'tokenizer.json').vocabulary
  const config = 'model' in given ? given.model.config : { ...presets[given.preset].model, vocabulary: Math.max(256, tokens) }
  if (tokens > config.vocabulary)
    throw new WorldlmError(
      'TOKENIZER_TOO_LARGE',
      `the tokenizer has ${tokens} tokens, the model knows ${config.vocabulary}`,
      'Give the tokenizer that belongs to the model.'
    )
  const fields: StartFields = { model: config }
  if ('model' in given) {
    // Without metadata: equal parameters are equal blobs.
    fields.initial = await put('given', path => writeModelFile(path, plainLayout(config), [given.model.parameters]))
  }
  if (text !== null) fields.tokenizer = await put('given-tokenizer', path => writeFileSync(path, text))
  return fields
}

/** Parameters that are drawn within a few milliseconds: to start the mixer's thread would take longer. */
const drawnAtOnceMax = 2 ** 20

async function drawModel({ mixer }: Pick<Services, 'mixer'>, path: string, layout: Layout, seed: number): Promise<void> {
  if (layout.floats > drawnAtOnceMax) await mixer.draw(layout, seed, path)
  else writeModelFile(path, layout, [initialParameters(layout, seed)])
}

/**
 * Makes `models/initial` (and `models/base`, where adapters are trained) and brings the tokenizer here, from whichever peer has them.
 * @returns the path of tokenizer.json; null: tokens are bytes. @throws {WorldlmError} MODEL_DAMAGED, STOPPED
 */
export async function prepareStart(
  services: Pick<Services, 'folder' | 'host' | 'directory' | 'exchange' | 'blobs' | 'events' | 'mixer'>,
  { id, charter, layout }: { id: FederationId; charter: Charter; layout: Layout },
  stopping: () => boolean
): Promise<string | null> {
  const { folder, blobs } = services
  const { base } = layout
  if (base !== undefined && !existsSync(folder.model('initial')))
    await drawModel(services, folder.model('initial'), layout, charter.seed)
  // What the charter names is the model: under adapters, where those are trained.
  const [model, modelLayout] = base === undefined ? [folder.model('initial'), layout] : [folder.model('base'), base]
  if (!existsSync(model)) {
    if (charter.initial === undefined) await drawModel(services, model, modelLayout, charter.seed)
    else {
      await pullPatiently(services, id, charter.initial, stopping)
      takeOver(blobs.path(charter.initial), model, modelLayout)
    }
  }
  if (charter.tokenizer === undefined) return null
  await pullPatiently(services, id, charter.tokenizer, stopping)
  const path = blobs.path(charter.tokenizer)
  if (blobs.bytes(charter.tokenizer) > limits.tokenizerBytesMax)
    throw new WorldlmError(
      'TOKENIZER_INVALID',
      `the tokenizer of ${charter.path} has ${blobs.bytes(charter.tokenizer)} bytes, at most ${limits.tokenizerBytesMax} are read`,
      'Ask whoever founded the federation.'
    )
  return path
}

/** A founder may have named anything: what is not a whole model of the charter's layout is not begun with. */
function takeOver(from: string, to: string, layout: Layout): void {
  const parameters = new Float32Array(layout.floats)
  readModelFile(from, layout, [parameters])
  const wrong = firstNotFinite(parameters)
  if (wrong >= 0)
    throw new WorldlmError(
      'MODEL_NOT_FINITE',
      `the model that the charter begins with holds ${parameters[wrong]} at place ${wrong}`,
      'Ask whoever founded the federation for another charter.'
    )
  copyFileSync(from, `${to}.tmp`)
  renameSync(`${to}.tmp`, to)
}

const retryMs = 300
const triesPerWarning = 50

async function pullPatiently(
  { host, directory, exchange, blobs, events }: Pick<Services, 'host' | 'directory' | 'exchange' | 'blobs' | 'events'>,
  id: FederationId,
  blob: Link,
  stopping: () => boolean
): Promise<void> {
  if (blobs.has(blob)) return
  directory.follow(id, () => blobs.has(blob))
  for (let tries = 1; !stopping(); tries++) {
    try {
      await exchange.pull(blob, host.connectedPeers())
      return
    } catch (error) {
      if (error instanceof WorldlmError) throw error
      if (tries % triesPerWarning === 0)
        events.emit({
          type: 'warning',
          code: 'MODEL_AWAY',
          message: `what the federation begins with: ${(error as Error).message}`
        })
    }
    await new Promise(resolve => setTimeout(resolve, retryMs))
  }
  throw new WorldlmError('STOPPED', 'the node was stopped while it fetched what its federation begins with', 'Start it again.')
}
