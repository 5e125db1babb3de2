/**
 * Blobs between peers (docs/protocol.md, "Blobs").
 *
 * The receiver drives: it asks several holders for what it lacks (blob-scheduler.ts), checks each chunk against the index that the
 * blob's name commits to, and writes it to disk before it counts; what it has, it passes on to others that pull the same blob
 * (blob-server.ts). Is not: a judge of who may have a blob; `allow` is asked before each answer.
 */
import { setFlagsFromString } from 'node:v8'
import { BlobAway } from '../errors.ts'
import type { Link, PeerName } from '../ids.ts'
import { limits } from '../wire/limits.ts'
import { Bandwidth } from './bandwidth.ts'
import { ChunkBuffers } from './blob-line.ts'
import { BlobPull } from './blob-pull.ts'
import { BlobServer, type Permission } from './blob-server.ts'
import type { BlobStore } from './blob-store.ts'
import type { Host } from './host.ts'

export interface BlobExchangeOptions {
  host: Host
  store: BlobStore
  /** Whether this peer may have this blob. */
  allow: (peer: PeerName, blob: Link) => Permission
  /** A holder that sent wrong bytes, or a wrong index. */
  onLiar: (peer: PeerName, blob: Link, detail: string) => void
  /** Bytes come from this peer; told a few times a second. */
  onBytes?: (peer: PeerName) => void
  /** Sent to all peers together; 0: no limit. */
  uploadBytesPerSecond?: number
  /** Of a blob that is taken, as it is now; left out: what a blob may have at all. */
  bytesMax?: () => number
  /** See blob-pull.ts; for tests. */
  fruitlessMs?: number
  /** See `liarsKept`; for tests. */
  liarsMax?: number
}

export interface Traffic {
  in: number
  out: number
}

/** Peers whose traffic is remembered. */
const peersCountedMax = limits.membersMax * 2
/** Between two words that bytes come from a peer. */
const tellBytesEveryMs = 200
/** Pairs of holder and blob that are not asked again, the newest. */
const liarsKept = 1_000

interface Pulling {
  pull: BlobPull
  received: Promise<number>
  /** Who waits for it. */
  waiting: number
}

export class BlobExchange {
  readonly bytes: Traffic = { in: 0, out: 0 }
  readonly #options: BlobExchangeOptions
  readonly #buffers = new ChunkBuffers()
  readonly #pulling = new Map<Link, Pulling>()
  readonly #traffic = new Map<PeerName, Traffic>()
  readonly #liars = new Set<string>()
  readonly #toldAtMs = new Map<PeerName, number>()

  private constructor(options: BlobExchangeOptions) {
    this.#options = options
  }

  static async start(options: BlobExchangeOptions): Promise<BlobExchange> {
    countBuffersAsHeap()
    const exchange = new BlobExchange(options)
    const { host, store, allow, uploadBytesPerSecond = 0 } = options
    await BlobServer.start({
      host,
      store,
      allow,
      bandwidth: new Bandwidth(uploadBytesPerSecond),
      onAsker: (peer, blob) => exchange.#pulling.get(blob)?.pull.consider(peer),
      onSent: (peer, bytes) => exchange.#count(peer, 'out', bytes)
    })
    return exchange
  }

  /** Bytes from and to each peer, since the start. */
  get traffic(): ReadonlyMap<PeerName, Traffic> {
    return this.#traffic
  }

  /**
   * Brings a blob here from several holders at once; resumes what is already here.
   * @param holders - who is likely to hold it, or to be pulling it too; the likeliest first.
   * @param signal - ends the wait of this caller; the pull ends when nobody waits for it.
   * @returns bytes that were received; 0 if it was here.
   * @throws {BlobAway} when no holder gives, or has, all that is missing, nothing more comes, or `signal` ends the wait; what has arrived is kept.
   */
  pull(blob: Link, holders: PeerName[], signal?: AbortSignal): Promise<number> {
    if (this.#options.store.has(blob)) return Promise.resolve(0)
    const running = this.#pulling.get(blob)
    if (running !== undefined) for (const holder of holders) running.pull.consider(holder)
    const pulling = running ?? this.#begin(blob, holders)
    pulling.waiting++
    return signal === undefined ? pulling.received : waitFor(pulling, blob, signal)
  }

  #begin(blob: Link, holders: PeerName[]): Pulling {
    const { host, store, onLiar, bytesMax, fruitlessMs, liarsMax = liarsKept } = this.#options
    const pull = new BlobPull({
      host,
      store,
      blob,
      buffers: this.#buffers,
      bytesMax: bytesMax?.() ?? limits.blobBytesMax,
      ...(fruitlessMs !== undefined && { fruitlessMs }),
      isLiar: peer => this.#liars.has(`${peer} ${blob}`),
      onLiar: (peer, detail) => {
        this.#liars.add(`${peer} ${blob}`)
        if (this.#liars.size > liarsMax) this.#liars.delete(this.#liars.values().next().value!)
        onLiar(peer, blob, detail)
      },
      onReceived: (peer, bytes) => {
        this.#count(peer, 'in', bytes)
        this.#tellBytes(peer)
      }
    })
    const received = pull.run(holders).finally(() => {
      this.#pulling.delete(blob)
      if (this.#pulling.size === 0) this.#toldAtMs.clear()
    })
    const pulling = { pull, received, waiting: 0 }
    this.#pulling.set(blob, pulling)
    return pulling
  }

  #tellBytes(peer: PeerName): void {
    const { onBytes } = this.#options
    const now = performance.now()
    if (onBytes === undefined || now - (this.#toldAtMs.get(peer) ?? Number.NEGATIVE_INFINITY) < tellBytesEveryMs) return
    this.#toldAtMs.set(peer, now)
    onBytes(peer)
  }

  #count(peer: PeerName, way: keyof Traffic, bytes: number): void {
    this.bytes[way] += bytes
    const counted = this.#traffic.get(peer) ?? { in: 0, out: 0 }
    counted[way] += bytes
    if (!this.#traffic.has(peer) && this.#traffic.size < peersCountedMax) this.#traffic.set(peer, counted)
  }
}

function waitFor(pulling: Pulling, blob: Link, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      reject(new BlobAway(`${blob} did not come in time`))
      pulling.waiting--
      if (pulling.waiting === 0) pulling.pull.giveUp()
    }
    const settled = () => signal.removeEventListener('abort', giveUp)
    pulling.received.then(resolve, reject).finally(settled)
    if (signal.aborted) giveUp()
    else signal.addEventListener('abort', giveUp, { once: true })
  })
}

/**
 * Bytes that come over TLS are buffers outside V8's heap. By default V8 collects garbage anew for every few dozen megabytes of them,
 * however little of the heap that frees: a quarter of a receiver's time. Counted with the heap they are collected a fourth as often.
 */
function countBuffersAsHeap(): void {
  if (Number.parseInt(process.versions.v8, 10) >= 13) setFlagsFromString('--external-memory-accounted-in-global-limit')
}
