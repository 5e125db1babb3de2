/**
 * Where each tensor of the model lies in one flat array of floats, and which class it has.
 *
 * Two classes (docs/algorithm.md, "Names"): `backbone` is averaged, `keys` (key layers) are aggregated by attention. The key layers
 * are scored in groups: one a block (the final norm and a head of its own belong to the last block), and one for the embedding where
 * it is a key layer.
 *
 * A third class, `adapters` (model/adapters.ts), is trained instead of the model, which then lies still below them as `base`: the flat array
 * holds adapters alone. Those of a key block belong to its group and are attended to, the others are averaged.
 */

import { assert, WorldlmError } from '../errors.ts'

/** Llama architecture: RMSNorm, half-split RoPE, SwiGLU, no biases. All counts are ≥ 1. What may be left out has its default. */
export interface ModelConfig {
  /** Transformer blocks, L. */
  layers: number
  /** Width of the residual stream, d; a multiple of 4. */
  width: number
  /** Width inside the feed-forward part, h; a multiple of 4. */
  hidden: number
  /** Attention heads, H; `width / heads` is even. */
  heads: number
  /** Tokens in a window, T. */
  context: number
  /** Tokens known, V; 256 for bytes. */
  vocabulary: number
  /** RoPE base, 10,000 by default. */
  ropeBase: number
  /** RMSNorm epsilon, 1e-5 by default. */
  normEpsilon: number
  /** Heads of keys and values, a divisor of `heads`, each shared by `heads / kvHeads` queries (Ainslie et al. 2023). Default: `heads`. */
  kvHeads?: number
  /** Whether the head that makes logits is the embedding itself; otherwise it is a tensor of its own, `head`. Default: true. */
  tiedHead?: boolean
  /** How RoPE's turns are slowed down for windows longer than the model was first trained on. Default: not at all. */
  ropeScaling?: RopeScaling
}

/** `linear`: all turns by a factor. `llama3`: slow turns by the factor, fast ones not at all, and a ramp between (model/rope.ts). */
export type RopeScaling =
  | { type: 'linear'; factor: number }
  | { type: 'llama3'; factor: number; lowFrequencyFactor: number; highFrequencyFactor: number; originalContext: number }

export const kvHeadsOf = ({ heads, kvHeads = heads }: ModelConfig): number => kvHeads
export const headWidthOf = ({ width, heads }: ModelConfig): number => width / heads
/** Name of the tensor [V, d] whose rows are multiplied with the last hidden state. */
export const headNameOf = ({ tiedHead = true }: ModelConfig): 'embedding' | 'head' => (tiedHead ? 'embedding' : 'head')

/** Which part of the model the key layers are. */
export interface KeyLayers {
  /** Share of blocks, from the last one down: ⌈fraction·L⌉; 0 to 1. */
  keyFraction: number
  /** Whether the embedding is a key layer too. */
  embeddingIsKey: boolean
  /** Train these, and leave the model as it is. */
  adapters?: Adapters | undefined
}

/** Matrices of a block that an adapter can change. */
export const adaptable = ['query', 'key', 'value', 'output', 'gate', 'up', 'down'] as const

/** Low-rank adapters (Hu et al. 2021): each matrix W [in, out] named becomes W + α/r·A·B, A [in, r] and B [r, out]. */
export interface Adapters {
  /** r, whole, ≥ 1. */
  rank: number
  /** α > 0. */
  alpha: number
  matrices: (typeof adaptable)[number][]
}

type TensorClass = 'backbone' | 'keys' | 'adapters'

interface Tensor {
  /** Unique; e.g. `embedding`, `blocks.3.query`, `blocks.3.query.loraA`. */
  name: string
  /** Rows and columns ([in, out] for matrices), or one length. */
  shape: number[]
  /** First float; a multiple of 4. */
  offset: number
  /** Product of `shape`. */
  floats: number
  class: TensorClass
  /** Name of its group of key layers (`embedding`, `0`, `1`, …); null where it is averaged. */
  group: string | null
}

export interface Layout {
  config: ModelConfig
  tensors: Tensor[]
  /** Groups of key layers in order: `embedding` if it is one, then blocks by number. Empty without key layers. */
  groups: string[]
  /** Length of the flat array, padding included; padding floats are 0. */
  floats: number
  /** Where the tensors are adapters: what they are, and the layout of the model below them. */
  adapters?: Adapters
  base?: Layout
}

/** A run of floats that belongs together: the backbone's, or a group's. */
export interface Range {
  offset: number
  floats: number
}

/**
 * Lays the tensors out: embedding, blocks by number, final norm, and the head where it is not the embedding. Every shape is a multiple of 4 floats, so nothing is padded.
 * @throws {WorldlmError} BAD_MODEL, naming the field.
 */
export function createLayout(config: ModelConfig, keys: KeyLayers): Layout {
  checkConfig(config, keys)
  const { layers, width, hidden, vocabulary } = config
  const kvWidth = kvHeadsOf(config) * headWidthOf(config)
  const keyBlocks = Math.ceil(keys.keyFraction * layers)
  const tensors: Tensor[] = []
  let floats = 0
  const place = (name: string, shape: number[], group: string | null) => {
    const count = shape.reduce((product, size) => product * size, 1)
    tensors.push({ name, shape, offset: floats, floats: count, class: group === null ? 'backbone' : 'keys', group })
    floats += count
  }
  place('embedding', [vocabulary, width], keys.embeddingIsKey ? 'embedding' : null)
  for (let block = 0; block < layers; block++) {
    const group = block >= layers - keyBlocks ? String(block) : null
    place(`blocks.${block}.attentionNorm`, [width], group)
    place(`blocks.${block}.query`, [width, width], group)
    place(`blocks.${block}.key`, [width, kvWidth], group)
    place(`blocks.${block}.value`, [width, kvWidth], group)
    place(`blocks.${block}.output`, [width, width], group)
    place(`blocks.${block}.feedForwardNorm`, [width], group)
    place(`blocks.${block}.gate`, [width, hidden], group)
    place(`blocks.${block}.up`, [width, hidden], group)
    place(`blocks.${block}.down`, [hidden, width], group)
  }
  place('finalNorm', [width], keyBlocks > 0 ? String(layers - 1) : null)
  if (headNameOf(config) === 'head') place('head', [vocabulary, width], keyBlocks > 0 ? String(layers - 1) : null)
  const layout = { config, tensors, groups: groupsOf(tensors), floats }
  return keys.adapters === undefined ? layout : adaptersLayout(layout, keys.adapters)
}

const groupsOf = (tensors: Tensor[]): string[] => [
  ...new Set(tensors.flatMap(tensor => (tensor.group === null ? [] : [tensor.group])))
]

/** A and B of each adapted matrix, in the order of the matrices. @throws {WorldlmError} BAD_MODEL */
function adaptersLayout(base: Layout, adapters: Adapters): Layout {
  const { rank, alpha, matrices } = adapters
  const tensors: Tensor[] = []
  let floats = 0
  for (const { name, shape, group } of base.tensors) {
    const matrix = matrices.find(one => name.endsWith(`.${one}`))
    if (matrix === undefined) continue
    const [rows, columns] = shape as [number, number]
    if (!Number.isInteger(rank) || rank < 1 || rank > Math.min(rows, columns) || (rank * columns) % 4 !== 0)
      refuseField(
        'algorithm.adapters.rank',
        rank,
        `a whole number from 1 to ${Math.min(rows, columns)}, a multiple of 4 best (${name} is [${shape}])`
      )
    for (const [part, size] of [
      ['loraA', [rows, rank]],
      ['loraB', [rank, columns]]
    ] as const) {
      const count = size[0]! * size[1]!
      tensors.push({ name: `${name}.${part}`, shape: [...size], offset: floats, floats: count, class: 'adapters', group })
      floats += count
    }
  }
  if (!(alpha > 0 && alpha < Number.POSITIVE_INFINITY)) refuseField('algorithm.adapters.alpha', alpha, 'a number > 0')
  if (tensors.length === 0) refuseField('algorithm.adapters.matrices', '[]', `some of ${adaptable.join(', ')}`)
  return { config: base.config, tensors, groups: groupsOf(tensors), floats, adapters, base }
}

/** The floats of each group, in the order of `layout.groups`. */
export function groupRanges(layout: Layout): Range[] {
  return layout.groups.map(group => {
    const [range, ...more] = runs(layout, tensor => tensor.group === group)
    assert(range !== undefined && more.length === 0, 'a group is one run of floats', group)
    return range
  })
}

/** The floats that are averaged, in as few runs as it takes. */
export const backboneRanges = (layout: Layout): Range[] => runs(layout, tensor => tensor.group === null)

function runs(layout: Layout, belongs: (tensor: Tensor) => boolean): Range[] {
  const found: Range[] = []
  for (const tensor of layout.tensors) {
    if (!belongs(tensor)) continue
    const last = found.at(-1)
    if (last !== undefined && last.offset + last.floats === tensor.offset) last.floats += tensor.floats
    else found.push({ offset: tensor.offset, floats: tensor.floats })
  }
  return found
}

function refuseField(field: string, value: unknown, want: string): never {
  throw new WorldlmError(
    'BAD_MODEL',
    `${field} is ${value}, it must be ${want}`,
    'Change it in the charter, or use a preset: tiny, small, medium.'
  )
}

function checkConfig(config: ModelConfig, keys: KeyLayers): void {
  const refuse = (field: string, value: unknown, want: string) => refuseField(`model.${field}`, value, want)
  for (const field of ['layers', 'width', 'hidden', 'heads', 'context', 'vocabulary'] as const) {
    if (!Number.isInteger(config[field]) || config[field] < 1) refuse(field, config[field], 'a whole number ≥ 1')
  }
  for (const field of ['width', 'hidden'] as const) if (config[field] % 4 !== 0) refuse(field, config[field], 'a multiple of 4')
  if (config.width % (config.heads * 2) !== 0)
    refuse('heads', config.heads, `a divisor of width / 2 (width is ${config.width})`)
  for (const field of ['ropeBase', 'normEpsilon'] as const) {
    if (!(config[field] > 0 && config[field] < Number.POSITIVE_INFINITY)) refuse(field, config[field], 'a number > 0')
  }
  const kvHeads = kvHeadsOf(config)
  if (!Number.isInteger(kvHeads) || kvHeads < 1 || config.heads % kvHeads !== 0)
    refuse('kvHeads', kvHeads, `a divisor of heads (${config.heads})`)
  const { type, ...factors } = config.ropeScaling ?? {}
  if (type !== undefined && type !== 'linear' && type !== 'llama3') refuse('ropeScaling.type', type, 'linear or llama3')
  for (const [field, value] of Object.entries(factors))
    if (!(value > 0 && value < Number.POSITIVE_INFINITY)) refuse(`ropeScaling.${field}`, value, 'a number > 0')
  if (!(keys.keyFraction >= 0 && keys.keyFraction <= 1)) refuse('keyFraction', keys.keyFraction, 'between 0 and 1')
}
