/**
 * Residuals as their target sees them: what it is offered, awaits, holds and uses (docs/algorithm.md, "Residual embeddings").
 *
 *   offered ──wanted──▶ awaited ──at the bridge──▶ pulling ──▶ held ──next round──▶ used, once (I6) ──weighed──▶ in line, or dropped
 *
 * Is: pure, and small enough to be stored as JSON: what was used is on disk before it is mixed in, so that a restart cannot use it again.
 * Is not: the judge of signatures and charters; who offers has been checked (node/residual-target.ts).
 */
import { lightWeight } from '../aggregate/asking.ts'
import { assert } from '../errors.ts'
import type { Link, MemberId, PeerName } from '../ids.ts'
import { askAgainRounds } from './residuals.ts'

export interface Offer {
  from: MemberId
  similarity: number
  via: PeerName
  model: Link
  textBytes: number
  /** Whether the bridge has the model here; otherwise it asks whether to fetch it. */
  held: boolean
}

export interface OfferedResidual extends Omit<Offer, 'held'> {
  state: 'awaited' | 'pulling' | 'held'
}

/** JSON. Keys of the records are sources. */
export interface TargetState {
  /** The newest round in which residuals were used. */
  readonly usedRound: number
  readonly places: readonly OfferedResidual[]
  /** Model that was used of each source last: the same one is not taken twice. */
  readonly lastModel: Readonly<Record<MemberId, Link>>
  /** Times in a row that a source got too little weight. */
  readonly poor: Readonly<Record<MemberId, number>>
  /** Round in which a source was dropped. */
  readonly dropped: Readonly<Record<MemberId, number>>
  /** How many of the newest round's residuals got their weight. */
  readonly worthy: number
  /** Pulls that were begun since residuals were used last. */
  readonly taken: number
}

export interface TargetOptions {
  perNode: number
  dropAfter: number
}

/** Pulls of a place between two rounds: places change hands while more similar ones come; whoever makes sources up fills no disk. */
const takenPerPlaceMax = 4

/** `wanted`: bring it. `take`: it is pulled now. The others are the outcomes of residuals.ts. */
export type OfferVerdict = 'wanted' | 'take' | 'have' | 'full' | 'dropped'

/** A residual that takes part in a round's attention. */
export interface UsedResidual {
  from: MemberId
  via: PeerName
  model: Link
  similarity: number
  textBytes: number
}

export const initialTarget: TargetState = {
  usedRound: 0,
  places: [],
  lastModel: {},
  poor: {},
  dropped: {},
  worthy: 0,
  taken: 0
}

/** @param round - the newest certified round of the target's federation. */
export function offerResidual(
  state: TargetState,
  offer: Offer,
  round: number,
  options: TargetOptions
): [TargetState, OfferVerdict] {
  if (isDropped(state, offer.from, round, options)) return [state, 'dropped']
  const known = state.places.find(({ from }) => from === offer.from)
  if (known !== undefined && (known.state !== 'awaited' || (!offer.held && known.via === offer.via))) return [state, 'have']
  if (known === undefined && state.lastModel[offer.from] === offer.model) return [state, 'have']
  const others = state.places.filter(({ from }) => from !== offer.from)
  // Two sources may grant one model: whoever copies another's, or two names of one organization.
  if (others.some(({ model }) => model === offer.model)) return [state, 'have']
  if (state.taken >= options.perNode * takenPerPlaceMax) return [state, 'full']
  const gives = others.length < options.perNode ? null : givesWay(others, offer)
  if (others.length >= options.perNode && gives === null) return [state, 'full']
  const kept = others.filter(one => one !== gives)
  const { held, ...residual } = offer
  const places = [...kept, { ...residual, state: held ? ('pulling' as const) : ('awaited' as const) }]
  assert(places.length <= options.perNode, 'a target takes no more residuals than it has places for', places)
  return [{ ...state, places, taken: state.taken + (held ? 1 : 0) }, held ? 'take' : 'wanted']
}

/**
 * What a full target lets go for an offer: the least similar, if it is less so than the offer; else what it awaits from the same bridge, which
 * goes on to the next in line only where a source before has not given what it granted.
 */
function givesWay(places: readonly OfferedResidual[], { similarity, via }: Offer): OfferedResidual | null {
  const least = leastSimilar(places)
  if (least !== null && least.similarity < similarity) return least
  return leastSimilar(places.filter(one => one.state === 'awaited' && one.via === via))
}

/** The pull of an offered residual ended. One that was displaced meanwhile is no longer looked at. */
export function arriveResidual(state: TargetState, from: MemberId, model: Link, arrived: boolean): TargetState {
  const places = state.places.flatMap(one => {
    if (one.from !== from || one.model !== model) return [one]
    return arrived ? [{ ...one, state: 'held' as const }] : []
  })
  return { ...state, places }
}

/** What came is no model: its source waits as one that got no weight, for it would fill the place in every round. */
export function refuseResidual(state: TargetState, from: MemberId, model: Link, round: number): TargetState {
  return { ...arriveResidual(state, from, model, false), dropped: { ...state.dropped, [from]: round } }
}

/**
 * What takes part in the attention of `round`, each once; nothing if that round has had its residuals (I6). What is still being pulled
 * waits for the next.
 */
export function useResiduals(state: TargetState, round: number): [TargetState, UsedResidual[]] {
  if (round <= state.usedRound) return [state, []]
  const held = state.places.filter(one => one.state === 'held')
  const used = held.map(({ state: _state, ...residual }) => residual).sort((left, right) => (left.from < right.from ? -1 : 1))
  assert(new Set(used.map(({ from }) => from)).size === used.length, 'I6: a residual is used twice in one round', used)
  assert(new Set(used.map(({ model }) => model)).size === used.length, 'I6: one model is used twice in one round', used)
  const lastModel = { ...state.lastModel, ...Object.fromEntries(used.map(({ from, model }) => [from, model])) }
  // A bridge that has not come back within a round is not waited for.
  const places = state.places.filter(one => one.state === 'pulling')
  return [{ ...state, usedRound: round, places, lastModel, taken: 0 }, used]
}

/** @param weights - of the residuals that were used in `round`. */
export function weighResiduals(
  state: TargetState,
  round: number,
  weights: readonly { from: MemberId; weight: number }[],
  { dropAfter }: TargetOptions
): TargetState {
  const [poor, dropped] = [{ ...state.poor }, { ...state.dropped }]
  for (const { from, weight } of weights) {
    if (weight >= lightWeight) {
      delete poor[from]
      delete dropped[from]
      continue
    }
    poor[from] = (poor[from] ?? 0) + 1
    if (poor[from] < dropAfter) continue
    dropped[from] = round
    // After its time out it has one try, not as many again.
    poor[from] = dropAfter - 1
  }
  return { ...state, poor, dropped, worthy: weights.filter(({ weight }) => weight >= lightWeight).length }
}

/** A dropped source waits its rounds out, and then as long as others fill the places worthily. */
function isDropped(state: TargetState, from: MemberId, round: number, { perNode }: TargetOptions): boolean {
  const since = state.dropped[from]
  return since !== undefined && (round < since + askAgainRounds || state.worthy >= perNode)
}

function leastSimilar(places: readonly OfferedResidual[]): OfferedResidual | null {
  return places.reduce<OfferedResidual | null>(
    (least, one) => (least === null || one.similarity < least.similarity ? one : least),
    null
  )
}
