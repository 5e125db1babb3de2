/**
 * Blobs between peers (docs/protocol.md, "Blobs").
 *
 *   receiver → holder   { blob, chunk | null }     as many outstanding as its window allows; null asks for the index
 *   holder → receiver   code, bytes                in the order asked
 *
 * The receiver drives: it asks for what it lacks, checks each chunk against the index that the blob's name commits to, and writes it
 * to disk before it counts. Is not: a judge of who may have a blob; `allow` is asked before each answer.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type LengthPrefixedStream, lpStream } from '@libp2p/utils'
import { Uint8ArrayList } from 'uint8arraylist'
import type { Link, PeerName } from '../ids.ts'
import { blobAnswers, blobQuestionCodec } from '../wire/blob-index.ts'
import { isMalformed } from '../wire/codec.ts'
import { limits } from '../wire/limits.ts'
import { protocols } from '../wire/protocol-ids.ts'
import type { Host } from './host.ts'

/** A store of blobs, as the exchange needs it (node/blobs.ts). */
export interface BlobStore {
  has(link: Link): boolean
  bytes(link: Link): number
  indexBytes(link: Link): Uint8Array | null
  read(link: Link, chunk: number): Promise<Uint8Array | 'notHeld' | 'badRange'>
  begin(link: Link, indexBytes: Uint8Array): Promise<PartialBlob | null>
}
export interface PartialBlob {
  readonly missing: Set<number>
  readonly index: { length: number; chunkBytes: number }
  write(chunk: number, bytes: Uint8Array): Promise<boolean>
  finish(): Promise<void>
  leave(): Promise<void>
}

export interface BlobExchangeOptions {
  host: Host
  store: BlobStore
  /** Whether this peer may have this blob. */
  allow: (peer: PeerName, blob: Link) => boolean
  /** A holder that sent wrong bytes, or a wrong index. */
  onLiar: (peer: PeerName, blob: Link, detail: string) => void
}

/** A holder that says nothing for so long is given up, and the next one asked. */
const idleTimeoutMs = 15_000
const chunkFrameBytes = limits.blobChunkBytes + 16

export class BlobExchange {
  readonly bytes = { in: 0, out: 0 }
  readonly #options: BlobExchangeOptions
  readonly #pulling = new Map<Link, Promise<number>>()

  private constructor(options: BlobExchangeOptions) {
    this.#options = options
  }

  static async start(options: BlobExchangeOptions): Promise<BlobExchange> {
    const exchange = new BlobExchange(options)
    const streams = { maxInboundStreams: limits.streamsPerPeerMax, maxOutboundStreams: limits.streamsPerPeerMax }
    await options.host.libp2p.handle(protocols.blob, (stream, connection) => void exchange.#serve(stream, connection), streams)
    return exchange
  }

  /**
   * Brings a blob here, from the holders in their order; resumes what is already here.
   * @returns bytes that were received; 0 if it was here.
   * @throws {Error} when no holder has all that is missing.
   */
  pull(blob: Link, holders: PeerName[], signal?: AbortSignal): Promise<number> {
    if (this.#options.store.has(blob)) return Promise.resolve(0)
    const running = this.#pulling.get(blob)
    if (running !== undefined) return running
    const pulling = this.#pullFrom(blob, holders, signal).finally(() => this.#pulling.delete(blob))
    this.#pulling.set(blob, pulling)
    return pulling
  }

  async #pullFrom(blob: Link, holders: PeerName[], signal: AbortSignal | undefined): Promise<number> {
    const { host } = this.#options
    const reasons: string[] = []
    let received = 0
    for (const holder of new Set(holders)) {
      if (holder === host.peer) continue
      signal?.throwIfAborted()
      const outcome = await this.#pullOne(blob, holder, signal)
      received += outcome.received
      if (outcome.failure === null) return received
      reasons.push(`${holder}: ${outcome.failure}`)
    }
    throw new Error(`no holder of ${blob} gave it (${reasons.join('; ') || 'none known'})`)
  }

  async #pullOne(
    blob: Link,
    holder: PeerName,
    signal: AbortSignal | undefined
  ): Promise<{ received: number; failure: string | null }> {
    const { host, store, onLiar } = this.#options
    let stream: Stream | null = null
    let partial: PartialBlob | null = null
    const before = this.bytes.in
    try {
      await host.dial(holder)
      stream = await host.libp2p.dialProtocol(peerIdFromString(holder), protocols.blob, {
        signal: AbortSignal.timeout(idleTimeoutMs)
      })
      const messages = lpStream(stream, {
        maxDataLength: chunkFrameBytes,
        maxBufferSize: chunkFrameBytes * (limits.blobChunksOutstandingMax + 2)
      })
      const index = await this.#askIndex(messages, blob)
      if (typeof index === 'string') return { received: 0, failure: index }
      partial = await store.begin(blob, index)
      if (partial === null) {
        onLiar(holder, blob, 'its index does not have the blob’s name')
        return { received: 0, failure: 'wrong index' }
      }
      const failure = await this.#pullChunks(messages, blob, partial, signal)
      if (failure !== null) {
        if (failure === 'wrong bytes') onLiar(holder, blob, 'a chunk does not have its hash')
        return { received: this.bytes.in - before, failure }
      }
      await partial.finish()
      partial = null
      return { received: this.bytes.in - before, failure: null }
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'DISK_FULL') throw error
      return { received: this.bytes.in - before, failure: error instanceof Error ? error.message : String(error) }
    } finally {
      await partial?.leave()
      stream?.close().catch(() => stream?.abort(new Error('done')))
    }
  }

  async #askIndex(messages: LengthPrefixedStream, blob: Link): Promise<Uint8Array | string> {
    await messages.write(blobQuestionCodec.encode({ blob, chunk: null }), { signal: AbortSignal.timeout(idleTimeoutMs) })
    const answer = await messages.read({ signal: AbortSignal.timeout(idleTimeoutMs) })
    this.bytes.in += answer.byteLength
    const code = answer.get(0)
    return code === blobAnswers.ok ? answer.subarray(1) : refusal(code)
  }

  /** Keeps the window full; chunks are hashed and written while the next ones arrive. */
  async #pullChunks(
    messages: LengthPrefixedStream,
    blob: Link,
    partial: PartialBlob,
    signal: AbortSignal | undefined
  ): Promise<string | null> {
    const queue = [...partial.missing]
    const asked: number[] = []
    const writing: Promise<boolean>[] = []
    const ask = async () => {
      const fresh = queue.splice(0, limits.blobChunksOutstandingMax - asked.length)
      asked.push(...fresh)
      const questions = fresh.map(chunk => blobQuestionCodec.encode({ blob, chunk }))
      if (questions.length > 0) await messages.writeV(questions, { signal: AbortSignal.timeout(idleTimeoutMs) })
    }
    try {
      await ask()
      while (asked.length > 0) {
        signal?.throwIfAborted()
        const answer = await messages.read({ signal: AbortSignal.timeout(idleTimeoutMs) })
        this.bytes.in += answer.byteLength
        const chunk = asked.shift() ?? 0
        if (answer.get(0) !== blobAnswers.ok) return refusal(answer.get(0))
        writing.push(partial.write(chunk, answer.subarray(1)))
        await ask()
        if (writing.length > limits.blobChunksOutstandingMax && !(await writing.shift())) return 'wrong bytes'
      }
    } finally {
      await Promise.allSettled(writing)
    }
    return (await Promise.all(writing)).every(Boolean) ? null : 'wrong bytes'
  }

  async #serve(stream: Stream, { remotePeer }: Connection): Promise<void> {
    const messages = lpStream(stream, { maxDataLength: 256 })
    try {
      for (;;) {
        const bytes = (await messages.read({ signal: AbortSignal.timeout(idleTimeoutMs * 4) })).subarray()
        const answer = await this.#answer(remotePeer.toString(), bytes)
        this.bytes.out += answer.byteLength
        await messages.write(answer, { signal: AbortSignal.timeout(idleTimeoutMs * 4) })
      }
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error('ended'))
    }
  }

  async #answer(peer: PeerName, bytes: Uint8Array): Promise<Uint8ArrayList> {
    const question = blobQuestionCodec.decode(bytes)
    // What is no question ends the stream.
    if (isMalformed(question)) throw new Error(question.detail)
    const { store, allow } = this.#options
    if (!allow(peer, question.blob)) return new Uint8ArrayList(Uint8Array.of(blobAnswers.forbidden))
    const found =
      question.chunk === null
        ? store.has(question.blob)
          ? store.indexBytes(question.blob)
          : null
        : await store.read(question.blob, question.chunk)
    if (found === null || found === 'notHeld') return new Uint8ArrayList(Uint8Array.of(blobAnswers.notHeld))
    if (found === 'badRange') return new Uint8ArrayList(Uint8Array.of(blobAnswers.badRange))
    return new Uint8ArrayList(Uint8Array.of(blobAnswers.ok), found)
  }
}

function refusal(code: number): string {
  if (code === blobAnswers.notHeld) return 'it does not hold it'
  if (code === blobAnswers.forbidden) return 'it may not give it'
  return code === blobAnswers.badRange ? 'it has no such chunk' : `an unknown answer (${code})`
}
