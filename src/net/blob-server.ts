/**
 * The holder's side of the blob exchange: answers each stream's questions in turn, from blobs that are whole here and from those that
 * are still arriving.
 *
 * Memory: 1 MiB a stream that sends a chunk, however slow the asker.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { lpStream } from '@libp2p/utils'
import { Uint8ArrayList } from 'uint8arraylist'
import type { Link, PeerName } from '../ids.ts'
import { countBits, fullBitmap } from '../wire/bitmap.ts'
import { blobAnswers, type BlobQuestion, blobQuestionCodec, encodeAnswerHead, holdingCodec } from '../wire/blob-messages.ts'
import { isMalformed } from '../wire/codec.ts'
import { limits } from '../wire/limits.ts'
import { protocols } from '../wire/protocol-ids.ts'
import type { Bandwidth } from './bandwidth.ts'
import type { BlobStore, ChunkReader } from './blob-store.ts'
import { BlobOffers } from './blob-offers.ts'
import type { Host } from './host.ts'
import { sendBufferBytes, takeSendBuffer } from './send-buffers.ts'

/**
 * `alone`: it may have the blob, and passes nothing of it on, nor has anything of it from others who have it from here; `shared`: whoever may have
 * it from here in this way may have it from whomever else may.
 */
export type Permission = 'forbidden' | 'alone' | 'shared'

export interface BlobServerOptions {
  host: Host
  store: BlobStore
  bandwidth: Bandwidth
  /** Asked before each answer about a blob that is here. */
  allow: (peer: PeerName, blob: Link) => Permission
  /** `peer` pulls this blob too, and may hold some of it soon. */
  onAsker: (peer: PeerName, blob: Link) => void
  onSent: (peer: PeerName, bytes: number) => void
}

/** Who pulls a blob from here. */
interface Asked {
  offers: BlobOffers
  /** When each that shares it last asked for anything of it. */
  askers: Map<PeerName, number>
}

/** Sent at once: small enough for turns between many askers, large enough for a gigabit. */
const sliceBytes = 256 * 1024
/** A stream that takes nothing for so long is ended. */
const stuckMs = 60_000
/** Whoever asked so recently still pulls. */
const askerMs = 5_000
/** How often a question that waits looks again. */
const lookAgainMs = 50
const blobsRememberedMax = 256

export class BlobServer {
  readonly #options: BlobServerOptions
  readonly #asked = new Map<Link, Asked>()

  private constructor(options: BlobServerOptions) {
    this.#options = options
  }

  static async start(options: BlobServerOptions): Promise<BlobServer> {
    const server = new BlobServer(options)
    const streams = { maxInboundStreams: limits.blobStreamsPerPeerMax, maxOutboundStreams: limits.blobStreamsPerPeerMax }
    options.host.onDisconnect(peer => server.#forget(peer))
    await options.host.libp2p.handle(protocols.blob, (stream, connection) => void server.#serve(stream, connection), streams)
    return server
  }

  async #serve(stream: Stream, { remotePeer }: Connection): Promise<void> {
    const peer = remotePeer.toString()
    const questions = lpStream(stream, { maxDataLength: limits.blobQuestionBytesMax })
    try {
      for (;;) {
        const question = blobQuestionCodec.decode((await questions.read()).subarray())
        // What is no question ends the stream.
        if (isMalformed(question)) throw new Error(question.detail)
        await this.#answer(stream, peer, question)
      }
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error('ended'))
    }
  }

  #answer(stream: Stream, peer: PeerName, question: BlobQuestion): Promise<void> {
    const { allow, store, onAsker } = this.#options
    const { blob } = question
    const chunkCount = store.chunkCount(blob)
    const permission = chunkCount === null ? 'shared' : allow(peer, blob)
    if (permission === 'forbidden') return this.#refuse(stream, blobAnswers.forbidden)
    const isShared = permission === 'shared'
    if (isShared) onAsker(peer, blob)
    if (chunkCount === null) return this.#refuse(stream, blobAnswers.notHeld)
    const asked = this.#note(peer, blob, chunkCount, isShared)
    switch (question.ask) {
      case 'index':
        return this.#sendIndex(stream, peer, blob)
      case 'have':
        return this.#sendHolding(stream, peer, question, asked)
      case 'chunk':
        return this.#sendChunk(stream, peer, question, asked)
    }
  }

  #sendIndex(stream: Stream, peer: PeerName, blob: Link): Promise<void> {
    const { store } = this.#options
    const index = store.indexBytes(blob)
    if (index === null) return this.#refuse(stream, blobAnswers.notHeld)
    return this.#sendSmall(stream, peer, store.has(blob) ? blobAnswers.ok : blobAnswers.partly, index)
  }

  async #sendHolding(
    stream: Stream,
    peer: PeerName,
    { blob, known, lacks, offers: most }: Extract<BlobQuestion, { ask: 'have' }>,
    { offers, askers }: Asked
  ): Promise<void> {
    const { store, host } = this.#options
    const until = performance.now() + limits.blobHaveWaitMs
    const before = this.#others(askers, peer).length
    for (;;) {
      const count = store.chunkCount(blob)
      if (count === null) return this.#refuse(stream, blobAnswers.notHeld)
      const partial = store.held(blob)
      const offered = partial === null ? offers.offer(peer, null, lacks, most, performance.now()) : []
      const others = this.#others(askers, peer)
      const heldCount = partial === null ? count : countBits(partial, count)
      if (heldCount > known || offered.length > 0 || others.length > before || performance.now() >= until) {
        const named = await Promise.all(
          others.slice(0, limits.blobOthersMax).map(async other => ({ peer: other, addresses: await host.addressesOf(other) }))
        )
        const holding = { held: partial ?? fullBitmap(count), others: named, offers: offered }
        return this.#sendSmall(stream, peer, blobAnswers.ok, holdingCodec.encode(holding))
      }
      await new Promise(resolve => setTimeout(resolve, lookAgainMs).unref())
      if (stream.status !== 'open') throw new Error('it hung up')
    }
  }

  async #sendChunk(
    stream: Stream,
    peer: PeerName,
    { blob, chunk }: Extract<BlobQuestion, { ask: 'chunk' }>,
    { offers }: Asked
  ): Promise<void> {
    const found = this.#options.store.chunk(blob, chunk)
    if (typeof found === 'string') return this.#refuse(stream, blobAnswers[found])
    offers.gave(peer, chunk, performance.now())
    let head: Uint8Array | null = encodeAnswerHead(blobAnswers.ok, found.bytes)
    for await (const bytes of readAhead(found))
      for (let offset = 0; offset < bytes.length; offset += sliceBytes) {
        const slice = bytes.subarray(offset, offset + sliceBytes)
        await this.#options.bandwidth.take(peer, slice.length)
        await this.#send(stream, head === null ? slice : new Uint8ArrayList(head, slice))
        head = null
        this.#options.onSent(peer, slice.length)
      }
  }

  async #sendSmall(stream: Stream, peer: PeerName, code: number, bytes: Uint8Array): Promise<void> {
    await this.#send(stream, new Uint8ArrayList(encodeAnswerHead(code, bytes.length), bytes))
    this.#options.onSent(peer, bytes.length)
  }

  #refuse(stream: Stream, code: number): Promise<void> {
    return this.#send(stream, encodeAnswerHead(code, 0))
  }

  async #send(stream: Stream, bytes: Uint8Array | Uint8ArrayList): Promise<void> {
    stream.send(bytes)
    while (stream.writeBufferLength > 0) await drained(stream)
  }

  #note(peer: PeerName, blob: Link, chunkCount: number, isShared: boolean): Asked {
    let asked = this.#asked.get(blob)
    if (asked === undefined) {
      asked = { offers: new BlobOffers(chunkCount), askers: new Map() }
      this.#asked.set(blob, asked)
      const oldest = this.#asked.keys().next()
      if (this.#asked.size > blobsRememberedMax && oldest.done !== true) this.#asked.delete(oldest.value)
    }
    asked.askers.delete(peer)
    if (isShared) asked.askers.set(peer, performance.now())
    const first = asked.askers.keys().next()
    if (asked.askers.size > limits.membersMax && first.done !== true) asked.askers.delete(first.value)
    return asked
  }

  #forget(peer: PeerName): void {
    for (const { offers, askers } of this.#asked.values()) {
      askers.delete(peer)
      offers.forget(peer)
    }
  }

  /** Who else has asked a moment ago, the latest first; none for who has it for itself. */
  #others(askers: Map<PeerName, number>, peer: PeerName): PeerName[] {
    if (!askers.has(peer)) return []
    const oldest = performance.now() - askerMs
    return [...askers]
      .filter(([other, ms]) => other !== peer && ms >= oldest)
      .map(([other]) => other)
      .reverse()
  }
}

/**
 * A chunk in parts, the next of which is being read while one is sent. Large ones: each read wakes a thread, which costs as much as encrypting
 * half of it.
 */
async function* readAhead({ bytes, read }: ChunkReader): AsyncGenerator<Uint8Array> {
  const begin = (offset: number): Promise<Uint8Array> => {
    const reading = read(offset, takeSendBuffer(Math.min(sendBufferBytes, bytes - offset)))
    // Whoever waits for it is told; if nobody does any more, the stream has ended.
    reading.catch(() => undefined)
    return reading
  }
  let next = begin(0)
  for (let offset = sendBufferBytes; offset < bytes; offset += sendBufferBytes) {
    const part = await next
    next = begin(offset)
    yield part
  }
  yield await next
}

/** Resolves when the stream takes more. Its own `onDrain` waits only the first time. */
function drained(stream: Stream): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error: Error | null) => {
      clearTimeout(timer)
      stream.removeEventListener('drain', onDrain)
      stream.removeEventListener('close', onClose)
      if (error === null) resolve()
      else reject(error)
    }
    const onDrain = () => settle(null)
    const onClose = () => settle(new Error('the stream was closed'))
    const timer = setTimeout(() => settle(new Error('it takes nothing more')), stuckMs)
    stream.addEventListener('drain', onDrain)
    stream.addEventListener('close', onClose)
  })
}
