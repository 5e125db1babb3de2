/**
 * The way down (docs/algorithm.md, "A round", 4): what an organization, and a federation, makes of the models above it.
 *
 * Is: the rule, once, for nodes and experiments alike. Is not: storage or training. A `Model` is whatever the caller's operations
 * take: the path of a file, or an array.
 */
import { type LikelihoodCandidate, likelihoodLogits } from './attend.ts'

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
  /** Mean nll per byte of the key layers as they would be used: over that backbone; in nats. */
  nllPerByte(backboneFrom: Model, keysFrom: Model): Promise<number>
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

/** Mean weight over the groups. */
export interface Share {
  name: string
  weight: number
}

/** How a candidate was weighed; the weight is the first group's. */
export interface Weighed extends LikelihoodCandidate {
  name: string
  weight: number
}

/**
 * An organization's next start: B of its federation, K by the charter's rule.
 * @param groups - of key layers. @param own - its personal model, after training.
 * @param above - its federation first, then those above it and residuals, as far as they could be had; at least one.
 * @param isAsked - by name, which of `above` are candidates at all (asking.ts); the federation's backbone is taken in any case.
 * @returns how candidates were weighed, oneself first; `weighed` is empty unless by likelihood, `shares` where nothing is attended to.
 */
export async function memberDown<Model>(
  operations: MemberOperations<Model>,
  options: DownOptions,
  groups: number,
  own: Candidate<Model>,
  above: [Candidate<Model>, ...Candidate<Model>[]],
  isAsked: (name: string) => boolean = () => true
): Promise<{ model: Model; weighed: Weighed[]; shares: Share[] }> {
  const federation = above[0].model
  const bare = { weighed: [], shares: [] }
  if (options.down === 'replace') return { model: await operations.combine(federation, federation), ...bare }
  if (options.down === 'self' || groups === 0) return { model: await operations.combine(federation, own.model), ...bare }
  if (options.down === 'chain') {
    const others = [above[0], ...above.slice(1).filter(({ isResidual }) => isResidual === true)]
    return { ...(await attendTo(operations, options, own, others)), weighed: [] }
  }
  const judged: (Candidate<Model> & LikelihoodCandidate)[] = []
  for (const candidate of [own, ...above.filter(({ name }) => isAsked(name))]) {
    judged.push({ ...candidate, nllPerByte: await operations.nllPerByte(federation, candidate.model) })
  }
  const logits = likelihoodLogits(judged, options.downTemperature, options.textPrior)
  const candidates = judged.map(({ model }, place) => ({ model, logits: new Array<number>(groups).fill(logits[place]!) }))
  const made = await operations.mix(federation, candidates)
  const { model, weights } = await tolerable(operations, options.downTolerance, federation, judged, made)
  const weighed = judged.map(({ name, nllPerByte, textBytes }, place) => ({
    name,
    nllPerByte,
    textBytes,
    weight: weights[place]![0] ?? 0
  }))
  return { model, weighed, shares: weighed.map(({ name, weight }) => ({ name, weight })) }
}

/** Halves on the way back to one's own K, before that is kept as it is. */
const halvesMax = 5

/**
 * A mean of models that lie in one valley costs little or nothing, and pays later; one of models that do not is a ruin that training has to
 * leave again, however likely each is by itself. So what the mix costs is measured, and half of what came from others is taken back until
 * the cost is within the tolerance. @param judged - oneself first. @param mixed - of all of them.
 */
async function tolerable<Model>(
  operations: MemberOperations<Model>,
  tolerance: number,
  backboneFrom: Model,
  judged: (Candidate<Model> & LikelihoodCandidate)[],
  mixed: { model: Model; weights: number[][] }
): Promise<{ model: Model; weights: number[][] }> {
  let made = mixed
  if ((mixed.weights[0]![0] ?? 1) > 1 - negligible) return mixed
  const own = judged[0]!.nllPerByte
  for (let halves = 1; halves <= halvesMax + 1; halves++) {
    const cost = (await operations.nllPerByte(backboneFrom, made.model)) - own
    if (cost <= tolerance) break
    const share = halves > halvesMax ? 0 : 0.5
    const groups = made.weights[0]!
    const logits = made.weights.map((row, place) =>
      groups.map((_, group) => Math.log(share * row[group]! + (place === 0 ? 1 - share : 0)))
    )
    made = await operations.mix(
      backboneFrom,
      judged.map(({ model }, place) => ({ model, logits: logits[place]! }))
    )
  }
  return made
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
