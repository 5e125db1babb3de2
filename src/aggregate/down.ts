/**
 * The way down (docs/algorithm.md, "A round", 4): what an organization, and a federation, makes of the models above it.
 *
 * Is: the rule, once, for nodes and experiments alike. Is not: storage or training. A `Model` is whatever the caller's operations
 * take: the path of a file, or an array.
 */
import { type LikelihoodCandidate, likelihoodLogits, softmax } from './attend.ts'

/** A charter's choices for the way down; docs/algorithm.md, "attend". */
export interface DownOptions {
  down: 'likelihood' | 'chain' | 'self' | 'replace'
  /** τ > 0. */
  downTemperature: number
  /** With `likelihood`, what a mix may cost at once: nats a byte of the member's own kept-back text, ≥ 0. */
  downTolerance: number
  /** β ≥ 0. */
  textPrior: number
}

/** What a member needs besides, at its time (train/schedule.ts). */
export interface MemberDownOptions extends DownOptions {
  /** Share of the temperature that is left for what may only pay later, above 0, up to 1. */
  downCooling: number
}

/** Whether a member's own K lives on from round to round, and so what it could not send yet does too (encode.ts). */
export const keepsKeys = (down: DownOptions['down']): boolean => down !== 'replace'

export interface ModelOperations<Model> {
  /** Backbone of one, key layers of another. */
  combine(backboneFrom: Model, keysFrom: Model): Promise<Model>
  /** Score `cosine` against the initial model; the query is the first candidate. @returns [candidates][groups] */
  score(query: Model, candidates: Model[]): Promise<number[][]>
  /** K = Σ softmax(logits)·K_c, one logit a group. @returns the weights, [candidates][groups]. */
  mix(backboneFrom: Model, candidates: { model: Model; logits: number[] }[]): Promise<{ model: Model; weights: number[][] }>
}

/** What a member can do besides: judge key layers by its kept-back text. */
export interface MemberOperations<Model> extends ModelOperations<Model> {
  /** The key layers as they would be used, over that backbone, on the kept-back text. */
  judge(backboneFrom: Model, keysFrom: Model): Promise<Judgement>
}

/** In nats a byte. */
export interface Judgement {
  nllPerByte: number
  /** The same of each of the text's equally long parts, in their order; none: how much is chance is not known. */
  parts: readonly number[]
}

/** A model that a member may take K from. */
export interface Candidate<Model> {
  name: string
  model: Model
  /** t: mean training bytes behind it. */
  textBytes: number
  /** From a federation elsewhere in the tree; `chain` looks at these besides its federation. */
  isResidual?: boolean
}

/** An organization's personal model, after training. */
export interface OwnCandidate<Model> extends Candidate<Model> {
  /** What it was trained from since it last took something over; where it was not trained, the model itself. */
  start: Model
}

/** Mean weight over the groups. */
export interface Share {
  name: string
  weight: number
}

/** How a candidate was weighed; the weights are the first group's. */
export interface Weighed extends LikelihoodCandidate {
  name: string
  weight: number
  /** By its likelihood alone, at the charter's temperature: what it may be worth another time. */
  warmWeight: number
}

/**
 * An organization's next start: B of its federation, K by the charter's rule.
 * @param groups - of key layers.
 * @param above - its federation first, then those above it and residuals, as far as they could be had; at least one.
 * @param isAsked - by name, which of `above` are candidates at all (asking.ts); the federation's backbone is taken in any case.
 * @returns how candidates were weighed, oneself first; `weighed` is empty unless by likelihood, `shares` where nothing is attended to.
 */
export async function memberDown<Model>(
  given: MemberOperations<Model>,
  options: MemberDownOptions,
  groups: number,
  own: OwnCandidate<Model>,
  above: [Candidate<Model>, ...Candidate<Model>[]],
  isAsked: (name: string) => boolean = () => true
): Promise<{ model: Model; weighed: Weighed[]; shares: Share[] }> {
  const operations = { ...given, judge: soberly(given.judge) }
  const federation = above[0].model
  const bare = { weighed: [], shares: [] }
  if (options.down === 'replace') return { model: await operations.combine(federation, federation), ...bare }
  if (options.down === 'self' || groups === 0) return { model: await operations.combine(federation, own.model), ...bare }
  if (options.down === 'chain') {
    const others = [above[0], ...above.slice(1).filter(({ isResidual }) => isResidual === true)]
    return { ...(await attendTo(operations, options, own, others)), weighed: [] }
  }
  const judged: (Candidate<Model> & Judgement)[] = []
  for (const candidate of [own, ...above.filter(({ name }) => isAsked(name))]) {
    judged.push({ ...candidate, ...(await operations.judge(federation, candidate.model)) })
  }
  // Nothing to choose by: one's own model is the only one that nobody else made.
  if (judged.every(({ nllPerByte }) => nllPerByte === Number.POSITIVE_INFINITY))
    return { model: await operations.combine(federation, own.model), ...bare }
  const { downTemperature, downTolerance, downCooling } = options
  const weightsAt = (temperature: number) =>
    softmax(likelihoodLogits(judged, temperature, options.textPrior).map(logit => new Array<number>(groups).fill(logit)))
  const warm = weightsAt(downTemperature)
  const mixing: Mixing<Model> = {
    operations,
    backboneFrom: federation,
    groups,
    judged,
    start: own.start,
    fresh: newText(judged, warm),
    lessNoise: null
  }
  const cold = weightsAt(downTemperature * downCooling)
  const tolerated = await takeBack(mixing, cold, downTolerance * newText(judged, cold))
  const { model, weights } = downCooling < 1 ? await helped(mixing, warm, tolerated) : tolerated
  const weighed = judged.map(({ name, nllPerByte, textBytes }, place) => ({
    name,
    nllPerByte,
    textBytes,
    weight: weights[place]![0] ?? 0,
    warmWeight: warm[place]![0] ?? 0
  }))
  return { model, weighed, shares: weighed.map(({ name, weight }) => ({ name, weight })) }
}

/**
 * A model whose logits overflow, though all of its numbers are finite, has a likelihood that is no number. Weighed by that, everybody's weight would
 * be none, and what a single peer sent would spoil the models of all who look at it: it is as unlikely as can be instead.
 */
const soberly =
  <Model>(judge: MemberOperations<Model>['judge']): MemberOperations<Model>['judge'] =>
  async (backboneFrom, keysFrom) => {
    const judgement = await judge(backboneFrom, keysFrom)
    return Number.isNaN(judgement.nllPerByte) ? { ...judgement, nllPerByte: Number.POSITIVE_INFINITY } : judgement
  }

/**
 * How much of what the others bring, by their weights, is of text that the organization does not have, 0 to 1: a cost pays later by that
 * alone. A federation's mean counts one's own text too, so of others there is at least 2 t − t_own.
 */
function newText<Model>([own, ...others]: Candidate<Model>[], [, ...weights]: number[][]): number {
  const ownBytes = Math.max(1, own!.textBytes)
  const fresh = others.map(({ textBytes, isResidual }) => {
    const bytes = isResidual === true ? textBytes : 2 * textBytes - ownBytes
    return Math.min(1, Math.max(0, bytes / ownBytes))
  })
  const weightOf = (place: number) => weights[place]![0] ?? 0
  const all = others.reduce((sum, _, place) => sum + weightOf(place), 0)
  return all === 0 ? 0 : fresh.reduce((sum, share, place) => sum + share * weightOf(place), 0) / all
}

/** Halves on the way back to one's own K, before that is kept as it is. */
const halvesMax = 3
/** Of a mix, what may help at once. */
const helpfulShares = [0.25, 0.5, 1]

/** Where mixes are made and judged; oneself first. */
interface Mixing<Model> {
  operations: MemberOperations<Model>
  backboneFrom: Model
  /** Of key layers. */
  groups: number
  judged: (Candidate<Model> & Judgement)[]
  /** What one's own model was trained from. */
  start: Model
  /** How much of others' text one does not have, 0 to 1. */
  fresh: number
  /** What a mix is compared with where it is better than one's own model; found when it is asked for first. */
  lessNoise: Promise<Judgement> | null
}

interface Mixed<Model> {
  model: Model
  /** [candidates][groups] */
  weights: number[][]
  /** Nats a byte; null where it was not measured, because next to nothing is from others. */
  cost: number | null
}

/** What using a mix in place of one's own model costs, or of that with less noise, nats a byte; the standard error is that of paired differences. */
interface Cost {
  cost: number
  standardError: number
}

/** Others' weight in all. */
const othersIn = (weights: number[][]): number => 1 - (weights[0]![0] ?? 1)

/**
 * A mean of models that lie in one valley costs little or nothing, and pays later; one of models that do not is a ruin that training has to
 * leave again, however likely each is by itself. So what the mix costs is measured, and half of what came from others is taken back until
 * the cost is within the tolerance; one's own model costs nothing.
 */
async function takeBack<Model>(mixing: Mixing<Model>, whole: number[][], tolerance: number): Promise<Mixed<Model>> {
  if (othersIn(whole) < negligible) return { model: await mixAs(mixing, whole), weights: whole, cost: null }
  let weights = whole
  for (let half = 0; half <= halvesMax && othersIn(weights) >= negligible; half++, weights = shareOf(weights, 0.5)) {
    const { cost, model } = await costOf(mixing, weights, tolerance)
    if (cost <= tolerance) return { model: model ?? (await mixAs(mixing, weights)), weights, cost }
  }
  const own = shareOf(whole, 0)
  return { model: await mixAs(mixing, own), weights: own, cost: 0 }
}

/**
 * What is better at once, by more than a standard error: a slice does not tell half a percent from chance. Organizations with little text gain
 * most from models that by themselves are less likely than their own. More is tried while it is better than less: past the first share that
 * is not, all are worse, as far as the cost is convex. @returns `tolerated` where nothing helps more.
 */
async function helped<Model>(mixing: Mixing<Model>, whole: number[][], tolerated: Mixed<Model>): Promise<Mixed<Model>> {
  if (tolerated.cost !== null && tolerated.cost >= 0) return tolerated
  let best = { weights: tolerated.weights, cost: tolerated.cost ?? 0 }
  let tries = 0
  for (const share of helpfulShares) {
    const weights = shareOf(whole, share)
    if (othersIn(weights) < negligible || othersIn(weights) <= othersIn(tolerated.weights)) continue
    tries++
    const { cost, standardError } = await costOf(mixing, weights, best.cost)
    if (cost >= best.cost) break
    if (cost + standardError < 0) best = { weights, cost }
  }
  // A mix may lie where the one before it lay.
  return tries === 0 ? tolerated : { ...best, model: await mixAs(mixing, best.weights) }
}

const shareOf = (weights: number[][], share: number): number[][] =>
  weights.map((row, one) => row.map(weight => share * weight + (one === 0 ? 1 - share : 0)))

async function mixAs<Model>({ operations, backboneFrom, judged }: Mixing<Model>, weights: number[][]): Promise<Model> {
  const candidates = judged.map(({ model }, one) => ({ model, logits: weights[one]!.map(Math.log) }))
  return (await operations.mix(backboneFrom, candidates)).model
}

/**
 * What a mix costs, beside one's own model with less noise; from `bar` on beside one's own model, which is no better than that: so the other
 * need not be made where a mix is of no use anyway. @returns `model` null where the mix has to be made again, for another lies where it lay.
 */
async function costOf<Model>(mixing: Mixing<Model>, weights: number[][], bar: number): Promise<Cost & { model: Model | null }> {
  const { operations, backboneFrom, judged, fresh } = mixing
  const model = await mixAs(mixing, weights)
  const judgement = await operations.judge(backboneFrom, model)
  const besideOwn = costBeside(judgement, judged[0]!)
  if (fresh >= 1 || besideOwn.cost > bar) return { ...besideOwn, model }
  mixing.lessNoise ??= withLessNoise(mixing)
  return { ...costBeside(judgement, await mixing.lessNoise), model: null }
}

/**
 * One's own model as it would be with less of its steps' noise: the mean of what the round began with and what it ended with takes that noise
 * away as a mean with others does. What such a mean gains, training alone gains by itself once the learning rate falls, and does not set training
 * back: so a mix has to gain more, except by what it holds of text that one does not have.
 */
async function withLessNoise<Model>({
  operations,
  backboneFrom,
  groups,
  judged: [own],
  start,
  fresh
}: Mixing<Model>): Promise<Judgement> {
  const logits = new Array<number>(groups).fill(0)
  const halfway = [own!.model, start].map(model => ({ model, logits }))
  const mean = await operations.judge(backboneFrom, (await operations.mix(backboneFrom, halfway)).model)
  if (mean.nllPerByte >= own!.nllPerByte) return own!
  const between = (one: number, other: number) => fresh * one + (1 - fresh) * other
  return {
    nllPerByte: between(own!.nllPerByte, mean.nllPerByte),
    parts: own!.parts.map((nll, part) => between(nll, mean.parts[part]!))
  }
}

function costBeside(mix: Judgement, reference: Judgement): Cost {
  const cost = mix.nllPerByte - reference.nllPerByte
  const differences = mix.parts.map((nll, part) => nll - reference.parts[part]!)
  const count = differences.length
  if (count < 2) return { cost, standardError: 0 }
  const mean = differences.reduce((sum, one) => sum + one, 0) / count
  const squares = differences.reduce((sum, one) => sum + (one - mean) ** 2, 0)
  return { cost, standardError: Math.sqrt(squares / (count - 1) / count) }
}

/** Others' weight in all, below which nothing is measured again. */
const negligible = 0.02

/**
 * A child federation under its parent's result: the parent's backbone, its own key layers; with `chain` these attend to the parent's
 * first, with `replace` they are the parent's. @returns null where its own model stays as it is.
 */
export async function federationDown<Model>(
  operations: ModelOperations<Model>,
  options: DownOptions,
  { groups, hasBackbone }: { groups: number; hasBackbone: boolean },
  own: Model,
  parent: Model
): Promise<Model | null> {
  if (options.down === 'chain' && groups > 0) {
    const one = (name: string, model: Model) => ({ name, model, textBytes: 0 })
    return (await attendTo(operations, options, one('own', own), [one('parent', parent)])).model
  }
  if (options.down === 'replace') return operations.combine(parent, parent)
  return hasBackbone ? operations.combine(parent, own) : null
}

/** The paper's step down: cosine attention of a node to itself, the one above (the first of `others`, whose backbone it takes) and residuals. */
async function attendTo<Model>(
  operations: ModelOperations<Model>,
  { downTemperature }: DownOptions,
  own: Candidate<Model>,
  others: Candidate<Model>[]
): Promise<{ model: Model; shares: Share[] }> {
  const all = [own, ...others]
  const scores = await operations.score(
    own.model,
    all.map(({ model }) => model)
  )
  const candidates = all.map(({ model }, place) => ({ model, logits: scores[place]!.map(score => score / downTemperature) }))
  const { model, weights } = await operations.mix(others[0]!.model, candidates)
  const mean = (row: number[]) => row.reduce((sum, weight) => sum + weight, 0) / Math.max(1, row.length)
  return { model, shares: all.map(({ name }, place) => ({ name, weight: mean(weights[place]!) })) }
}
