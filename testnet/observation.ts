/**
 * What is seen of a testnet while it runs: folded from the nodes' events, read by the live table and by the report.
 */
import type { FederationId, PeerName } from '../src/ids.ts'
import type {
  FederationStatus,
  ModelKind,
  NodePhase,
  NodeStatus,
  NumberedEvent,
  RoundSummary,
  RoundTimes
} from '../src/node/status.ts'
import { type Fault, type FaultKind, FaultLog } from './faults.ts'
import type { TestnetNode } from './spawn.ts'

export interface SeenEvaluation {
  path: string
  round: number
  model: ModelKind
  perplexity: number
  bitsPerByte: number
}
export interface SeenNode {
  node: TestnetNode
  phase: NodePhase
  round: number
  loss: number | null
  tokensPerSecond: number
  step: number
  steps: number
  finished: boolean
  /** Of blobs, as its status says. */
  bytes: { in: number; out: number }
  status: NodeStatus | null
}
export interface SeenFederation {
  path: string
  id: FederationId | null
  aggregator: PeerName | null
  term: number
  round: number
  /** What its aggregator is at; null: unknown, or between two rounds. */
  phase: FederationStatus['phase']
  delegates: PeerName[]
}

export class Observation {
  readonly nodes = new Map<string, SeenNode>()
  readonly federations = new Map<string, SeenFederation>()
  readonly rounds = new Map<string, RoundSummary & { atSeconds: number }>()
  readonly evaluations = new Map<string, SeenEvaluation>()
  readonly times: (RoundTimes & { path: string })[] = []
  readonly attention: { path: string; round: number; candidates: { name: string; weight: number; nllPerByte: number }[] }[] = []
  readonly residuals: { round: number; from: string; to: string; via: PeerName; similarity: number; weight: number }[] = []
  readonly warnings: { path: string; code: string; message: string }[] = []
  readonly #faults = new FaultLog()
  readonly #rounds: number
  readonly #absenceToldAt = new Map<string, number>()
  readonly began = performance.now()
  /** Something moved on: a round, a step. A run in which nothing does is given up. */
  lastProgressAt = performance.now()

  /** @param rounds - that every federation should make. */
  constructor(rounds: number) {
    this.#rounds = rounds
  }

  get faults(): Fault[] {
    return this.#faults.faults
  }

  get seconds(): number {
    return (performance.now() - this.began) / 1000
  }

  addNode(node: TestnetNode): void {
    this.nodes.set(node.plan.path, {
      node,
      phase: 'starting',
      round: 0,
      loss: null,
      tokensPerSecond: 0,
      step: 0,
      steps: 0,
      finished: false,
      bytes: { in: 0, out: 0 },
      status: null
    })
  }

  /** @returns a line for who reads along, or null. */
  take(node: TestnetNode, event: NumberedEvent): string | null {
    const seen = this.nodes.get(node.plan.path)!
    switch (event.type) {
      case 'phase':
        seen.phase = event.phase
        return null
      case 'progress':
        Object.assign(seen, {
          round: event.round,
          loss: event.loss,
          tokensPerSecond: event.tokensPerSecond,
          step: event.step,
          steps: event.steps,
          phase: 'training'
        })
        this.lastProgressAt = performance.now()
        return null
      case 'evaluation': {
        const { path, round, model, perplexity, bitsPerByte } = event
        this.evaluations.set(`${path} ${round} ${model}`, { path, round, model, perplexity, bitsPerByte })
        return null
      }
      case 'times':
        this.times.push({ path: node.plan.path, ...event.times })
        return null
      case 'attention':
        this.attention.push({ path: node.plan.path, round: event.round, candidates: event.candidates })
        return null
      case 'residual': {
        const { round, path, via, similarity, weight } = event
        const from = path.slice(path.indexOf('/') + 1)
        this.residuals.push({ round, from, to: node.plan.path, via, similarity, weight })
        return null
      }
      case 'round':
        return this.#takeRound(event.round)
      case 'round-phase': {
        const federation = this.#federation(event.federation)
        // Whoever makes a round leads; the word of another, that somebody does, may come later.
        if (event.phase !== null) federation.aggregator = node.peer
        if (federation.aggregator === node.peer) federation.phase = event.phase
        return null
      }
      case 'aggregator':
        return this.#takeAggregator(event.federation, event.peer, event.term)
      case 'finished':
        seen.finished = true
        seen.phase = 'finished'
        this.#faults.onFinished(node.plan.path, this.seconds)
        this.lastProgressAt = performance.now()
        return null
      case 'member':
        return event.change === 'absent' ? this.#takeAbsence(event.federation, event.name) : null
      case 'warning':
        this.warnings.push({ path: node.plan.path, code: event.code, message: event.message })
        return ['PARENT_AWAY', 'PARENT_AHEAD', 'ROUND_EXTENDED'].includes(event.code) ? event.message : null
      case 'fault':
        return `${event.federation || node.plan.path}: ${event.code} of ${this.nameOf(event.peer)}: ${cut(event.detail)}`
      default:
        return null
    }
  }

  #takeRound(round: RoundSummary): string | null {
    const key = `${round.federation} ${round.round}`
    const known = this.rounds.get(key)
    // Only the aggregator knows how long the commit took.
    if (known !== undefined) {
      if (round.seconds.commit > 0) known.seconds = round.seconds
      return null
    }
    this.rounds.set(key, { ...round, atSeconds: this.seconds })
    this.lastProgressAt = performance.now()
    const federation = this.#federation(round.federation)
    Object.assign(federation, {
      id: round.federationId,
      round: round.round,
      term: Math.max(federation.term, round.term),
      aggregator: round.aggregator
    })
    this.#faults.onRound(round, this.seconds)
    const excluded =
      round.excluded.length === 0
        ? ''
        : `, without ${round.excluded.map(({ name, reason }) => `${name} (${cut(reason)})`).join(', ')}`
    const alone = round.alone === null ? '' : `, alone: ${round.alone}`
    return `${round.federation}: round ${round.round} certified in term ${round.term}, ${round.included.length} members${excluded}${alone}`
  }

  /** Everybody tells of it; one line is enough. */
  #takeAbsence(federation: string, name: string): string | null {
    const key = `${federation} ${name}`
    const told = this.#absenceToldAt.get(key)
    this.#absenceToldAt.set(key, this.seconds)
    return told !== undefined && this.seconds - told < absenceSeconds ? null : `${federation}: ${name} is absent`
  }

  #takeAggregator(path: string, peer: PeerName | null, term: number): string | null {
    const federation = this.#federation(path)
    if (peer === null || term < federation.term || (peer === federation.aggregator && term === federation.term)) return null
    const first = federation.aggregator === null
    const changed = peer !== federation.aggregator
    if (changed) federation.phase = null
    Object.assign(federation, { aggregator: peer, term })
    return changed || first ? `${path}: ${this.nameOf(peer)} is aggregator (term ${term})` : null
  }

  /** What its status said; delegates and bytes are told by it alone. */
  takeStatus(path: string, status: NodeStatus | null): void {
    const seen = this.nodes.get(path)
    if (seen === undefined || status === null) return
    seen.status = status
    seen.bytes = status.bytes
    for (const { path: federation, delegates, role } of status.federations)
      if (role !== 'joining') this.#federation(federation).delegates = delegates
  }

  /** A process that ended by itself. */
  lose(node: TestnetNode): string {
    const led = this.ledBy(node)
    const kind = led.includes(node.plan.federation) ? 'lost-aggregator' : 'lost-member'
    this.#begin(kind, [node], false, '')
    this.gone(node)
    const how = node.ended?.signal ?? `code ${node.ended?.code}`
    return `${node.plan.path} is gone (${how})${led.length > 0 ? `; it was aggregator of ${led.join(', ')}` : ''}`
  }

  /** What a scenario does. */
  plan(kind: FaultKind, nodes: TestnetNode[], detail: string): Fault {
    return this.#begin(kind, nodes, true, detail)
  }

  mend(fault: Fault): void {
    this.#faults.mend(fault, this.seconds)
  }

  /** Its process has ended; a new one begins with nothing that is known here. */
  gone(node: TestnetNode): void {
    Object.assign(this.nodes.get(node.plan.path)!, { phase: 'starting', finished: false, tokensPerSecond: 0, status: null })
  }

  /** Whether every node of `path` that is up knows voters of whom any one could go: the others that are up are a majority. */
  hasSpare(path: string): boolean {
    const up = [...this.nodes.values()].filter(({ node, status }) => node.ended === null && !node.paused && status !== null)
    const peers = new Set(up.map(({ node }) => node.peer))
    const views = up.flatMap(
      ({ status }) => status?.federations.filter(one => one.path === path && one.role !== 'observer') ?? []
    )
    return (
      views.length > 0 &&
      views.every(({ voters }) => voters.filter(voter => peers.has(voter)).length - 1 > Math.floor(voters.length / 2))
    )
  }

  unrecovered(): ReturnType<FaultLog['unrecovered']> {
    return this.#faults.unrecovered()
  }

  ledBy(node: TestnetNode): string[] {
    return [...this.federations.values()].filter(({ aggregator }) => aggregator === node.peer).map(({ path }) => path)
  }

  /** The organization whose node leads `federation`, as far as anybody has told. */
  aggregatorOf(federation: string): string | null {
    const peer = this.federations.get(federation)?.aggregator ?? null
    return peer === null ? null : this.#pathOf(peer)
  }

  delegatesOf(federation: string): string[] {
    return (this.federations.get(federation)?.delegates ?? []).flatMap(peer => this.#pathOf(peer) ?? [])
  }

  #begin(kind: FaultKind, nodes: TestnetNode[], planned: boolean, detail: string): Fault {
    const federations = new Set(nodes.flatMap(node => [node.plan.federation, ...this.ledBy(node)]))
    // Of one that has made all its rounds nothing more is expected.
    const open = [...federations].filter(path => (this.federations.get(path)?.round ?? 0) < this.#rounds)
    return this.#faults.begin({
      kind,
      nodes: nodes.map(({ plan, peer }) => ({ path: plan.path, peer })),
      federations: open,
      atSeconds: this.seconds,
      planned,
      detail
    })
  }

  #pathOf(peer: PeerName): string | null {
    return [...this.nodes.values()].find(({ node }) => node.peer === peer)?.node.plan.path ?? null
  }

  nameOf(peer: PeerName): string {
    return this.#pathOf(peer) ?? peer.slice(-6)
  }

  #federation(path: string): SeenFederation {
    const known = this.federations.get(path) ?? {
      path,
      id: null,
      aggregator: null,
      term: 0,
      round: 0,
      phase: null,
      delegates: []
    }
    this.federations.set(path, known)
    return known
  }
}

/** Two absences of one member that are told further apart than this are two. */
const absenceSeconds = 10
const lineCharactersMax = 80
/** Who reads along needs the beginning; the report holds all of it. */
const cut = (text: string): string => (text.length > lineCharactersMax ? `${text.slice(0, lineCharactersMax)}…` : text)
