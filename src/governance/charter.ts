/**
 * A federation's charter: who it is, what it trains, how it decides (docs/governance.md). Signed rules on who may send what
 * (`egress`, `privacy`) have their place here and are enforced in governance/egress.
 */
import type { FederationId, Link, PeerName } from '../ids.ts'
import type { UpdateEncoding } from '../model/checkpoint.ts'
import type { KeyLayers, ModelConfig } from '../model/layout.ts'

/** Training and aggregation, docs/algorithm.md. */
export interface Algorithm extends KeyLayers {
  /** Rounds in all; 0: no end. */
  rounds: number
  /** H: local steps a round. */
  steps: number
  /** Windows a step. */
  batch: number
  /** Peak learning rate of AdamW. */
  learningRate: number
  /** Steps of linear warm-up. */
  warmupSteps: number
  /** Steps of the cosine decay to 10 %, counted from the first step; 0: rounds × steps, or none where rounds is 0. */
  decaySteps: number
  weightDecay: number
  /** Gradient norm above which a step's gradient is scaled down. */
  gradientClip: number
  /** Whether AdamW's moments live on across rounds. */
  keepOptimizer: boolean
  /** What happens to the backbone at the root, and (without key layers) to all of the model. */
  outer: 'average' | 'nesterov' | 'adam'
  outerLearningRate: number
  outerMomentum: number
  /** Key layers on the way up: score of the aggregator; `mean` is the weighted mean. */
  up: 'update' | 'cosine' | 'dot' | 'distance' | 'uniform' | 'mean'
  upTemperature: number
  /** Centered clipping of the members' key layers before they are aggregated. */
  clip: 'centered' | 'none'
  /** Key layers on the way down: `likelihood` of one's own text over all levels; `chain`: a child attends to its parent; `self`: keep one's own; `replace`: take the federation's. */
  down: 'likelihood' | 'chain' | 'self' | 'replace'
  downTemperature: number
  /** What a mix by `likelihood` may cost at once, nats a byte of one's own kept-back text. */
  downTolerance: number
  /** Whether temperature and tolerance of `likelihood` stay, or decay as the learning rate does. */
  downSchedule: 'constant' | 'learning-rate'
  /** β: how much the text behind a candidate counts. */
  textPrior: number
  levels: 'synchronous' | 'pipelined'
  stale: 'discount' | 'drop'
  encoding: UpdateEncoding
  residuals: ResidualOptions
}

/** Key layers of nodes elsewhere in the tree (docs/algorithm.md, "Residual embeddings"). */
export interface ResidualOptions {
  /** Residuals that an organization is brought a round, at most; 0: none are exchanged. */
  perNode: number
  /** Cosine of fingerprints, −1 to 1, below which nothing is routed. */
  minSimilarity: number
  /** Times in a row that a residual gets under 1 % of the weight before the next in line takes its place. */
  dropAfter: number
}

/** 24 days: what is longer than 2³¹ − 1 ms a timer of Node takes for no time at all. */
export const timingMsMax = 24 * 24 * 3_600_000

/** All in milliseconds, at most `timingMsMax`. */
export interface Timings {
  /** A member waits this long, at least, for its aggregator before it stands for election; at most twice as long. */
  electionTimeoutMs: number
  heartbeatMs: number
  presenceMs: number
  /** From the opening of a round until the aggregator stops waiting for members that are present. */
  deadlineMs: number
  /** How long a child federation waits for its parent's result before it goes on alone. */
  parentTimeoutMs: number
  /** How long round 1 waits for `startMembers`. */
  startTimeoutMs: number
}

export interface EgressRule {
  tensor: 'backbone' | 'keys' | 'residual' | 'sketch' | 'metrics' | '*'
  to?: string
  toJurisdiction?: string[]
  allow: boolean
  encoding?: UpdateEncoding
  reason?: string
}

/** What may be taken in; read like `EgressRule`, with `from` in place of `to`. */
export interface IngressRule {
  tensor: EgressRule['tensor']
  from?: string
  allow: boolean
  reason?: string
}

export interface Charter {
  schema: 'worldlm.charter/1'
  /** Last segment of the path. */
  name: string
  /** For people: `world/english/biomedicine`. */
  path: string
  /** Genesis charter of the federation above; null for a world. */
  parent: FederationId | null
  /** Peers that vote before anyone has joined. */
  founders: PeerName[]
  version: number
  model: ModelConfig
  /** Blob of the parameters that all begin with; left out, they are drawn from `seed`. */
  initial?: Link
  /** Blob of the tokenizer.json that text is read with; left out, tokens are bytes. */
  tokenizer?: Link
  algorithm: Algorithm
  /** Voters at most, odd. */
  voters: number
  /** Members that stand for this federation in its parent, at most. */
  delegates: number
  /** Never aggregate fewer members. */
  minMembers: number
  /** Round 1 waits for so many members, or for `startTimeoutMs`. */
  startMembers: number
  timings: Timings
  admission: { mode: 'open' | 'allow-list'; peers?: PeerName[] }
  egress: EgressRule[]
  /** Left out: everything may come in. */
  ingress?: IngressRule[]
  retention: { keepRounds: number }
  /** Of the initial parameters, the sketches, and whatever is drawn for the federation as a whole. */
  seed: number
}
