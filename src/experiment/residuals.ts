/**
 * Residuals between federations in memory (docs/algorithm.md, "Residual embeddings"): the bridges' and the targets' own rules
 * (federation/residuals.ts, federation/residual-target.ts), driven by one bridge that never fails and that every charter lets through.
 *
 *   first training ──▶ fingerprint ──▶ lines ──each round──▶ bring ──▶ held ──next round──▶ a candidate, once ──▶ weighed
 */
import type { Candidate, Share } from '../aggregate/down.ts'
import { cosine, foldSketch, readSketch } from '../aggregate/sketch.ts'
import { assert } from '../errors.ts'
import {
  arriveResidual,
  initialTarget,
  offerResidual,
  type TargetState,
  useResiduals,
  weighResiduals
} from '../federation/residual-target.ts'
import {
  type Bring,
  initialResiduals,
  type ResidualsEvent,
  type ResidualsFacts,
  type ResidualsState,
  stepResiduals
} from '../federation/residuals.ts'
import type { Algorithm } from '../governance/charter.ts'
import { shared } from './jobs.ts'

/** Plain data: it is saved with the cell. */
export interface Residuals {
  bridge: ResidualsState
  targets: Map<string, TargetState>
  fingerprints: Map<string, Float32Array>
  /** K of sources, by the name that they were offered under. */
  models: Map<string, Float32Array>
}

const bridgeName = 'bridge'

export const beginResiduals = (): Residuals => ({
  bridge: initialResiduals(bridgeName),
  targets: new Map(),
  fingerprints: new Map(),
  models: new Map()
})

/** What an organization has been brought for the attention of `round`. */
export function residualsFor(residuals: Residuals, target: string, round: number): Candidate<Float32Array>[] {
  const [state, used] = useResiduals(residuals.targets.get(target) ?? initialTarget, round)
  residuals.targets.set(target, state)
  return used.map(({ from, model, textBytes }) => {
    const keys = residuals.models.get(model)
    assert(keys !== undefined, 'a residual that is held is there', { target, model })
    return { name: from, model: keys, textBytes, isResidual: true }
  })
}

export function weighResidualsOf(
  residuals: Residuals,
  { residuals: options }: Algorithm,
  target: string,
  round: number,
  shares: readonly Share[],
  used: readonly Candidate<Float32Array>[]
): void {
  const weights = used.flatMap(({ name }) =>
    shares.filter(share => share.name === name).map(({ weight }) => ({ from: name, weight }))
  )
  const state = residuals.targets.get(target) ?? initialTarget
  residuals.targets.set(target, weighResiduals(state, round, weights, options))
}

/** A source: what it handed in this round, and the federation that it sits in. */
export interface Source {
  federation: string
  update: Float32Array
  sketches: Uint8Array
  textBytes: number
}

/** Brings each target its residuals for the next round. @returns how many were brought. */
export function bringResiduals(
  residuals: Residuals,
  algorithm: Algorithm,
  round: number,
  sources: Map<string, Source>
): number {
  const facts: ResidualsFacts = {
    ...algorithm.residuals,
    holdBack: algorithm.down !== 'likelihood',
    similarity: (left, right) => cosine(residuals.fingerprints.get(left)!, residuals.fingerprints.get(right)!),
    permitted: () => true
  }
  const step = (event: ResidualsEvent): Bring[] => {
    const [state, effects] = stepResiduals(residuals.bridge, event, facts)
    residuals.bridge = state
    return effects
  }
  const queue = step({ type: 'bridges', living: new Set([bridgeName]) })
  for (const [name, { federation, sketches }] of sources) {
    if (residuals.fingerprints.has(name)) continue
    residuals.fingerprints.set(name, readSketch(foldSketch(sketches)))
    queue.push(...step({ type: 'fingerprint', node: { node: name, federation, branch: federation } }))
  }
  const offered = new Set<string>()
  queue.push(...step({ type: 'round', round, branch: null }))
  for (let effect = queue.shift(); effect !== undefined; effect = queue.shift()) {
    const { target, source, similarity } = effect
    const outcome = bring(residuals, algorithm, round, { target, source, similarity }, sources.get(source))
    if (outcome === 'brought') offered.add(`${target} ${source}`)
    queue.push(...step({ type: 'answered', target, source, outcome }))
  }
  forgetUnheld(residuals)
  return offered.size
}

function bring(
  residuals: Residuals,
  { residuals: options }: Algorithm,
  round: number,
  { target, source, similarity }: Omit<Bring, 'do'>,
  given: Source | undefined
): Extract<ResidualsEvent, { type: 'answered' }>['outcome'] {
  if (given === undefined) return 'away'
  const model = `${source} ${round}`
  const state = residuals.targets.get(target) ?? initialTarget
  const offer = { from: source, similarity, via: bridgeName, model, textBytes: given.textBytes, held: true }
  const [next, verdict] = offerResidual(state, offer, round, options)
  if (verdict !== 'take') {
    assert(verdict !== 'wanted', 'an offer that is held is taken or refused', offer)
    return verdict
  }
  if (!residuals.models.has(model)) residuals.models.set(model, shared(given.update))
  residuals.targets.set(target, arriveResidual(next, source, model, true))
  return 'brought'
}

function forgetUnheld({ targets, models }: Residuals): void {
  const held = new Set([...targets.values()].flatMap(({ places }) => places.map(({ model }) => model)))
  for (const model of models.keys()) if (!held.has(model)) models.delete(model)
}
