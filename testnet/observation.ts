/**
 * What is seen of a testnet while it runs: folded from the nodes' events, read by the live table and by the report.
 */
import type { FederationId, PeerName } from '../src/ids.ts'
import type { ModelKind, NodePhase, NumberedEvent, RoundSummary, RoundTimes } from '../src/node/status.ts'
import type { TestnetNode } from './spawn.ts'

export interface SeenEvaluation {
  path: string
  round: number
  model: ModelKind
  perplexity: number
  bitsPerByte: number
}
export interface Fault {
  kind: 'lost-aggregator' | 'lost-member'
  target: PeerName
  path: string
  /** Federations that it was in. */
  federations: string[]
  atSeconds: number
  /** Until the next certified round of its own federation; null if there was none. */
  recoveredAfterMs: number | null
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
}
export interface SeenFederation {
  path: string
  id: FederationId | null
  aggregator: PeerName | null
  term: number
  round: number
}

export class Observation {
  readonly nodes = new Map<string, SeenNode>()
  readonly federations = new Map<string, SeenFederation>()
  readonly rounds = new Map<string, RoundSummary & { atSeconds: number }>()
  readonly evaluations = new Map<string, SeenEvaluation>()
  readonly times: (RoundTimes & { path: string })[] = []
  readonly attention: { path: string; round: number; candidates: { name: string; weight: number; nllPerByte: number }[] }[] = []
  readonly warnings: { path: string; code: string; message: string }[] = []
  readonly faults: Fault[] = []
  readonly began = performance.now()
  /** Something moved on: a round, a step. A run in which nothing does is given up. */
  lastProgressAt = performance.now()

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
      bytes: { in: 0, out: 0 }
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
      case 'round':
        return this.#takeRound(event.round)
      case 'aggregator':
        return this.#takeAggregator(event.federation, event.peer, event.term)
      case 'finished':
        seen.finished = true
        seen.phase = 'finished'
        this.lastProgressAt = performance.now()
        return null
      case 'member':
        return event.change === 'absent' ? `${event.federation}: ${event.name} is absent (${event.reason ?? ''})` : null
      case 'warning':
        this.warnings.push({ path: node.plan.path, code: event.code, message: event.message })
        return event.code === 'PARENT_AWAY' || event.code === 'ROUND_EXTENDED' ? event.message : null
      case 'fault':
        return `${event.federation || node.plan.path}: ${event.code} of ${event.peer.slice(-6)}: ${event.detail}`
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
    for (const fault of this.faults) {
      if (fault.recoveredAfterMs === null && fault.federations[0] === round.federation)
        fault.recoveredAfterMs = Math.round((this.seconds - fault.atSeconds) * 1000)
    }
    const excluded =
      round.excluded.length === 0
        ? ''
        : `, without ${round.excluded.map(({ name, reason }) => `${name} (${reason})`).join(', ')}`
    const alone = round.alone === null ? '' : `, alone: ${round.alone}`
    return `${round.federation}: round ${round.round} certified in term ${round.term}, ${round.included.length} members${excluded}${alone}`
  }

  #takeAggregator(path: string, peer: PeerName | null, term: number): string | null {
    const federation = this.#federation(path)
    if (peer === null || term < federation.term || (peer === federation.aggregator && term === federation.term)) return null
    const first = federation.aggregator === null
    const changed = peer !== federation.aggregator
    Object.assign(federation, { aggregator: peer, term })
    return changed || first ? `${path}: ${this.nameOf(peer)} is aggregator (term ${term})` : null
  }

  /** A process that ended by itself. */
  lose(node: TestnetNode): string {
    const led = [...this.federations.values()].filter(({ aggregator }) => aggregator === node.peer).map(({ path }) => path)
    const kind = led.includes(node.plan.federation) ? 'lost-aggregator' : 'lost-member'
    const fault: Fault = {
      kind,
      target: node.peer,
      path: node.plan.path,
      federations: [node.plan.federation, ...led.filter(path => path !== node.plan.federation)],
      atSeconds: this.seconds,
      recoveredAfterMs: null
    }
    this.faults.push(fault)
    this.nodes.get(node.plan.path)!.phase = 'stopping'
    const how = node.ended?.signal ?? `code ${node.ended?.code}`
    return `${node.plan.path} is gone (${how})${led.length > 0 ? `; it was aggregator of ${led.join(', ')}` : ''}`
  }

  nameOf(peer: PeerName): string {
    return [...this.nodes.values()].find(({ node }) => node.peer === peer)?.node.plan.path ?? peer.slice(-6)
  }

  #federation(path: string): SeenFederation {
    const known = this.federations.get(path) ?? { path, id: null, aggregator: null, term: 0, round: 0 }
    this.federations.set(path, known)
    return known
  }
}
