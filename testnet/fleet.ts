/** The nodes of a testnet while they run: started, watched, started again, stopped. Who plays with them stands elsewhere. */
import type { NumberedEvent } from '../src/node/status.ts'
import type { Prepared } from './prepare.ts'
import { createNode, isRunning, spawnNodes, startAgain, stopNodes, type TestnetNode } from './spawn.ts'
import { watchNode } from './watch.ts'

export interface FleetEvents {
  onEvent(node: TestnetNode, event: NumberedEvent): void
  /** A process has ended, while the fleet was not being stopped. */
  onEnd(node: TestnetNode): void
}

export class Fleet {
  readonly nodes: TestnetNode[]
  readonly #events: FleetEvents
  readonly #signal: AbortSignal
  readonly #watching: Promise<void>[] = []
  readonly #stopWatching = new AbortController()
  #stopping = false

  constructor(prepared: Prepared[], events: FleetEvents, signal: AbortSignal) {
    this.nodes = prepared.map(createNode)
    this.#events = events
    this.#signal = signal
  }

  get stopping(): boolean {
    return this.#stopping
  }

  /** @param late - paths of those that are not started yet. @throws {WorldlmError} NODE_FAILED */
  async begin(late: ReadonlySet<string> = new Set()): Promise<void> {
    const present = this.nodes.filter(({ plan }) => !late.has(plan.path))
    await spawnNodes(present, node => this.#onEnd(node), this.#signal)
    for (const node of present) this.#watch(node)
  }

  /** Later than the others, or again, with the addresses of `known` others. @throws {WorldlmError} NODE_FAILED */
  async start(node: TestnetNode, known?: number): Promise<void> {
    await startAgain(node, this.nodes, ended => this.#onEnd(ended), this.#signal, known)
    this.#watch(node)
  }

  get running(): TestnetNode[] {
    return this.nodes.filter(isRunning)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await stopNodes(this.nodes)
    this.#stopWatching.abort()
    await Promise.allSettled(this.#watching)
  }

  #onEnd(node: TestnetNode): void {
    if (!this.#stopping && !this.#signal.aborted) this.#events.onEnd(node)
  }

  #watch(node: TestnetNode): void {
    this.#watching.push(watchNode(node, this.#events.onEvent, this.#stopWatching.signal))
  }
}
