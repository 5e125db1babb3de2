/**
 * The methods: one row of options each, over the same code (docs/algorithm.md). A row says how much of the tree is used,
 * what the charter's algorithm is, and what else an organization does.
 */
import { WorldlmError } from '../errors.ts'
import type { AlgorithmInput } from './options.ts'
import type { Shape } from './tree.ts'

export interface Method {
  says: string
  shape: Shape
  algorithm: AlgorithmInput
  /** One model over all windows of all organizations. */
  pooled?: boolean
  /** A federation at depth d of a tree of depth D aggregates every 2^(D − d) rounds. */
  periods?: boolean
  /** A personal model beside the shared one: pulled towards it, or adapters over it. */
  personal?: 'ditto' | 'lora'
}

const wholeMean = { preset: 'fedavg' } as const
/** The mean as key layers that are replaced: positions, not changes, so that members of different beginnings can be averaged. */
const positionMean = { keyFraction: 1, embeddingIsKey: true, up: 'mean', clip: 'none', down: 'replace' } as const

export const methods = {
  local: { says: 'each organization by itself', shape: 'none', algorithm: {} },
  central: { says: 'one model, all text in one place, the same windows in total', shape: 'none', algorithm: {}, pooled: true },
  fedavg: { says: 'the mean of all, every round (McMahan et al. 2017)', shape: 'flat', algorithm: wholeMean },
  diloco: {
    says: 'fedavg with Nesterov momentum on the mean change (Douillard et al. 2023)',
    shape: 'flat',
    algorithm: { ...wholeMean, outer: 'nesterov' }
  },
  fedper: {
    says: 'fedavg below, the last 30 % of the blocks one’s own (Arivazhagan et al. 2019)',
    shape: 'flat',
    algorithm: { keyFraction: 0.3, embeddingIsKey: false, up: 'mean', clip: 'none', down: 'self' }
  },
  hierfavg: {
    says: 'the mean in the leaf federation every round, a level up every 2, above every 4 (Liu et al. 2020)',
    shape: 'tree',
    algorithm: positionMean,
    periods: true
  },
  'fedavg-per-federation': { says: 'fedavg inside each leaf federation only', shape: 'leaves', algorithm: wholeMean },
  dpsgd: {
    says: 'neighbours on a ring average, no aggregator (Lian et al. 2017)',
    shape: 'graph',
    algorithm: positionMean
  },
  ditto: {
    says: 'fedavg, and a personal model pulled towards it, λ 0.1 (Li et al. 2021); trains twice',
    shape: 'flat',
    algorithm: wholeMean,
    personal: 'ditto'
  },
  lora: {
    says: 'fedavg, and rank-8 adapters of one’s own over it (Hu et al. 2021); trains twice',
    shape: 'flat',
    algorithm: wholeMean,
    personal: 'lora'
  },
  worldlm: { says: 'attention over all layers: up by update, down by likelihood, residuals', shape: 'tree', algorithm: {} },
  'worldlm-paper': {
    says: 'the paper’s: backbone mean, last 30 % by cosine attention, down a chain',
    shape: 'tree',
    algorithm: { preset: 'worldlm-paper' }
  },
  'worldlm-no-residuals': {
    says: 'worldlm without key layers from federations elsewhere in the tree',
    shape: 'tree',
    algorithm: { residuals: { perNode: 0, minSimilarity: 0, dropAfter: 2 } }
  },
  'worldlm-mean': { says: 'worldlm with a plain mean on the way up', shape: 'tree', algorithm: { up: 'mean' } }
} satisfies Record<string, Method>

export type MethodName = keyof typeof methods
export const methodNames = Object.keys(methods) as MethodName[]

/** @throws {WorldlmError} METHOD_UNKNOWN */
export function methodOf(name: string): Method {
  if (Object.hasOwn(methods, name)) return methods[name as MethodName]
  throw new WorldlmError('METHOD_UNKNOWN', `there is no method ${name}`, `Choose from: ${methodNames.join(', ')}.`)
}
