/**
 * One round of a tree of federations in memory: up, root, down (docs/algorithm.md, "A round"). The arithmetic and the rules are
 * those of the nodes (aggregate/models.ts, aggregate/down.ts); what is missing here is the network between them.
 */
import {
  aggregateModels,
  combineModels,
  differenceOfModels,
  forgetKeys,
  keysAgainst,
  keysDistance,
  mixModels,
  type ModelSpace,
  type ReadModel,
  scoreModels
} from '../aggregate/models.ts'
import {
  type Candidate,
  federationDown,
  type Judgement,
  keepsKeys,
  memberDown,
  type MemberDownOptions,
  type ModelOperations,
  type Share,
  type Weighed
} from '../aggregate/down.ts'
import type { Algorithm } from '../governance/charter.ts'
import { fromBf16, toBf16, type UpdateEncoding } from '../model/checkpoint.ts'
import { encodedBytes, encodeUpdate, isBlockEncoding } from '../aggregate/encode.ts'
import { sketchGroupBytes } from '../aggregate/sketch.ts'
import { shared } from './jobs.ts'
import type { Federation } from './tree.ts'

export interface FederationState {
  model: Float32Array
  /** That it has aggregated. */
  rounds: number
  /** Of the outer optimizer, at a root that has one. */
  outer: Float32Array[] | null
}

/** What a member hands in: ΔB and K, and what is announced with it. */
export interface Handed {
  update: Float32Array
  sketches: Uint8Array
  /** w, tokens. */
  weight: number
  organizations: number
  textBytes: number
  /** Of the update as it is sent, and its sketches. */
  bytes: number
}

/** An organization on the way down. */
export interface Taker {
  name: string
  /** Path of its federation. */
  federation: string
  personal: Float32Array
  /** What it was trained from in this round. */
  start: Float32Array
  /** t, declared. */
  textBytes: number
  /** Of this round. */
  schedule: Pick<MemberDownOptions, 'downTolerance' | 'downCooling'>
  /** By name, which of the federations above its own are asked for in this round (aggregate/asking.ts). */
  isAsked: (name: string) => boolean
  /** From federations elsewhere in the tree. */
  residuals: Candidate<Float32Array>[]
  judge: (model: Float32Array) => Promise<Judgement>
}

/** Bytes of models. */
export interface LevelBytes {
  /** Depth of the federation that was handed an update (up), or whose model was taken (down); 0 is the root. */
  level: number
  bytesUp: number
  bytesDown: number
}

export interface Round {
  /** Each taker's next start, by name. */
  starts: Map<string, Float32Array>
  /** How candidates were weighed on the way down, by organization. */
  weighed: Map<string, Weighed[]>
  /** The same, whatever the rule: mean weights over the groups. */
  shares: Map<string, Share[]>
  /** Attention on the way up: members by name, a weight a group. */
  attention: { federation: string; members: { name: string; weights: number[] }[] }[]
  levels: LevelBytes[]
}

export interface FederateOptions {
  space: ModelSpace
  algorithm: Algorithm
  seed: number
  genesis: Float32Array
  /** Parents before children. */
  tree: Federation[]
  /** Whether a federation aggregates in this round. */
  active: (federation: Federation) => boolean
}

const from =
  (model: Float32Array): ReadModel =>
  into =>
    into.set(model)

/**
 * What an organization hands in after training from `start` in a federation whose model is `base`, as it arrives.
 * @param rest - of a block encoding: what earlier updates left to be sent; afterwards, what this one leaves.
 */
export function handIn(
  { space, algorithm, seed }: Pick<FederateOptions, 'space' | 'algorithm' | 'seed'>,
  { after, start, base, rest }: { after: Float32Array; start: Float32Array; base: Float32Array; rest: Float32Array },
  facts: { weight: number; textBytes: number }
): Handed {
  const { encoding } = algorithm
  const sketches = space.sketch(space.read(from(after), 0), space.read(from(start), 1), seed)
  const made = { sketches, organizations: 1, bytes: bytesOf(space, encoding), ...facts }
  const difference = differenceOfModels(space, from(after), from(start))
  if (!isBlockEncoding(encoding)) return { update: rounded(difference, encoding), ...made }
  keysAgainst(space, difference, from(base))
  const update = difference.slice()
  encodeUpdate(encoding, update, sizes(space), rest, () => undefined)
  if (keepsKeys(algorithm.down)) forgetKeys(space, rest)
  for (const { offset, floats } of space.keys)
    for (let place = offset; place < offset + floats; place++) update[place]! += base[place]!
  return { update, ...made }
}

const sizes = ({ layout }: ModelSpace): number[] => layout.tensors.map(({ floats }) => floats)

const bytesOf = (space: ModelSpace, encoding: UpdateEncoding): number =>
  encodedBytes(encoding, sizes(space)) + space.keys.length * sketchGroupBytes

function rounded(model: Float32Array, encoding: 'f32' | 'bf16'): Float32Array {
  const copy = model.slice()
  if (encoding === 'bf16') fromBf16(toBf16(model), copy)
  return copy
}

/** Changes `states` in place. @param handed - by organization. */
export async function federate(
  options: FederateOptions,
  states: Map<string, FederationState>,
  handed: Map<string, Handed>,
  takers: Taker[]
): Promise<Round> {
  const round: Round = { starts: new Map(), weighed: new Map(), shares: new Map(), attention: [], levels: [] }
  const before = new Map([...states].map(([path, { model, rounds }]) => [path, rounds > 0 ? model : null]))
  // What a federation's members have of those above it: with `pipelined`, the round before, if there was one.
  const newest = (path: string) => (options.algorithm.levels === 'pipelined' ? before.get(path)! : states.get(path)!.model)
  /** Of federations, by path. */
  const contributed = new Map<string, Handed>()
  for (const federation of [...options.tree].reverse()) up(options, states, handed, contributed, federation, round)
  for (const federation of options.tree) await down(options, states, newest, contributed, federation, round)
  await Promise.all(takers.map(taker => take(options, states, newest, contributed, taker, round)))
  round.levels.sort((left, right) => left.level - right.level)
  return round
}

/** Aggregates what the federation's members handed in. */
function up(
  { space, algorithm, seed, genesis, active }: FederateOptions,
  states: Map<string, FederationState>,
  handed: Map<string, Handed>,
  contributed: Map<string, Handed>,
  federation: Federation,
  round: Round
): void {
  const state = states.get(federation.path)!
  const found = (names: string[], among: Map<string, Handed>) =>
    names.flatMap(name => (among.has(name) ? [{ name, ...among.get(name)! }] : []))
  const members = [...found(federation.organizations, handed), ...found(federation.children, contributed)]
  if (!active(federation) || members.length === 0) return
  const made = aggregateModels(space, {
    options: algorithm,
    previous: from(state.model),
    genesis: from(genesis),
    inputs: members.map(({ update, sketches, weight }) => ({
      read: from(update),
      sketches,
      weight,
      // A node refuses a model that is not finite; here the run has diverged, and its figures say so.
      keysDistance: keysDistance(space, from(update), from(state.model)) ?? Number.POSITIVE_INFINITY
    })),
    root: federation.parent === null,
    outerState: state.outer === null ? null : readInto(state.outer),
    seed
  })
  state.model = shared(made.model)
  state.rounds++
  if (made.outerState.length > 0) state.outer = made.outerState.map(vector => vector.slice())
  const weights = members.map(({ name }, place) => ({ name, weights: made.attention[place]! }))
  round.attention.push({ federation: federation.path, members: weights })
  for (const { bytes } of members) count(round, federation, bytes, 0)
  const parentModel = federation.parent === null ? null : states.get(federation.parent)!.model
  contributed.set(federation.path, {
    ...contribution(space, algorithm, state.model, parentModel),
    ...totals(members),
    sketches: made.sketches
  })
}

/** With a backbone, what goes up is its change against the parent's; without one, the model itself. Block encodings are for members. */
function contribution(
  space: ModelSpace,
  { encoding }: Algorithm,
  model: Float32Array,
  parent: Float32Array | null
): { update: Float32Array; bytes: number } {
  const isBlock = isBlockEncoding(encoding)
  if (parent === null || (space.backbone.length === 0 && !isBlock)) return { update: model, bytes: bytesOf(space, 'f32') }
  const used = isBlock ? 'bf16' : encoding
  const update = rounded(differenceOfModels(space, from(model), from(parent)), used)
  return { update, bytes: bytesOf(space, used) }
}

/** `textBytes` is the mean over the organizations below. */
function totals(members: Handed[]): { weight: number; organizations: number; textBytes: number } {
  const sum = (pick: (member: Handed) => number) => members.reduce((total, member) => total + pick(member), 0)
  const organizations = sum(member => member.organizations)
  const textBytes = Math.round(sum(member => member.textBytes * member.organizations) / organizations)
  return { weight: sum(({ weight }) => weight), organizations, textBytes }
}

const readInto =
  (saved: Float32Array[]) =>
  (into: Float32Array[]): void => {
    for (const [place, vector] of into.entries()) vector.set(saved[place]!)
  }

async function down(
  options: FederateOptions,
  states: Map<string, FederationState>,
  newest: (path: string) => Float32Array | null,
  contributed: Map<string, Handed>,
  federation: Federation,
  round: Round
): Promise<void> {
  const { space, algorithm, tree } = options
  const parent = tree.find(({ path }) => path === federation.parent)
  if (parent === undefined || !options.active(parent) || !contributed.has(federation.path)) return
  const state = states.get(federation.path)!
  const above = newest(parent.path)
  if (above === null) return
  const parts = { groups: space.keys.length, hasBackbone: space.backbone.length > 0 }
  const made = await federationDown(operations(options), algorithm, parts, state.model, above)
  if (made === null) return
  state.model = made
  count(round, parent, 0, space.layout.floats * 4)
}

async function take(
  options: FederateOptions,
  states: Map<string, FederationState>,
  newest: (path: string) => Float32Array | null,
  contributed: Map<string, Handed>,
  taker: Taker,
  round: Round
): Promise<void> {
  const { space, algorithm, tree } = options
  const above: Candidate<Float32Array>[] = []
  const find = (path: string | null) => tree.find(one => one.path === path)
  for (let one = find(taker.federation); one !== undefined; one = find(one.parent)) {
    if (above.length > 0 && algorithm.down !== 'likelihood') break
    const { path } = one
    const model = above.length === 0 ? states.get(path)!.model : newest(path)
    if (model === null) break
    // Its own federation's model is taken in any case; a light one above it only now and then.
    if (above.length > 0 && !taker.isAsked(path)) continue
    count(round, one, 0, space.layout.floats * 4)
    above.push({ name: path, model, textBytes: contributed.get(path)?.textBytes ?? 0 })
  }
  const own = { name: 'own', model: taker.personal, start: taker.start, textBytes: taker.textBytes }
  const hasBackbone = space.backbone.length > 0
  const member = {
    ...operations(options),
    judge: (backboneFrom: Float32Array, keysFrom: Float32Array) =>
      taker.judge(hasBackbone ? shared(combineModels(space, from(backboneFrom), from(keysFrom))) : keysFrom)
  }
  const [federation, ...others] = above
  const all: Parameters<typeof memberDown<Float32Array>>[4] = [federation!, ...others, ...taker.residuals]
  const isAsked = (name: string) => taker.isAsked(name) || taker.residuals.some(one => one.name === name)
  const made = await memberDown(member, { ...algorithm, ...taker.schedule }, space.keys.length, own, all, isAsked)
  round.starts.set(taker.name, made.model)
  round.shares.set(taker.name, made.shares)
  if (made.weighed.length > 0) round.weighed.set(taker.name, made.weighed)
}

/** Results are copies on shared memory: slots are used again by the next job. */
function operations({ space, genesis }: FederateOptions): ModelOperations<Float32Array> {
  return {
    combine: async (backboneFrom, keysFrom) => shared(combineModels(space, from(backboneFrom), from(keysFrom))),
    score: async (query, candidates) => scoreModels(space, 'cosine', from(query), candidates.map(from), from(genesis)),
    mix: async (backboneFrom, candidates) => {
      const read = candidates.map(({ model, logits }) => ({ read: from(model), logits }))
      const { model, weights } = mixModels(space, from(backboneFrom), read)
      return { model: shared(model), weights }
    }
  }
}

function count(round: Round, { depth }: Federation, bytesUp: number, bytesDown: number): void {
  const known = round.levels.find(one => one.level === depth)
  if (known === undefined) round.levels.push({ level: depth, bytesUp, bytesDown })
  else {
    known.bytesUp += bytesUp
    known.bytesDown += bytesDown
  }
}
