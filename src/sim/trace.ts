/**
 * The trace of a run: every event that a replica took, in order. Its digest is the sha256 of all of them, so that two runs with one digest
 * did the same; its end is kept for people.
 */
import { createHash } from 'node:crypto'
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Entry } from '../federation/entry.ts'
import type { FederationEvent } from '../federation/federation.ts'

const recordBytes = 16
const recordsAtOnce = 4096
const keptMax = 400

const kinds: Record<FederationEvent['type'], number> = {
  consensus: 1,
  join: 2,
  presence: 3,
  update: 4,
  pulled: 5,
  unpulled: 6,
  aggregated: 7,
  combined: 8,
  'parent-head': 9,
  verified: 10,
  participation: 11,
  timer: 12,
  leave: 13,
  enroll: 14,
  accuse: 15,
  away: 16
}

interface Kept {
  atMs: number
  peer: number
  topic: string
  event: FederationEvent | string
}

export class Trace {
  events = 0
  readonly #hash = createHash('sha256')
  readonly #records = new DataView(new ArrayBuffer(recordBytes * recordsAtOnce))
  #filled = 0
  readonly #kept: Kept[] = []
  #next = 0

  /** One event of one replica. */
  event(atMs: number, peer: number, topic: { index: number; charter: { path: string } }, event: FederationEvent): void {
    this.events++
    const at = this.#filled * recordBytes
    const records = this.#records
    records.setFloat64(at, atMs, true)
    records.setUint32(at + 8, peer, true)
    records.setUint16(at + 12, topic.index & 0xffff, true)
    records.setUint16(at + 14, (kinds[event.type] << 8) | detailOf(event), true)
    if (++this.#filled === recordsAtOnce) this.#flush()
    this.#keep(atMs, peer, topic.charter.path, event)
  }

  /** What the world does to a peer. */
  note(atMs: number, peer: number, text: string): void {
    this.#hash.update(`${atMs} ${peer} ${text}\n`)
    this.#keep(atMs, peer, '', text)
  }

  /** sha256, hexadecimal. Ends the trace. */
  digest(): string {
    this.#flush()
    return this.#hash.digest('hex')
  }

  /** The last events, as lines. */
  tail(lines: number): string[] {
    const ordered = [...this.#kept.slice(this.#next), ...this.#kept.slice(0, this.#next)]
    return ordered.slice(-lines).map(({ atMs, peer, topic, event }) => {
      const what = typeof event === 'string' ? event : describe(event)
      return `${(atMs / 1000).toFixed(3)} s  p${peer} ${topic}  ${what}`
    })
  }

  #keep(atMs: number, peer: number, topic: string, event: FederationEvent | string): void {
    const kept = this.#kept[this.#next]
    if (kept === undefined) this.#kept.push({ atMs, peer, topic, event })
    else {
      kept.atMs = atMs
      kept.peer = peer
      kept.topic = topic
      kept.event = event
    }
    this.#next = (this.#next + 1) % keptMax
  }

  #flush(): void {
    this.#hash.update(new Uint8Array(this.#records.buffer, 0, this.#filled * recordBytes))
    this.#filled = 0
  }
}

/** A byte that tells events of one kind apart. */
function detailOf(event: FederationEvent): number {
  switch (event.type) {
    case 'consensus': {
      const inner = event.event
      if (inner.type === 'message') return (inner.message.type.length * 16 + termOf(inner.message)) & 0xff
      return (inner.type.length * 16 + ('index' in inner ? inner.index : 0)) & 0xff
    }
    case 'participation':
      return event.event.type.length
    case 'timer':
      return event.name.length
    case 'presence':
      return event.present ? 1 : 0
    case 'aggregated':
    case 'combined':
      return event.round & 0xff
    default:
      return 0
  }
}

const termOf = (message: ConsensusMessage<Entry>): number => ('term' in message ? message.term : 0)

function describe(event: FederationEvent): string {
  switch (event.type) {
    case 'consensus': {
      const inner = event.event
      if (inner.type !== 'message') return 'index' in inner ? `${inner.type} index ${inner.index}` : inner.type
      const { type, ...rest } = inner.message
      const index = 'index' in rest ? ` index ${rest.index}` : 'entry' in rest ? ` index ${rest.entry.index}` : ''
      const granted = 'granted' in rest ? (rest.granted ? ' granted' : ' refused') : ''
      return `${type} from ${inner.from}, term ${termOf(inner.message)}${index}${granted}`
    }
    case 'update':
      return `update of ${event.update.member} for round ${event.update.round}, by ${event.update.by}`
    case 'participation':
      return `participation ${event.event.type}`
    case 'timer':
      return `timer ${event.name}`
    case 'presence':
      return `${event.peer} ${event.present ? 'present' : 'absent'}`
    case 'join':
      return `join ${event.member.member}`
    case 'leave':
      return `leave ${event.left.member}`
    case 'enroll':
      return `enroll ${event.enrolled.peer}`
    case 'away':
      return `${event.peer} silent for long`
    case 'aggregated':
    case 'combined':
      return `${event.type} round ${event.round}`
    case 'parent-head':
      return `parent-head round ${event.head.round}`
    case 'verified':
      return `verified index ${event.entry.index}${event.fault === null ? '' : `: ${event.fault.code}`}`
    default:
      return event.type
  }
}
