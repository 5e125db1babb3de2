/**
 * The network between simulated peers: latency, bandwidth, loss, reordering, duplication, partitions. What the wire is to the daemon.
 *
 * Four ways, as in src/net: `send` (a stream: in no order once reordering is on, never lost by the link class), `gossip` (lost at the
 * link's rate), `ask` (question and answer with a timeout, over `send`), `transfer` (a blob: lines are shared, first come first served).
 * What becomes of a gossiped message on its way to one listener is drawn from who says it, who hears it, and how many its speaker said
 * before, not from a stream of numbers: so it can be told later, and only where somebody asks (voice.ts).
 * Is not: a model of TCP or of gossipsub's mesh; a gossiped message takes as many hops as a mesh of degree 6 needs.
 */
import { exponential } from '../math/exponential.ts'
import type { Random } from '../math/random.ts'
import type { Clock, Happening } from './clock.ts'
import { between, lineBetween, type LinkClass, linkClasses, type LinkFigures, type Place } from './place.ts'

/** A peer, as the network sees it. */
export interface Endpoint {
  readonly index: number
  readonly place: Place
  up: boolean
  /** Rises with every restart: what was meant for an earlier life is lost. */
  incarnation: number
  /** Hears, but is not heard. */
  silent: boolean
  /** Factor on all its delays, ≥ 1. */
  slowness: number
  /** When its line is free again. */
  upFreeMs: number
  downFreeMs: number
  /** Who gets the message, in its present life. */
  inbox(message: unknown): Inbox | null
}

/** A part of a peer that gets messages: what comes when it is there no more is lost. */
export interface Inbox {
  readonly isOpen: boolean
  receive(from: Endpoint, message: unknown): void
}

/** What a fault plan does to everybody's messages. */
export interface Weather {
  loss: number
  duplication: number
  /** Share of messages that are held back, and for how long at most. */
  reordering: number
  reorderMs: number
}

/** Listeners of one speaker, in three columns, to whom its messages may get lost. */
export interface AtRisk {
  indices: readonly number[]
  /** What of each listener goes into what is drawn. */
  mixed: Int32Array
  /** It gets lost where 32 drawn bits are below this. */
  limits: Float64Array
}

/** Whether `from` cannot reach `to`. */
export type Cut = (from: Endpoint, to: Endpoint) => boolean

/** Ways over a link until a blob is under way: a connection, and the question. */
const dialTrips = 3

const fair: Weather = { loss: 0, duplication: 0, reordering: 0, reorderMs: 0 }

class Delivery implements Happening {
  readonly #to: Inbox | null
  readonly #from: Endpoint
  readonly #message: unknown

  constructor(from: Endpoint, to: Inbox | null, message: unknown) {
    this.#from = from
    this.#to = to
    this.#message = message
  }

  fire(): void {
    if (this.#to?.isOpen === true) this.#to.receive(this.#from, this.#message)
  }
}

export class Network {
  readonly #clock: Clock
  readonly #random: Random
  readonly #figures: Record<LinkClass, LinkFigures>
  readonly #cuts = new Set<Cut>()
  readonly #seed: number
  weather: Weather = fair
  /** Faults in force that hinder somebody: cuts, weather, slow and silent peers, full disks. */
  troubles = 0
  /** Bytes by link class, then by level of the federation concerned (0: the root). */
  readonly bytes: Record<LinkClass, number[]>
  messages = 0

  constructor(clock: Clock, random: Random, figures: Record<LinkClass, LinkFigures>) {
    this.#clock = clock
    this.#random = random
    this.#seed = random.uint32()
    this.#figures = figures
    this.bytes = Object.fromEntries(linkClasses.map(name => [name, []])) as unknown as Record<LinkClass, number[]>
  }

  get whole(): boolean {
    return this.#cuts.size === 0 && this.weather === fair
  }

  /** Whether every message goes its ordinary way. */
  get calm(): boolean {
    return this.troubles === 0 && this.whole
  }

  get bytesInAll(): number {
    return linkClasses.reduce((sum, name) => sum + this.bytes[name].reduce((all, some) => all + (some ?? 0), 0), 0)
  }

  cut(cut: Cut): void {
    this.#cuts.add(cut)
  }
  heal(cut: Cut): void {
    this.#cuts.delete(cut)
  }
  clear(): void {
    this.weather = fair
  }

  reaches(from: Endpoint, to: Endpoint): boolean {
    if (from.silent) return false
    if (this.#cuts.size === 0) return true
    for (const cut of this.#cuts) if (cut(from, to)) return false
    return true
  }

  /** One message on a stream. */
  send(from: Endpoint, to: Endpoint, message: unknown, bytes: number, level: number): void {
    if (!to.up || !this.reaches(from, to)) return
    this.countBetween(from, to, level, bytes)
    if (this.weather.loss > 0 && this.#random.float() < this.weather.loss) return
    this.deliver(
      from,
      to.inbox(message),
      message,
      this.#delayMs(this.#figuresOf(from, to), from, to, bytes, this.#random.float())
    )
  }

  /** A heartbeat or its answer: its delay is drawn as a gossiped message's is. */
  sendBeat(from: Endpoint, to: Endpoint, message: unknown, bytes: number, level: number): void {
    if (!to.up || !this.reaches(from, to)) return
    this.countBetween(from, to, level, bytes)
    if (this.weather.loss > 0 && this.#random.float() < this.weather.loss) return
    this.deliver(from, to.inbox(message), message, this.beatDelayMs(from, to, bytes), 0)
  }

  beatDelayMs(from: Endpoint, to: Endpoint, bytes: number): number {
    const drawn = chance(this.#seed + 2, from.index, to.index, Math.floor(this.#clock.nowMs * 64))
    return this.#delayMs(this.#figuresOf(from, to), from, to, bytes, drawn)
  }

  /** Delay of one gossiped message from `from` to `to`; negative where it is lost. @param listeners - size of the topic. @param nth - see `chance`. */
  gossip(from: Endpoint, to: Endpoint, bytes: number, listeners: number, level: number, nth: number): number {
    if (!to.up || !this.reaches(from, to)) return -1
    this.countBetween(from, to, level, bytes)
    if (this.weather.loss > 0 && this.#random.float() < this.weather.loss) return -1
    return this.gossipDelayMs(from, to, bytes, listeners, nth)
  }

  /** The same of a message whose bytes are counted, and that reaches its listener. */
  gossipDelayMs(from: Endpoint, to: Endpoint, bytes: number, listeners: number, nth: number): number {
    const figures = this.#figuresOf(from, to)
    if (figures.loss > 0 && chance(this.#seed, from.index, to.index, nth) < figures.loss) return -1
    return this.#delayMs(figures, from, to, bytes, chance(this.#seed + 1, from.index, to.index, nth)) * hops(listeners)
  }

  /** Those of `listeners` to whom messages of `from` may get lost, for `lostTo`. */
  atRisk(from: Endpoint, listeners: Iterable<Endpoint>): AtRisk {
    const risks = [...listeners].flatMap(to => {
      const { loss } = this.#figuresOf(from, to)
      return loss > 0 ? [{ index: to.index, loss }] : []
    })
    return {
      indices: risks.map(({ index }) => index),
      mixed: Int32Array.from(risks, ({ index }) => mixedIn(from.index, index)),
      limits: Float64Array.from(risks, ({ loss }) => loss * 2 ** 32)
    }
  }

  /** Listeners that do not get a message which all others get: those for whom `gossipDelayMs` is negative. Null: it gets lost to none. */
  lostTo({ indices, mixed, limits }: AtRisk, nth: number): number[] | null {
    let lost: number[] | null = null
    const rest = Math.imul(nth + 1, 0xc2b2ae35) ^ this.#seed
    for (let place = 0; place < mixed.length; place++) {
      if (finished(mixed[place]! ^ rest) >= limits[place]!) continue
      lost ??= []
      lost.push(indices[place]!)
    }
    return lost
  }

  /** After `delayMs`, and perhaps once more. @param to - null: there is nobody. @param tie - see `Clock.at`. */
  deliver(from: Endpoint, to: Inbox | null, message: unknown, delayMs: number, tie?: number): void {
    this.messages++
    this.#clock.at(this.#clock.nowMs + delayMs, new Delivery(from, to, message), tie)
    if (this.weather.duplication > 0 && this.#random.float() < this.weather.duplication)
      this.#clock.at(this.#clock.nowMs + delayMs + this.#random.float() * 200, new Delivery(from, to, message))
  }

  /**
   * A blob of `bytes` from one peer to another. Each one's line takes its blobs one after another at its own rate, and is kept busy no longer
   * because the other's is slow: others use it meanwhile.
   * @param done - whether it arrived; not called when the receiver is gone by then.
   */
  transfer(from: Endpoint, to: Endpoint, bytes: number, level: number, done: (whole: boolean) => void): void {
    const { latencyMs } = this.#figuresOf(from, to)
    const beginMs = this.#clock.nowMs + dialTrips * latencyMs
    const { mbitUp } = this.#figures[lineBetween(from.place, to.place)]
    const { mbitDown } = this.#figures[lineBetween(to.place, from.place)]
    from.upFreeMs = Math.max(beginMs, from.upFreeMs) + (bytes * 8 * from.slowness) / (mbitUp * 1000)
    to.downFreeMs = Math.max(beginMs, to.downFreeMs) + (bytes * 8 * to.slowness) / (mbitDown * 1000)
    const delayMs = Math.max(from.upFreeMs, to.downFreeMs) - this.#clock.nowMs + latencyMs
    const [source, target] = [from.incarnation, to.incarnation]
    this.#clock.call(delayMs, () => {
      if (!to.up || to.incarnation !== target) return
      const whole = from.up && from.incarnation === source && this.reaches(from, to)
      if (whole) this.countBetween(from, to, level, bytes)
      done(whole)
    })
  }

  /** From when on what is asked of `from` now need not wait for what it sends to others. */
  freeMs(from: Endpoint, to: Endpoint): number {
    return from.upFreeMs - dialTrips * this.#figuresOf(from, to).latencyMs
  }

  /** There and back, of an empty message. */
  roundTripMs(from: Endpoint, to: Endpoint): number {
    return 2 * this.#figuresOf(from, to).latencyMs
  }

  /** @param drawn - 0 ≤ x < 1. */
  #delayMs({ latencyMs, jitterMs, mbitUp }: LinkFigures, from: Endpoint, to: Endpoint, bytes: number, drawn: number): number {
    const { weather } = this
    let delay = latencyMs + jitterMs * exponential(drawn) + (bytes * 8) / (mbitUp * 1000)
    if (weather.reordering > 0 && this.#random.float() < weather.reordering) delay += this.#random.float() * weather.reorderMs
    if (from.slowness > 1 || to.slowness > 1) delay *= from.slowness * to.slowness
    return delay
  }

  #figuresOf(from: Endpoint, to: Endpoint): LinkFigures {
    return between(this.#figures, from.place, to.place)
  }

  countBetween(from: Endpoint, to: Endpoint, level: number, bytes: number): void {
    add(between(this.bytes, from.place, to.place), level, bytes)
  }

  count(name: LinkClass, level: number, bytes: number): void {
    add(this.bytes[name], level, bytes)
  }
}

function add(row: number[], level: number, bytes: number): void {
  row[level] = (row[level] ?? 0) + bytes
}

/** 0 ≤ x < 1, for one message of one speaker to one listener. @param nth - of the speaker's, in one topic. */
const chance = (seed: number, from: number, to: number, nth: number): number =>
  finished(mixedIn(from, to) ^ Math.imul(nth + 1, 0xc2b2ae35) ^ seed) / 2 ** 32

const mixedIn = (from: number, to: number): number => Math.imul(from + 1, 0x9e3779b1) ^ Math.imul(to + 1, 0x85ebca6b)

/** The finish of MurmurHash3: 32 bits. */
function finished(mixed: number): number {
  let hash = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** Of a mesh of degree 6 with so many listeners. */
const hops = (listeners: number): number => (listeners <= 7 ? 1 : listeners <= 43 ? 2 : listeners <= 259 ? 3 : 4)
