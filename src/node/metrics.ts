/** Prometheus metrics of a node (docs/metrics.md lists them). */
import { Counter, Gauge, Registry } from 'prom-client'
import type { NodeEvent, NodeStatus } from './status.ts'

export class Metrics {
  readonly #registry = new Registry()
  readonly #rounds = this.#counter('worldlm_rounds_certified_total', 'Certified rounds seen.', ['federation'])
  readonly #faults = this.#counter('worldlm_faults_total', 'Faults of other peers.', ['code'])
  readonly #warnings = this.#counter('worldlm_warnings_total', 'Warnings.', ['code'])
  readonly #tokens = this.#counter('worldlm_trained_tokens_total', 'Tokens trained on.', [])
  readonly #round = this.#gauge('worldlm_round', 'Newest certified round.', ['federation'])
  readonly #term = this.#gauge('worldlm_term', 'Term of consensus.', ['federation'])
  readonly #members = this.#gauge('worldlm_members_present', 'Members that are present.', ['federation'])
  readonly #perplexity = this.#gauge('worldlm_perplexity', 'Newest perplexity on the validation set.', ['model'])
  readonly #bytes = this.#gauge('worldlm_blob_bytes', 'Bytes of blobs since the start.', ['direction'])
  readonly #speed = this.#gauge('worldlm_tokens_per_second', 'Training speed.', [])

  count(event: NodeEvent): void {
    if (event.type === 'round') this.#rounds.inc({ federation: event.round.federation })
    if (event.type === 'fault') this.#faults.inc({ code: event.code })
    if (event.type === 'warning') this.#warnings.inc({ code: event.code })
    if (event.type === 'trained') this.#tokens.inc(event.tokens)
  }

  render(status: NodeStatus): Promise<string> {
    for (const { path, round, term, members } of status.federations) {
      this.#round.set({ federation: path }, round)
      this.#term.set({ federation: path }, term)
      this.#members.set({ federation: path }, members.filter(({ present }) => present).length)
    }
    for (const [model, evaluation] of Object.entries(status.evaluations)) this.#perplexity.set({ model }, evaluation.perplexity)
    this.#bytes.set({ direction: 'in' }, status.bytes.in)
    this.#bytes.set({ direction: 'out' }, status.bytes.out)
    this.#speed.set(status.training?.tokensPerSecond ?? 0)
    return this.#registry.metrics()
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  #gauge(name: string, help: string, labelNames: string[]): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] })
  }
}
