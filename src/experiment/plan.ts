/** From options to cells: which methods, swept values and seeds, over which organizations; and what names a cell's result. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { loadText, type OrganizationText } from '../data/text-tree.ts'
import { textNeeds } from '../data/batches.ts'
import { blocksOf, type Bytes } from '../data/spool.ts'
import type { Engine } from '../engine/engine.ts'
import { WorldlmError } from '../errors.ts'
import { adaptable, createLayout, type Layout } from '../model/layout.ts'
import type { SessionOptions } from '../train/session.ts'
import { scheduleOf } from '../train/schedule.ts'
import { type Method, methodOf } from './methods.ts'
import { type AlgorithmInput, type CellOptions, cellName, cellOptions, type Settings, type Swept } from './options.ts'
import { draw, misplace } from './tree.ts'

export interface PlannedOrganization {
  /** Path of its text. */
  name: string
  /** Its place in the tree of federations: the same, or another's (`swap`). */
  place: string
  session: SessionOptions
  joinsAfter: number
  straggles: boolean
}

export interface CellPlan {
  /** Method and swept options. */
  name: string
  methodName: string
  method: Method
  swept: Swept
  seed: number
  options: CellOptions
  layout: Layout
  /** Of the adapters that organizations train beside the shared model (`lora`). */
  adapters: Layout | null
  organizations: PlannedOrganization[]
  evaluateEvery: number
  /** Training steps of all organizations in all rounds. */
  steps: number
  /** Digest of all that the result depends on, code included. */
  key: string
  /** Key of the cell whose shared part is the same, where this one trains a personal model beside it; else null. */
  trunk: string | null
}

export interface PlanOptions {
  texts: OrganizationText[]
  methods: string[]
  combinations: Swept[]
  seeds: number[]
  model: unknown
  /** The command's own, below each method's. */
  algorithm: AlgorithmInput
  settings: Partial<Record<keyof Settings, unknown>>
  evaluateEvery: number
  validationTokens: number
  engine: Engine['name']
}

type Planned = Omit<CellPlan, 'key' | 'trunk'>

/** @throws {WorldlmError} of the options, the texts, METHOD_UNKNOWN, NEWCOMER_UNKNOWN */
export async function planCells(options: PlanOptions): Promise<CellPlan[]> {
  const plans = options.seeds.flatMap(seed =>
    options.combinations.flatMap(swept => options.methods.map(name => planCell(options, name, swept, seed)))
  )
  const digests = new Map<string, string>()
  for (const { session } of plans.flatMap(({ organizations }) => organizations))
    if (!digests.has(textKey(session))) digests.set(textKey(session), await digestOfText(session))
  return plans.map(plan => ({ ...plan, key: keyOf(plan, digests, options), trunk: trunkOf(plan, digests, options) }))
}

function planCell(options: PlanOptions, methodName: string, swept: Swept, seed: number): Planned {
  const method = methodOf(methodName)
  const made = cellOptions(options, method.algorithm, swept)
  const { algorithm, model, settings } = made
  const layout = createLayout(model, algorithm)
  const organizations = planOrganizations(options, method, made, seed, layout)
  return {
    name: cellName(methodName, swept),
    methodName,
    method,
    swept,
    seed,
    options: made,
    layout,
    adapters: method.personal === 'lora' ? createLayout(model, { ...algorithm, adapters: ownAdapters }) : null,
    organizations,
    evaluateEvery: settings.newcomer === '' ? options.evaluateEvery : 1,
    steps: stepsOf(method, organizations, algorithm.rounds, algorithm.steps)
  }
}

const ownAdapters = { rank: 8, alpha: 16, matrices: [...adaptable] }

function stepsOf(method: Method, organizations: PlannedOrganization[], rounds: number, steps: number): number {
  const trained = organizations.reduce((sum, { joinsAfter, straggles }) => {
    const present = Math.max(0, rounds - joinsAfter)
    return sum + (straggles ? Math.floor(present / 2) : present)
  }, 0)
  return trained * steps * (method.personal === undefined ? 1 : 2)
}

function planOrganizations(
  { texts, engine, validationTokens }: PlanOptions,
  method: Method,
  { algorithm, settings }: CellOptions,
  seed: number,
  layout: Layout
): PlannedOrganization[] {
  const names = texts.map(({ path }) => path)
  const { liars, newcomer, newcomerRound, newcomerText, poor, stragglers, swap } = settings
  if (liars > names.length)
    throw new WorldlmError('USAGE', `option liars is ${liars}: there are ${names.length} organizations`, 'Lower it.')
  if (newcomer !== '' && !names.includes(newcomer))
    throw new WorldlmError('NEWCOMER_UNKNOWN', `there is no organization ${newcomer}`, `It is one of: ${names.join(', ')}.`)
  const places = misplace(names, swap, seed)
  const slow = new Set(draw(names, stragglers, `stragglers/${seed}`))
  const { batch, weightDecay, gradientClip } = algorithm
  return texts.map((text, index) => {
    const isNewcomer = text.path === newcomer
    const bytesMax = isNewcomer ? newcomerText : index % 2 === 1 ? poor : 0
    return {
      name: text.path,
      place: places.get(text.path)!,
      session: {
        layout,
        tokenizer: null,
        text: bytesMax > 0 ? { ...text, trainBytesMax: bytesMax } : text,
        engine,
        threads: 1,
        batch,
        weightDecay,
        gradientClip,
        schedule: scheduleOf(algorithm),
        seed,
        validationTokens
      },
      joinsAfter: isNewcomer && method.shape !== 'none' ? newcomerRound : 0,
      straggles: slow.has(text.path)
    }
  })
}

const textKey = ({ text, layout }: SessionOptions): string => JSON.stringify([text, layout.config.context])

async function digestOfText({ text, layout }: SessionOptions): Promise<string> {
  const { train, valid } = await loadText(text, textNeeds(layout.config.context))
  return [train, valid].map(sha256).join('/')
}

function sha256(data: Bytes | string): string {
  const hash = createHash('sha256')
  for (const block of typeof data === 'string' ? [data] : blocksOf(data)) hash.update(block)
  return hash.digest('hex')
}

/** Options that nothing depends on where nobody aggregates. */
const exchangeOnly = new Set<string>(
  [
    'preset keyFraction embeddingIsKey outer outerLearningRate outerMomentum up upTemperature clip down downTemperature downTolerance downSchedule textPrior',
    'levels stale encoding residuals swap dpClip dpNoise liars newcomerRound'
  ].flatMap(line => line.split(' '))
)

/** Members that take their federation's model as it is leave nothing else to take over. */
function trunkOf(plan: Planned, digests: Map<string, string>, options: PlanOptions): string | null {
  const { personal, ...method } = plan.method
  const isShared = personal !== undefined && plan.options.algorithm.down === 'replace'
  return isShared ? keyOf({ ...plan, method }, digests, options) : null
}

function keyOf(plan: Planned, digests: Map<string, string>, { validationTokens, engine }: PlanOptions): string {
  const { method, seed, options, organizations, evaluateEvery } = plan
  const alone = method.shape === 'none'
  const relevant = (all: object) => Object.entries(all).filter(([name]) => !alone || !exchangeOnly.has(name))
  const { says: _says, algorithm: _algorithm, ...kind } = method
  return sha256(
    JSON.stringify({
      kind,
      algorithm: relevant(options.algorithm),
      settings: relevant(options.settings),
      model: options.model,
      seed,
      places: alone ? [] : organizations.map(({ place, joinsAfter }) => [place, joinsAfter]),
      texts: organizations.map(({ name, session }) => [name, digests.get(textKey(session))]),
      evaluateEvery,
      validationTokens,
      engine,
      code: codeDigest(alone ? ownCode : [...ownCode, ...exchangeCode])
    })
  ).slice(0, 32)
}

/** Sources that a result depends on: when one of them changes, cells are computed anew. */
const ownCode = [
  '../math',
  '../model',
  '../engine',
  '../engine/onnx',
  '../train',
  '../data/batches',
  './cell',
  './cell-state',
  './experiment-worker'
]
const exchangeCode = [
  '../aggregate',
  '../governance/clip-and-noise',
  '../federation/residuals',
  '../federation/residual-target',
  '../federation/round-sums',
  './exchange',
  './federate',
  './residuals',
  './tree'
]

const digestsOfCode = new Map<string, string>()
function codeDigest(sources: string[]): string {
  const key = sources.join()
  const known = digestsOfCode.get(key)
  if (known !== undefined) return known
  const hash = createHash('sha256')
  const isSource = (name: string) => /\.[jt]s$/.test(name) && !/\.(as|d)\.ts$/.test(name)
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
  for (const source of sources) {
    const file = new URL(`${source}${extension}`, import.meta.url)
    const names = folderOf(source)
    for (const name of names.filter(isSource).sort()) hash.update(readFileSync(new URL(`${source}/${name}`, import.meta.url)))
    if (names.length === 0) hash.update(readFileSync(file))
  }
  const digest = hash.digest('hex')
  digestsOfCode.set(key, digest)
  return digest
}

function folderOf(source: string): string[] {
  try {
    return readdirSync(new URL(source, import.meta.url))
  } catch {
    return []
  }
}
