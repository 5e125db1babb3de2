/** An organization on a node, opened in two steps: what its federation needs to be led, and the trainer on its text. */
import { statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeConfig } from '../config.ts'
import type { ExternalOptions } from '../engine/engine.ts'
import { WorldlmError } from '../errors.ts'
import type { FederationId, PeerName } from '../ids.ts'
import { createLayout, type Layout } from '../model/layout.ts'
import { scheduleOf } from '../train/schedule.ts'
import { Trainer } from '../train/trainer.ts'
import type { FederationNode } from './federation-node.ts'
import type { NodeFolder } from './folder.ts'
import { Organization } from './organization.ts'
import { checkOwnModels } from './own-models.ts'
import { ResidualTarget } from './residual-target.ts'
import type { Services } from './services.ts'
import { prepareStart } from './starting-model.ts'

/** What is needed before the federation starts on this node. */
export interface Beginning {
  federation: FederationNode
  layout: Layout
  dataFolder: string
  /** Path of tokenizer.json; null: tokens are bytes. */
  tokenizer: string | null
}

interface Opening {
  services: Services
  config: NodeConfig
  /** Who is likely to hold a federation's newest model. */
  holders: (federation: FederationId) => PeerName[]
  onProgress: (progress: { step: number; steps: number; loss: number; tokensPerSecond: number }) => void
}

/** Longer than it takes when others are there. */
const rosterPatienceMs = 5_000
const rosterPollMs = 50

/** The model that all begin with is what an aggregator needs too. @throws {WorldlmError} DATA_MISSING, MODEL_DAMAGED, STOPPED */
export async function prepareOrganization(
  federation: FederationNode,
  services: Services,
  config: NodeConfig,
  stopping: () => boolean
): Promise<Beginning> {
  const dataFolder = existingDataFolder(services.folder, config)
  const { charter } = federation.state
  const layout = createLayout(charter.model, charter.algorithm)
  checkOwnModels(services.folder, federation.id, layout, (code, message) =>
    services.events.emit({ type: 'warning', code, message })
  )
  const tokenizer = await prepareStart(services, { id: federation.id, charter, layout }, stopping)
  return { federation, layout, dataFolder, tokenizer }
}

/**
 * A place in the roster first, the trainer second: it takes a core for a second, which all who start together would wait for before they
 * find each other. Who gets no place soon reads its text meanwhile.
 */
export async function untilInRoster(federation: FederationNode, stopping: () => boolean): Promise<void> {
  const isIn = () => federation.state.roster.members.has(federation.self)
  for (const began = performance.now(); !isIn() && !stopping(); await sleep(rosterPollMs))
    if (performance.now() - began > rosterPatienceMs) return
}

/** From here on the organization takes part. @throws {WorldlmError} of the text, the model, or the engine. */
export async function openOrganization(
  { federation, layout, dataFolder, tokenizer }: Beginning,
  { services, config, holders, onProgress }: Opening
): Promise<{ trainer: Trainer; organization: Organization }> {
  const { id } = federation
  const { charter } = federation.state
  const { engine, seed, validationTokens } = config
  const { batch, weightDecay, gradientClip } = charter.algorithm
  const path = config.path === '' ? config.name : config.path
  const trainer = await Trainer.start(
    {
      layout,
      ...(layout.base !== undefined && { base: services.folder.model('base') }),
      text: { path, folder: dataFolder },
      tokenizer,
      engine: engine.name,
      device: engine.device,
      recompute: engine.recompute,
      microBatch: engine.microBatch,
      ...(engine.name === 'external' && { external: externalOptions(services.folder, config) }),
      threads: engine.threads === 0 ? availableParallelism() : engine.threads,
      batch,
      weightDecay,
      gradientClip,
      schedule: scheduleOf(charter.algorithm),
      seed,
      validationTokens
    },
    onProgress,
    (code, message) => services.events.emit({ type: 'warning', code, message })
  )
  const residuals = new ResidualTarget(federation)
  const saveEveryMs = engine.checkpointSeconds * 1000
  const organization = new Organization({
    services,
    federation: id,
    charter,
    layout,
    trainer,
    saveEveryMs,
    path,
    holders,
    residuals
  })
  federation.open(organization, residuals)
  return { trainer, organization }
}

function externalOptions({ root }: NodeFolder, { engine: { command, silenceSeconds } }: NodeConfig): ExternalOptions {
  return { command, silenceMs: silenceSeconds * 1000, folder: root }
}

function existingDataFolder({ root }: NodeFolder, { data }: NodeConfig): string {
  const folder = resolve(root, data)
  if (data === '' || statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new WorldlmError(
      'DATA_MISSING',
      `${folder} is not a folder with text (data: ${JSON.stringify(data)})`,
      'Name the folder of this organization’s text in worldlm.yaml: `data:`.'
    )
  }
  return folder
}
