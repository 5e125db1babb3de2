/**
 * What an experiment can vary: every option of a charter's algorithm, and what is done to the organizations (`settings`).
 */
import { z } from 'zod'
import { WorldlmError } from '../errors.ts'
import type { Algorithm, Charter } from '../governance/charter.ts'
import { algorithmDefaults, completeCharter } from '../governance/charter-schema.ts'
import type { ModelConfig } from '../model/layout.ts'

/** Of each organization's fixed validation set: the fewer, the more of what methods seem to differ by is chance. */
export const validationTokens = 12_288

/** As a charter takes it: what is left out has its default. */
export type AlgorithmInput = Partial<Algorithm> & { preset?: string }

/** `50kB`, `1 MB`, `300`: bytes of text. */
const size = z.union([z.number(), z.string()]).transform((value, context) => {
  const [, digits, unit = 'b'] = /^\s*([\d.]+)\s*([km]?b)?\s*$/i.exec(String(value)) ?? []
  const bytes = Number(digits) * { b: 1, kb: 1_000, mb: 1_000_000 }[unit.toLowerCase() as 'b' | 'kb' | 'mb']
  if (Number.isFinite(bytes)) return Math.round(bytes)
  context.addIssue({ code: 'custom', message: 'it must be a size such as 50kB' })
  return z.NEVER
})

export const settingsSchema = z.strictObject({
  /** Every second organization, by name, has only so much training text; 0: all of it. */
  poor: size.default(0),
  /** Share of the organizations that sit in wrong federations, 0 to 1. */
  swap: z.number().min(0).max(1).default(0),
  /** Each update is clipped to this length before it is sent; 0: not. */
  dpClip: z.number().min(0).default(0),
  /** Deviation of the normal noise on each number of an update, in units of dpClip. */
  dpNoise: z.number().min(0).default(0),
  /** So many organizations, the first by name, send ten times the opposite of their update. */
  liars: z.int().min(0).default(0),
  /** Share of the organizations that take two rounds' time for their steps, 0 to 1: they hand in every second round, from the round before. */
  stragglers: z.number().min(0).max(1).default(0),
  /** This organization joins late; alone (method `local`) it trains from the first round on. */
  newcomer: z.string().default(''),
  /** Rounds before the newcomer joins. */
  newcomerRound: z.int().min(0).default(15),
  /** Training text of the newcomer; 0: all of it. */
  newcomerText: size.default(50_000)
})
export type Settings = z.output<typeof settingsSchema>

export const settingNames = Object.keys(settingsSchema.shape) as (keyof Settings)[]
const algorithmNames = Object.keys(algorithmDefaults) as (keyof Algorithm)[]

/** Swept options of one cell, by name. */
export type Swept = Record<string, string | number | boolean>

/** `keyFraction=0,0.3,1`. @throws {WorldlmError} USAGE */
export function parseSweep(text: string): { key: string; values: (string | number | boolean)[] } {
  const [key = '', list = ''] = text.split('=', 2).map(part => part.trim())
  const known = [...algorithmNames, ...settingNames, 'preset']
  if (!known.includes(key as never)) {
    const near = known.find(name => name.toLowerCase().includes(key.toLowerCase()) && key !== '')
    throw new WorldlmError(
      'USAGE',
      `--sweep ${text}: there is no option ${JSON.stringify(key)}`,
      near === undefined ? `Options are: ${known.join(', ')}.` : `Did you mean ${near}?`
    )
  }
  const values = [...new Set(list.split(',').map(value => scalar(value.trim())))]
  if (list === '') throw new WorldlmError('USAGE', `--sweep ${text}: no value after =`, 'Write --sweep keyFraction=0,0.3,1.')
  return { key, values }
}

function scalar(text: string): string | number | boolean {
  if (text === 'true' || text === 'false') return text === 'true'
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : text
}

/** All combinations of the swept values; one empty one where nothing is swept. @throws {WorldlmError} USAGE */
export function combinations(sweeps: { key: string; values: (string | number | boolean)[] }[]): Swept[] {
  const twice = sweeps.find(({ key }, place) => sweeps.findIndex(other => other.key === key) < place)
  if (twice !== undefined)
    throw new WorldlmError(
      'USAGE',
      `--sweep ${twice.key} stands there twice`,
      `Write its values into one: --sweep ${twice.key}=${sweeps.flatMap(({ key, values }) => (key === twice.key ? values : [])).join()}.`
    )
  return sweeps.reduce<Swept[]>(
    (some, { key, values }) => some.flatMap(swept => values.map(value => ({ ...swept, [key]: value }))),
    [{}]
  )
}

/** `worldlm keyFraction=0.3` */
export const cellName = (method: string, swept: Swept): string =>
  [method, ...Object.entries(swept).map(([key, value]) => `${key}=${value}`)].join(' ')

export interface CellOptions {
  model: ModelConfig
  algorithm: Algorithm
  settings: Settings
}

/** What would change nothing, and yet stand in the report as if it did. @throws {WorldlmError} USAGE */
function refuseIdle({ dpClip, dpNoise, newcomer }: Settings, given: object): void {
  if (dpNoise > 0 && dpClip === 0)
    throw new WorldlmError(
      'USAGE',
      'option dpNoise without dpClip: no noise is put on what is not clipped',
      'Add --sweep dpClip=1.'
    )
  const idle = (['newcomerRound', 'newcomerText'] as const).find(key => key in given)
  if (idle !== undefined && newcomer === '')
    throw new WorldlmError('USAGE', `option ${idle} without a newcomer`, 'Add --sweep newcomer=PATH.')
}

/** @param base - the command's own options, below the method's. @throws {WorldlmError} CHARTER_INVALID, CHARTER_CONTRADICTION, USAGE */
export function cellOptions(
  base: { model: unknown; algorithm: AlgorithmInput; settings: Partial<Record<keyof Settings, unknown>> },
  method: AlgorithmInput,
  swept: Swept
): CellOptions {
  const isSetting = (key: string) => settingNames.includes(key as keyof Settings)
  const pick = (wanted: boolean) => Object.fromEntries(Object.entries(swept).filter(([key]) => isSetting(key) === wanted))
  const settings = settingsSchema.safeParse({ ...base.settings, ...pick(true) })
  if (!settings.success) {
    const { path, message } = settings.error.issues[0]!
    throw new WorldlmError('USAGE', `option ${path.join('.')}: ${message}`, 'See `worldlm experiment --help`.')
  }
  refuseIdle(settings.data, { ...base.settings, ...pick(true) })
  const { residuals, ...asked } = pick(false)
  // `residuals=2` is short for the number that a node is brought.
  const perNode = residuals === undefined ? {} : { residuals: { perNode: residuals } }
  const charter: Charter = completeCharter(
    { name: 'world', model: base.model, algorithm: { ...base.algorithm, ...method, ...asked, ...perNode } },
    { founders: [], parent: null }
  )
  if (charter.algorithm.adapters !== undefined)
    throw new WorldlmError(
      'USAGE',
      'algorithm.adapters: an experiment trains whole models',
      'Leave it out; the method `lora` has adapters of each organization’s own.'
    )
  return { model: charter.model, algorithm: charter.algorithm, settings: settings.data }
}
