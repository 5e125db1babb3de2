/**
 * Residuals between federations, as a bridge sees them (docs/algorithm.md, "Residual embeddings"): who is brought whose key layers.
 *
 *   fingerprints ──▶ lines: for each target the sources most like it ──round──▶ bring ──answered──▶ settled, or the next in line
 *
 * One machine a lowest common ancestor and bridge: a delegate of one of its children, which hears both topics. A peer that is in two
 * sibling federations runs one of its own for the two, without their parent. Lines follow from the fingerprints alone, so every bridge
 * with the same ones computes the same; of the living bridges one acts for a target, by rendezvous hashing (Thaler and Ravishankar
 * 1998): when it dies, another does.
 *
 * Is: pure; similarity and consent come in. Is not: the judge of consent in the end: the source asks its charters before it gives, the
 * target before it takes (residual-target.ts), and the target alone knows what it used.
 */
import { assert, assertNever } from '../errors.ts'
import { Random } from '../math/random.ts'
import type { FederationId, MemberId, PeerName } from '../ids.ts'

/** An organization whose fingerprint is known. */
export interface Fingerprinted {
  node: MemberId
  /** Its own federation: nodes with the same one are siblings. */
  federation: FederationId
  /** The child of the common ancestor that it is below; its own id where it is a member there itself. */
  branch: MemberId
}

export interface Likeness {
  source: MemberId
  /** Cosine of the fingerprints. */
  similarity: number
}

/**
 * What became of an attempt.
 * `brought`: the target has it. `have`: it has, or awaits it from another bridge. `full`: its places are taken by more similar ones.
 * `dropped`: it got too little weight before. `forbidden`: a charter says no. `away`: the source did not give it. `gone`: the target does
 * not answer.
 */
export type Outcome = 'brought' | 'have' | 'full' | 'dropped' | 'forbidden' | 'away' | 'gone'

/** A target's answer to an offer, as what became of it; `wanted` is none yet. */
export function outcomeOf(
  answer: Exclude<Outcome, 'brought' | 'away' | 'gone'> | 'wanted' | 'take' | 'refused'
): Outcome | 'wanted' {
  if (answer === 'take') return 'brought'
  return answer === 'refused' ? 'gone' : answer
}

/** Milliseconds until fingerprints and updates of a certified round have gone round; members evaluate meanwhile, and transfers wait for them. */
export const settleMs = 1_000
/** Residuals under way at a time: a bridge of a large federation must not fetch a hundred models at once. */
export const bridgedMax = 3

export interface ResidualsState {
  readonly self: PeerName
  readonly nodes: ReadonlyMap<MemberId, Fingerprinted>
  /** Of each target, the sources most like it, the likest first. */
  readonly lines: ReadonlyMap<MemberId, readonly Likeness[]>
  /** Targets behind whose lines others stand, who are less like them. */
  readonly cut: ReadonlySet<MemberId>
  /** Bridges that are there. */
  readonly living: ReadonlySet<PeerName>
  /** Of the common ancestor; 0 before its first. */
  readonly round: number
  /** What this bridge asked for in this round: source → outcome, null while it is open. */
  readonly asked: ReadonlyMap<MemberId, ReadonlyMap<MemberId, Outcome | null>>
  /** Until which round a target is not asked for a source again, by target and source. */
  readonly refused: ReadonlyMap<MemberId, ReadonlyMap<MemberId, number>>
}

export type ResidualsEvent =
  | { type: 'fingerprint'; node: Fingerprinted }
  /** Left its federation, or its federation left. */
  | { type: 'gone'; node: MemberId }
  | { type: 'bridges'; living: ReadonlySet<PeerName> }
  /** Certified: what was brought before is used up. @property branch - only targets below it; null: all. */
  | { type: 'round'; round: number; branch: MemberId | null }
  | { type: 'answered'; target: MemberId; source: MemberId; outcome: Outcome }

/** Ask both sides, pull once from the source, forward once to the target; answer `answered`. */
export interface Bring {
  do: 'bring'
  target: MemberId
  source: MemberId
  similarity: number
}

export interface ResidualsFacts {
  perNode: number
  minSimilarity: number
  /** Scores other than `likelihood`: nothing that is less like the target than its siblings are on average. */
  holdBack: boolean
  /** Of two fingerprints; symmetric. */
  similarity: (left: MemberId, right: MemberId) => number
  /** Whether both lines of charters let the source's key layers pass to the target, as far as is known here. */
  permitted: (source: MemberId, target: MemberId) => boolean
}

/** Sources remembered for a target: those that may be asked for before the first drops out for good, and a few more. */
export const lineMax = 16
/** A line that was cut is made anew when fewer are left: each time costs a cosine with every organization, and they may leave by the hundred. */
const lineMin = lineMax / 2
/** A source that its target dropped is in line again after so many rounds. */
export const askAgainRounds = 5

export const initialResiduals = (self: PeerName): ResidualsState => ({
  self,
  nodes: new Map(),
  lines: new Map(),
  cut: new Set(),
  living: new Set(),
  round: 0,
  asked: new Map(),
  refused: new Map()
})

/** @returns the next state and what to do. Total: every event is answered in every state. */
export function stepResiduals(state: ResidualsState, event: ResidualsEvent, facts: ResidualsFacts): [ResidualsState, Bring[]] {
  switch (event.type) {
    case 'fingerprint':
      return [takeFingerprint(state, event.node, facts), []]
    case 'gone':
      return [forget(state, event.node, facts), []]
    case 'bridges':
      return plan({ ...state, living: event.living }, facts)
    case 'round':
      return plan(openRound(state, event.round, event.branch), facts)
    case 'answered':
      return plan(note(state, event.target, event.source, event.outcome), facts)
    default:
      return assertNever(event)
  }
}

/** Who of the living bridges acts for a target; null without any. */
export function bridgeOf(target: MemberId, living: Iterable<PeerName>): PeerName | null {
  let best: { peer: PeerName; draw: number } | null = null
  for (const peer of living) {
    const draw = new Random(`${target}/${peer}`).float()
    if (best === null || draw > best.draw || (draw === best.draw && peer < best.peer)) best = { peer, draw }
  }
  return best?.peer ?? null
}

/** May `source` be a residual of `target` here: another branch, and not a sibling. */
export const mayPair = (source: Fingerprinted, target: Fingerprinted): boolean =>
  source.branch !== target.branch && source.federation !== target.federation

function takeFingerprint(state: ResidualsState, node: Fingerprinted, facts: ResidualsFacts): ResidualsState {
  const without = state.nodes.has(node.node) ? forget(state, node.node, facts) : state
  const lines = new Map(without.lines)
  const cut = new Set(without.cut)
  const own: Likeness[] = []
  for (const other of without.nodes.values()) {
    if (!mayPair(node, other)) continue
    const similarity = facts.similarity(node.node, other.node)
    own.push({ source: other.node, similarity })
    const line = lines.get(other.node) ?? []
    const longer = inOrder([...line, { source: node.node, similarity }])
    // Whether it, or somebody behind the line, comes next is not known.
    if (cut.has(other.node) && longer.at(-1)?.source === node.node) continue
    setLine(lines, cut, other.node, longer)
  }
  setLine(lines, cut, node.node, inOrder(own))
  return { ...without, nodes: new Map(without.nodes).set(node.node, node), lines, cut }
}

function setLine(lines: Map<MemberId, readonly Likeness[]>, cut: Set<MemberId>, target: MemberId, line: Likeness[]): void {
  lines.set(target, line.slice(0, lineMax))
  if (line.length > lineMax) cut.add(target)
}

/** The likest first; equal ones by name, so that every bridge has the same order. */
const inOrder = (line: Likeness[]): Likeness[] =>
  line.sort((left, right) => right.similarity - left.similarity || (left.source < right.source ? -1 : 1))

function forget(state: ResidualsState, gone: MemberId, facts: ResidualsFacts): ResidualsState {
  const nodes = new Map(state.nodes)
  nodes.delete(gone)
  const lines = new Map(state.lines)
  lines.delete(gone)
  const cut = new Set(state.cut)
  cut.delete(gone)
  for (const [target, line] of lines) {
    if (!line.some(({ source }) => source === gone)) continue
    const left = line.filter(({ source }) => source !== gone)
    lines.set(target, left)
    // Who stood behind is known from the fingerprints alone.
    if (left.length < lineMin && cut.delete(target)) setLine(lines, cut, target, lineOf(nodes, target, facts))
  }
  return { ...state, nodes, lines, cut }
}

function lineOf(nodes: ReadonlyMap<MemberId, Fingerprinted>, target: MemberId, facts: ResidualsFacts): Likeness[] {
  const own = nodes.get(target)
  assert(own !== undefined, 'a line belongs to a node that is known', target)
  const others = [...nodes.values()].filter(other => mayPair(other, own))
  return inOrder(others.map(({ node }) => ({ source: node, similarity: facts.similarity(target, node) })))
}

function openRound(state: ResidualsState, round: number, branch: MemberId | null): ResidualsState {
  if (round < state.round) return state
  const kept = [...state.asked].filter(([target]) => branch !== null && state.nodes.get(target)?.branch !== branch)
  return { ...state, round, asked: new Map(kept) }
}

/** Rounds until an outcome other than these is asked again: in the next one. */
const refusedRounds: Partial<Record<Outcome, number>> = { dropped: askAgainRounds, forbidden: Number.POSITIVE_INFINITY }

function note(state: ResidualsState, target: MemberId, source: MemberId, outcome: Outcome): ResidualsState {
  const mine = state.asked.get(target)
  // Asked in a round that is over.
  if (mine?.get(source) !== null) return state
  const asked = new Map(state.asked).set(target, new Map(mine).set(source, outcome))
  const rounds = refusedRounds[outcome]
  if (rounds === undefined) return { ...state, asked }
  const refused = new Map(state.refused.get(target)).set(source, state.round + rounds)
  return { ...state, asked, refused: new Map(state.refused).set(target, refused) }
}

/** For each target that this bridge acts for: as many as it may have, in order of its line. */
function plan(state: ResidualsState, facts: ResidualsFacts): [ResidualsState, Bring[]] {
  if (facts.perNode === 0 || state.round === 0 || !state.living.has(state.self)) return [state, []]
  const asked = new Map(state.asked)
  const effects: Bring[] = []
  for (const [target, line] of state.lines) {
    if (bridgeOf(target, state.living) !== state.self) continue
    for (const { source, similarity } of wanted(state, target, line, facts)) {
      effects.push({ do: 'bring', target, source, similarity })
      asked.set(target, new Map(asked.get(target)).set(source, null))
    }
  }
  assertOnce(effects)
  return [effects.length === 0 ? state : { ...state, asked }, effects]
}

function wanted(state: ResidualsState, target: MemberId, line: readonly Likeness[], facts: ResidualsFacts): Likeness[] {
  const asked = state.asked.get(target) ?? new Map<MemberId, Outcome | null>()
  const outcomes = [...asked.values()]
  // It has all that it takes, or is not there.
  if (outcomes.includes('full') || outcomes.includes('gone')) return []
  const taken = outcomes.filter(outcome => outcome === null || outcome === 'brought' || outcome === 'have').length
  const siblings = siblingSimilarity(state, target, facts)
  return line
    .filter(
      ({ source, similarity }) =>
        similarity >= facts.minSimilarity &&
        similarity > siblings &&
        !asked.has(source) &&
        (state.refused.get(target)?.get(source) ?? 0) <= state.round &&
        facts.permitted(source, target)
    )
    .slice(0, Math.max(0, facts.perNode - taken))
}

/** −∞ where nothing is held back, or where it has no siblings. */
function siblingSimilarity({ nodes }: ResidualsState, target: MemberId, facts: ResidualsFacts): number {
  if (!facts.holdBack) return Number.NEGATIVE_INFINITY
  const own = nodes.get(target)
  const siblings = [...nodes.values()].filter(({ node, federation }) => node !== target && federation === own?.federation)
  const sum = siblings.reduce((total, { node }) => total + facts.similarity(target, node), 0)
  return siblings.length === 0 ? Number.NEGATIVE_INFINITY : sum / siblings.length
}

function assertOnce(effects: Bring[]): void {
  const pairs = new Set(effects.map(({ target, source }) => `${target} ${source}`))
  assert(pairs.size === effects.length, 'I6: a residual is brought twice to one target', effects)
}
