/**
 * What happened on this node: numbered events for who watches (API, terminal, testnet), and durable records for the invariants.
 */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import type { NodeEvent, NodeRecord, NumberedEvent } from './status.ts'

/** Kept for who connects late; older ones are gone. A round makes about 30. */
export const eventsKeptMax = 10_000

export class EventLog {
  readonly #events: NumberedEvent[] = []
  readonly #listeners = new Set<(event: NumberedEvent) => void>()
  #seq = 0

  emit(event: NodeEvent): void {
    const numbered = { ...event, seq: ++this.#seq, at: new Date().toISOString() }
    this.#events.push(numbered)
    if (this.#events.length > eventsKeptMax) this.#events.splice(0, this.#events.length - eventsKeptMax)
    for (const listener of this.#listeners) listener(numbered)
  }

  /** Kept events after `seq`, in order. */
  since(seq: number): NumberedEvent[] {
    const first = this.#events[0]?.seq ?? 1
    return this.#events.slice(Math.max(0, seq + 1 - first))
  }

  /** @returns a function that ends the subscription. */
  subscribe(listener: (event: NumberedEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

/** `records.jsonl`: one line a record, on disk when `append` returns (I2 and I4 are checked on it after a crash). */
export class RecordLog {
  readonly #fd: number

  constructor(path: string) {
    this.#fd = openSync(path, 'a', 0o644)
  }

  append(record: NodeRecord): void {
    writeSync(this.#fd, `${JSON.stringify(record)}\n`)
    fsyncSync(this.#fd)
  }

  close(): void {
    closeSync(this.#fd)
  }
}
