/**
 * One direction of one connection through the fault-injecting proxy: what comes from `source` goes to the target when the lane lets it.
 * Ends and breaks wait in line behind the bytes, so a cut link hides them too.
 */
import type { Socket } from 'node:net'
import type { Random } from '../src/math/random.ts'

export interface LinkCondition {
  /** One way. */
  latencyMs: number
  /** Each way; 0: no limit. */
  bytesPerSecond: number
  /** Share of segments that are lost, 0 to 1. */
  loss: number
}

/** One direction between two nodes: what its connections share. */
export interface Lane {
  condition: LinkCondition | null
  cut: boolean
  /** When it has sent all that was given to it, in milliseconds of performance.now(). */
  freeAt: number
  random: Random
}

/** Waiting for the wire on one connection, besides what is on it; more, and its source has to wait, as with a full window. */
const queuedBytesMax = 4 * 1024 * 1024
/** On a slow wire less: queues of routers are meant to hold no more than so long takes. */
const queuedMs = 250
const queuedBytesMin = 64 * 1024
const segmentBytes = 1448
/** Least time that TCP waits for an acknowledgement before it sends again (RFC 6298 says 1 s, Linux 200 ms). */
const retransmitMs = 200

type Item = { bytes: Buffer; arrivesAt: number } | { end: 'end' | 'break'; arrivesAt: number }

export class Pipe {
  readonly #source: Socket
  readonly #lane: Lane
  readonly #reach: () => Socket
  readonly #onDone: () => void
  readonly #queue: Item[] = []
  #queuedBytes = 0
  #target: Socket | null = null
  #timer: NodeJS.Timeout | undefined
  #lastArrival = 0
  #blocked = false
  #ended = false

  /** @param reach - gives the target, when the first item arrives there. */
  constructor(source: Socket, lane: Lane, reach: () => Socket, onDone: () => void) {
    this.#source = source
    this.#lane = lane
    this.#reach = reach
    this.#onDone = onDone
    source.on('data', bytes => this.#take(bytes))
    source.on('end', () => this.#finish('end'))
    source.on('close', () => this.#finish('break'))
    source.resume()
  }

  /** The connection itself travels too: a round trip until the other side knows of it. */
  begin(): void {
    this.#put(Buffer.alloc(0), 2)
  }

  /** The lane has changed. */
  wake(): void {
    this.#schedule()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#queue.length = 0
    this.#ended = true
    this.#onDone()
  }

  #take(bytes: Buffer): void {
    this.#put(bytes, 1)
    if (this.#queuedBytes > this.#onWireBytes + this.#queueMax) this.#source.pause()
  }

  #put(bytes: Buffer, latencies: number): void {
    this.#queue.push({ bytes, arrivesAt: this.#arrival(bytes.length, latencies) })
    this.#queuedBytes += bytes.length
    this.#schedule()
  }

  /** When it is there: after what the lane still has to send, its own time on the wire, the way, and lost segments. */
  #arrival(byteCount: number, latencies: number): number {
    const now = performance.now()
    const { condition, random } = this.#lane
    if (condition === null) return (this.#lastArrival = Math.max(now, this.#lastArrival))
    const { latencyMs, bytesPerSecond, loss } = condition
    this.#lane.freeAt = Math.max(now, this.#lane.freeAt) + (bytesPerSecond > 0 ? (byteCount / bytesPerSecond) * 1000 : 0)
    const lost = random.float() < 1 - (1 - loss) ** Math.ceil(byteCount / segmentBytes)
    const arrival = this.#lane.freeAt + latencyMs * latencies + (lost ? retransmitMs + 2 * latencyMs : 0)
    return (this.#lastArrival = Math.max(arrival, this.#lastArrival))
  }

  get #queueMax(): number {
    const { bytesPerSecond = 0 } = this.#lane.condition ?? {}
    if (bytesPerSecond === 0) return queuedBytesMax
    return Math.min(queuedBytesMax, Math.max(queuedBytesMin, (bytesPerSecond * queuedMs) / 1000))
  }

  /** What a wire of this rate and length holds. */
  get #onWireBytes(): number {
    const { latencyMs = 0, bytesPerSecond = 0 } = this.#lane.condition ?? {}
    return (bytesPerSecond * latencyMs) / 1000
  }

  #finish(end: 'end' | 'break'): void {
    if (this.#ended) return
    if (end === 'break') this.#ended = true
    this.#queue.push({ end, arrivesAt: this.#arrival(0, 1) })
    this.#schedule()
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    if (this.#lane.cut || this.#blocked) return
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const waitMs = first.arrivesAt - performance.now()
      if (waitMs > 0.5) {
        this.#timer = setTimeout(() => this.#schedule(), waitMs)
        return
      }
      this.#queue.shift()
      this.#deliver(first)
      if (this.#blocked) return
    }
  }

  #deliver(item: Item): void {
    this.#target ??= this.#reach()
    if ('end' in item) {
      if (item.end === 'end') this.#target.end()
      else {
        this.#target.destroySoon()
        this.#onDone()
      }
      return
    }
    this.#queuedBytes -= item.bytes.length
    if (this.#source.isPaused() && this.#queuedBytes < this.#onWireBytes + this.#queueMax / 2) this.#source.resume()
    if (item.bytes.length === 0 || this.#target.write(item.bytes)) return
    this.#blocked = true
    const go = () => {
      this.#target?.off('drain', go).off('close', go)
      this.#blocked = false
      this.#schedule()
    }
    this.#target.on('drain', go).on('close', go)
  }
}
