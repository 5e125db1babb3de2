/**
 * One stream to a holder: questions out, answers back in the order asked.
 *
 * A chunk is hashed and laid into its buffer piece by piece as it arrives, so that a megabyte is touched once and nothing but the
 * buffer grows. Is not: a judge of what comes; who asked compares the hash.
 */
import { createHash, type Hash } from 'node:crypto'
import type { Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import type { Uint8ArrayList } from 'uint8arraylist'
import type { PeerName } from '../ids.ts'
import { answerHeadBytes, type BlobQuestion, decodeAnswerHead, frameQuestion } from '../wire/blob-messages.ts'
import { limits } from '../wire/limits.ts'
import { protocols } from '../wire/protocol-ids.ts'
import type { Host } from './host.ts'
import { isNear, widenWindow } from './stream-window.ts'

export interface BlobAnswer {
  code: number
  bytes: Uint8Array
  /** sha256 of `bytes`, of a chunk. */
  digest: Uint8Array
  /** Gives the buffer back: `bytes` must not be touched afterwards. */
  release(): void
}

interface Waiting {
  isChunk: boolean
  resolve: (answer: BlobAnswer) => void
  reject: (error: Error) => void
}

/** An answer whose head is here. */
interface Arriving {
  code: number
  whole: Uint8Array
  length: number
  got: number
  hash: Hash | null
}

/** Buffers of one chunk each, used again: a new megabyte for each would keep the garbage collector busier than the network. */
export class ChunkBuffers {
  readonly #free: Uint8Array[] = []

  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(limits.blobChunkBytes)
  }

  give(buffer: Uint8Array): void {
    if (this.#free.length < limits.blobChunksPerHolderMax) this.#free.push(buffer)
  }
}

/** The longest TLS record (RFC 8446 §5.1). */
const recordBytesMax = 16 * 1024

/**
 * Frees a piece that has been hashed and copied, at once. Node puts each TLS record into a buffer of its own; 60,000 of them a gigabyte, left
 * to the garbage collector, cost a receiver a quarter of its time. A buffer that holds something else beside the piece stays.
 */
function freeRecord({ buffer, byteLength }: Uint8Array): void {
  if (byteLength === buffer.byteLength && byteLength <= recordBytesMax && buffer instanceof ArrayBuffer) buffer.transfer(0)
}

export class BlobLine {
  readonly #stream: Stream
  readonly #buffers: ChunkBuffers
  readonly #onBytes: (bytes: number) => void
  readonly #waiting: Waiting[] = []
  readonly #head = new Uint8Array(answerHeadBytes)
  #headBytes = 0
  /** The answer that is arriving; null between two. */
  #arriving: Arriving | null = null
  #ended: Error | null = null

  private constructor(stream: Stream, buffers: ChunkBuffers, onBytes: (bytes: number) => void) {
    this.#stream = stream
    this.#buffers = buffers
    this.#onBytes = onBytes
    stream.addEventListener('message', ({ data }) => this.#onData(data))
    stream.addEventListener('remoteCloseWrite', () => this.#end(new Error('it ended the stream')))
    stream.addEventListener('close', ({ error }) => this.#end(error ?? new Error('the stream was closed')))
  }

  /** @throws when `holder` cannot be reached, or takes no more streams. */
  static async open(
    host: Host,
    holder: PeerName,
    buffers: ChunkBuffers,
    onBytes: (bytes: number) => void,
    signal: AbortSignal
  ): Promise<BlobLine> {
    const stream = await host.libp2p.dialProtocol(peerIdFromString(holder), protocols.blob, {
      signal,
      maxOutboundStreams: limits.blobStreamsPerPeerMax
    })
    widenWindow(stream)
    return new BlobLine(stream, buffers, onBytes)
  }

  /** Whether a question and its answer take no time to speak of. */
  get isNear(): boolean {
    return isNear(this.#stream)
  }

  /** Questions without an answer yet. */
  get outstanding(): number {
    return this.#waiting.length
  }

  /** @throws when the stream ends first. */
  ask(question: BlobQuestion): Promise<BlobAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) {
        reject(this.#ended)
        return
      }
      this.#waiting.push({ isChunk: question.ask === 'chunk', resolve, reject })
      try {
        // A few hundred bytes: whether there is room in the stream's window is no matter.
        this.#stream.send(frameQuestion(question))
      } catch (error) {
        this.#end(error as Error)
      }
    })
  }

  /** What is outstanding comes no more. */
  close(): void {
    const idle = this.#waiting.length === 0
    this.#end(new Error('closed'))
    if (idle) this.#stream.close().catch(() => this.#stream.abort(new Error('closed')))
    else this.#stream.abort(new Error('closed'))
  }

  #onData(data: Uint8Array | Uint8ArrayList): void {
    this.#onBytes(data.byteLength)
    if (data instanceof Uint8Array) this.#onPiece(data)
    else for (const piece of data) this.#onPiece(piece)
    for (const piece of data instanceof Uint8Array ? [data] : data) freeRecord(piece)
  }

  #onPiece(piece: Uint8Array): void {
    let rest = piece
    while (rest.length > 0 && this.#ended === null) {
      if (this.#arriving === null) rest = this.#takeHead(rest)
      else rest = this.#takeBody(rest, this.#arriving)
      if (this.#arriving !== null && this.#arriving.got === this.#arriving.length) this.#settle(this.#arriving)
    }
  }

  #takeHead(piece: Uint8Array): Uint8Array {
    const taken = piece.subarray(0, answerHeadBytes - this.#headBytes)
    this.#head.set(taken, this.#headBytes)
    this.#headBytes += taken.length
    if (this.#headBytes === answerHeadBytes) this.#begin()
    return piece.subarray(taken.length)
  }

  #begin(): void {
    this.#headBytes = 0
    const head = decodeAnswerHead(this.#head)
    const waiting = this.#waiting[0]
    if (head === null || waiting === undefined) {
      this.#abort(head === null ? 'it claims too long an answer' : 'it answers what was not asked')
      return
    }
    const { code, length } = head
    const isChunk = waiting.isChunk && length > 0
    const whole = isChunk ? this.#buffers.take() : new Uint8Array(length)
    this.#arriving = { code, whole, length, got: 0, hash: isChunk ? createHash('sha256') : null }
  }

  #takeBody(piece: Uint8Array, arriving: Arriving): Uint8Array {
    const taken = piece.subarray(0, arriving.length - arriving.got)
    arriving.hash?.update(taken)
    arriving.whole.set(taken, arriving.got)
    arriving.got += taken.length
    return piece.subarray(taken.length)
  }

  #settle({ code, whole, length, hash }: Arriving): void {
    this.#arriving = null
    const release = () => {
      if (hash !== null) this.#buffers.give(whole)
    }
    const digest = hash === null ? new Uint8Array() : hash.digest()
    this.#waiting.shift()?.resolve({ code, bytes: whole.subarray(0, length), digest, release })
  }

  #abort(reason: string): void {
    const error = new Error(reason)
    this.#end(error)
    this.#stream.abort(error)
  }

  #end(error: Error): void {
    if (this.#ended !== null) return
    this.#ended = error
    const arriving = this.#arriving
    this.#arriving = null
    if (arriving?.hash) this.#buffers.give(arriving.whole)
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }
}
