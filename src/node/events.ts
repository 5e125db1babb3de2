/**
 * What happened on this node: numbered events for who watches (API, terminal, testnet), and durable records for the invariants.
 */
import { BlockFile } from './entry-log.ts'
import { FaultMeter } from './fault-meter.ts'
import { GrowingFile } from './files.ts'
import type { NodeEvent, NodeRecord, NumberedEvent } from './status.ts'

/** Kept for who connects late; older ones are gone. A round makes about 30. */
export const eventsKeptMax = 10_000

export class EventLog {
  readonly #events: NumberedEvent[] = []
  readonly #listeners = new Set<(event: NumberedEvent) => void>()
  readonly #meter = new FaultMeter(event => this.#number(event))
  #seq = 0

  emit(event: NodeEvent): void {
    if (event.type === 'fault' || event.type === 'warning') this.#meter.see(event)
    else this.#number(event)
  }

  #number(event: NodeEvent): void {
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
  readonly #file: GrowingFile

  /** Opens or creates; a line that a dying process left unfinished is cut off, or the next one would be joined to it. */
  constructor(path: string) {
    this.#file = new GrowingFile(path, size => wholeLines(path, size))
  }

  /** @throws {WorldlmError} DISK_FULL */
  append(record: NodeRecord): void {
    this.#file.append(Buffer.from(`${JSON.stringify(record)}\n`))
  }

  close(): void {
    this.#file.close()
  }
}

const windowBytes = 64 * 1024

/** Bytes of a file up to the end of its last whole line: looked for from behind, for after years it may be longer than can be read at once. */
function wholeLines(path: string, size: number): number {
  const file = new BlockFile(path)
  try {
    for (let end = size; end > 0; ) {
      const offset = Math.max(0, end - windowBytes)
      const place = file.read({ offset, length: end - offset }).lastIndexOf(0x0a)
      if (place >= 0) return offset + place + 1
      end = offset
    }
    return 0
  } finally {
    file.close()
  }
}
