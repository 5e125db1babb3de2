/** Prometheus metrics of a node (docs/metrics.md lists them). Counted from the start on; what writes them is loaded when they are asked for. */
import type { NodeEvent, NodeStatus } from './status.ts'

/** By the value of the metric's one label. */
type Counts = Map<string, number>

export class Metrics {
  readonly #rounds: Counts = new Map()
  readonly #faults: Counts = new Map()
  readonly #warnings: Counts = new Map()
  #tokens = 0

  count(event: NodeEvent): void {
    if (event.type === 'round') add(this.#rounds, event.round.federation)
    if (event.type === 'fault') add(this.#faults, event.code, event.times)
    if (event.type === 'warning') add(this.#warnings, event.code, event.times)
    if (event.type === 'trained') this.#tokens += event.tokens
  }

  async render(status: NodeStatus): Promise<string> {
    const { Counter, Gauge, Registry } = await import('prom-client')
    const registry = new Registry()
    const registers = [registry]
    const counter = (name: string, help: string, label: string, counts: Counts) => {
      const metric = new Counter({ name, help, labelNames: [label], registers })
      for (const [value, count] of counts) metric.inc({ [label]: value }, count)
    }
    const gauge = (name: string, help: string, label: string, values: Iterable<readonly [string, number]>) => {
      const metric = new Gauge({ name, help, labelNames: [label], registers })
      for (const [value, number] of values) metric.set({ [label]: value }, number)
    }
    const { federations, evaluations, bytes, training } = status
    counter('worldlm_rounds_certified_total', 'Certified rounds seen.', 'federation', this.#rounds)
    counter('worldlm_faults_total', 'Faults of other peers.', 'code', this.#faults)
    counter('worldlm_warnings_total', 'Warnings.', 'code', this.#warnings)
    new Counter({ name: 'worldlm_trained_tokens_total', help: 'Tokens trained on.', registers }).inc(this.#tokens)
    gauge(
      'worldlm_round',
      'Newest certified round.',
      'federation',
      federations.map(({ path, round }) => [path, round])
    )
    gauge(
      'worldlm_term',
      'Term of consensus.',
      'federation',
      federations.map(({ path, term }) => [path, term])
    )
    gauge(
      'worldlm_members_present',
      'Members that are present.',
      'federation',
      federations.map(({ path, members }) => [path, members.filter(({ present }) => present).length])
    )
    gauge(
      'worldlm_perplexity',
      'Newest perplexity on the validation set.',
      'model',
      Object.entries(evaluations).map(([model, { perplexity }]) => [model, perplexity])
    )
    gauge('worldlm_blob_bytes', 'Bytes of blobs since the start.', 'direction', Object.entries(bytes))
    new Gauge({ name: 'worldlm_tokens_per_second', help: 'Training speed.', registers }).set(training?.tokensPerSecond ?? 0)
    return registry.metrics()
  }
}

const add = (counts: Counts, value: string, times = 1): void => void counts.set(value, (counts.get(value) ?? 0) + times)
