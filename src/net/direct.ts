/**
 * Direct messages between two peers.
 *
 *   consensus   one-way, small and quick: one long-lived stream a peer, opened when there is something to say
 *   fetch       a question and its answer, a stream each
 *
 * A message that cannot be delivered is dropped: consensus says everything again, and who asks gets an error.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type LengthPrefixedStream, lpStream } from '@libp2p/utils'
import type { PeerName } from '../ids.ts'
import { limits } from '../wire/limits.ts'
import { protocols } from '../wire/protocol-ids.ts'
import type { Host } from './host.ts'

interface Outbox {
  queue: Uint8Array[]
  running: boolean
  stream: LengthPrefixedStream | null
  /** A peer that cannot be reached is left alone until then, in milliseconds of performance.now(). */
  notBefore: number
}

/** Elections must notice a returned peer within one timeout. */
const retryMs = 500
const writeTimeoutMs = 5_000

export class Direct {
  readonly #host: Host
  readonly #outboxes = new Map<PeerName, Outbox>()
  readonly #onMessage: (from: PeerName, bytes: Uint8Array) => void
  readonly #onQuestion: (from: PeerName, bytes: Uint8Array) => Promise<Uint8Array>

  private constructor(
    host: Host,
    onMessage: (from: PeerName, bytes: Uint8Array) => void,
    onQuestion: (from: PeerName, bytes: Uint8Array) => Promise<Uint8Array>
  ) {
    this.#host = host
    this.#onMessage = onMessage
    this.#onQuestion = onQuestion
  }

  static async start(
    host: Host,
    onMessage: (from: PeerName, bytes: Uint8Array) => void,
    onQuestion: (from: PeerName, bytes: Uint8Array) => Promise<Uint8Array>
  ): Promise<Direct> {
    const direct = new Direct(host, onMessage, onQuestion)
    const options = { maxInboundStreams: limits.streamsPerPeerMax, maxOutboundStreams: limits.streamsPerPeerMax }
    await host.libp2p.handle(protocols.consensus, (stream, connection) => void direct.#listen(stream, connection), options)
    await host.libp2p.handle(protocols.fetch, (stream, connection) => void direct.#answer(stream, connection), options)
    host.onDisconnect(peer => {
      const outbox = direct.#outboxes.get(peer)
      if (outbox !== undefined) outbox.stream = null
    })
    return direct
  }

  /** Says `bytes` to `peer`, in order, if it can be reached. */
  send(peer: PeerName, bytes: Uint8Array): void {
    const outbox = this.#outboxes.get(peer) ?? { queue: [], running: false, stream: null, notBefore: 0 }
    this.#outboxes.set(peer, outbox)
    outbox.queue.push(bytes)
    if (outbox.queue.length > limits.consensusQueueMax) outbox.queue.shift()
    if (!outbox.running) void this.#drain(peer, outbox)
  }

  /** @throws when the peer cannot be reached or does not answer in time. */
  async ask(peer: PeerName, question: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const signal = AbortSignal.timeout(timeoutMs)
    await this.#host.dial(peer)
    const stream = await this.#host.libp2p.dialProtocol(peerIdFromString(peer), protocols.fetch, { signal })
    try {
      const messages = lpStream(stream, {
        maxDataLength: limits.fetchAnswerBytesMax,
        maxBufferSize: limits.fetchAnswerBytesMax * 2
      })
      await messages.write(question, { signal })
      return (await messages.read({ signal })).subarray()
    } finally {
      stream.close().catch(() => stream.abort(new Error('closed')))
    }
  }

  async #drain(peer: PeerName, outbox: Outbox): Promise<void> {
    outbox.running = true
    try {
      if (performance.now() < outbox.notBefore) {
        outbox.queue.length = 0
        return
      }
      await this.#host.dial(peer)
      while (outbox.queue.length > 0) {
        outbox.stream ??= await this.#open(peer)
        const batch = outbox.queue.splice(0)
        await outbox.stream.writeV(batch, { signal: AbortSignal.timeout(writeTimeoutMs) })
      }
    } catch {
      outbox.stream?.unwrap().abort(new Error('not delivered'))
      outbox.stream = null
      outbox.queue.length = 0
      outbox.notBefore = performance.now() + retryMs
    } finally {
      outbox.running = false
    }
  }

  async #open(peer: PeerName): Promise<LengthPrefixedStream> {
    const signal = AbortSignal.timeout(writeTimeoutMs)
    return lpStream(await this.#host.libp2p.dialProtocol(peerIdFromString(peer), protocols.consensus, { signal }))
  }

  /** A throw (oversize message, lost connection) ends the stream; its sender opens another. */
  async #listen(stream: Stream, { remotePeer }: Connection): Promise<void> {
    const from = remotePeer.toString()
    const messages = lpStream(stream, { maxDataLength: limits.consensusBytesMax })
    try {
      for (;;) this.#onMessage(from, (await messages.read()).subarray())
    } catch {
      stream.abort(new Error('ended'))
    }
  }

  async #answer(stream: Stream, { remotePeer }: Connection): Promise<void> {
    const signal = AbortSignal.timeout(writeTimeoutMs * 4)
    try {
      const messages = lpStream(stream, { maxDataLength: limits.fetchQuestionBytesMax })
      const question = (await messages.read({ signal })).subarray()
      await messages.write(await this.#onQuestion(remotePeer.toString(), question), { signal })
      await stream.close({ signal })
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error('not answered'))
    }
  }
}
