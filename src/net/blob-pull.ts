/**
 * One blob on its way here: a session with each holder, and one scheduler over all of them.
 *
 *   session   index (until someone gave it) → have … have …      what the holder has, again and again
 *                                           → chunk, chunk, …    as the scheduler says, over several streams
 *
 * A holder that fails, refuses or lies ends its own session only. The pull ends when all chunks are on disk; when nobody is left who
 * could give more; or when nothing has come for `stalledMs`.
 */
import { BlobAway } from '../errors.ts'
import type { Link, PeerName } from '../ids.ts'
import { fullBitmap, bitmapOf } from '../wire/bitmap.ts'
import { blobAnswers, holdingCodec } from '../wire/blob-messages.ts'
import { blobIndexCodec, chunkBytesOf } from '../wire/blob-index.ts'
import { isMalformed } from '../wire/codec.ts'
import { limits } from '../wire/limits.ts'
import type { BlobStore, PartialBlob } from './blob-store.ts'
import { type BlobAnswer, BlobLine, type ChunkBuffers } from './blob-line.ts'
import { type Ask, BlobScheduler } from './blob-scheduler.ts'
import type { Host } from './host.ts'

export interface BlobPullOptions {
  host: Host
  store: BlobStore
  blob: Link
  buffers: ChunkBuffers
  /** Of a blob that is taken. */
  bytesMax: number
  /** Without a whole chunk; see `fruitlessMs`. */
  fruitlessMs?: number
  isLiar: (peer: PeerName) => boolean
  onLiar: (peer: PeerName, detail: string) => void
  onReceived: (peer: PeerName, bytes: number) => void
}

/** A holder that owes an answer and sends nothing for so long is given up. */
const silentMs = 15_000
/** Nothing from anybody: whoever asked for the blob is told. */
const stalledMs = 30_000
/** No whole chunk from anybody, whatever else they say: a mebibyte takes less on any line that can carry models. */
const fruitlessMsMost = 600_000
/** Peers that holders may name in one pull: whoever makes them up fills no memory. */
const namedMax = limits.membersMax
/** Overdue chunks and silent holders are looked for this often. */
const tickMs = 100
/** Between two questions to one holder what it has. */
const haveEveryMs = 50
/** A stream carries one window a round trip: one more for each of these milliseconds. On a short path, more of them only cost. */
const streamEveryMs = 5
/** Chunks on their way to disk before more are asked for. */
const writingMax = 16
/** A blob of few chunks needs no more; the next holder is asked when one of them fails. */
const holdersOfFewMax = 2

interface Session {
  peer: PeerName
  /** For index and chunks. */
  lines: BlobLine[]
  /** Streams that a path of this round trip needs. */
  linesMost: number
  /** For `have`, whose answer may wait. */
  talk: BlobLine | null
  /** Streams that are on their way. */
  opening: number
  heardMs: number
  ended: boolean
}

export class BlobPull {
  readonly #options: BlobPullOptions
  readonly #sessions = new Map<PeerName, Session>()
  /** Holders that were named and not asked yet, in order. */
  readonly #candidates = new Set<PeerName>()
  readonly #reasons: string[] = []
  #isForbidden = false
  readonly #end = Promise.withResolvers<void>()
  #partial: PartialBlob | null = null
  #beginning: Promise<boolean> | null = null
  #scheduler: BlobScheduler | null = null
  #writing = 0
  #received = 0
  #heardMs = performance.now()
  #chunkMs = performance.now()
  #named = 0
  #over = false

  constructor(options: BlobPullOptions) {
    this.#options = options
  }

  /** @returns bytes received. @throws as BlobExchange.pull does. */
  async run(holders: PeerName[]): Promise<number> {
    const ticks = setInterval(() => this.#tick(), tickMs)
    for (const holder of holders) this.consider(holder)
    this.#openMore()
    try {
      await this.#end.promise
      await this.#partial?.finish()
      this.#partial = null
      return this.#received
    } finally {
      this.#over = true
      clearInterval(ticks)
      for (const session of this.#sessions.values()) this.#close(session)
      await this.#partial?.leave()
    }
  }

  /** Nobody waits for it any more. */
  giveUp(): void {
    if (!this.#over) this.#fail(new BlobAway(`${this.#options.blob} was given up`))
  }

  /** A peer that may hold the blob, or some of it. */
  consider(peer: PeerName): void {
    if (this.#over || peer === this.#options.host.peer || this.#sessions.has(peer) || this.#options.isLiar(peer)) return
    this.#candidates.add(peer)
    if (this.#scheduler !== null) this.#openMore()
  }

  // ── sessions ──

  get #isShared(): boolean {
    return (this.#partial?.index.chunks.length ?? 0) >= limits.blobSharedChunksMin
  }

  #openMore(): void {
    const most = this.#isShared ? limits.blobHoldersMax : holdersOfFewMax
    for (const peer of this.#candidates) {
      if (this.#sessions.size >= most || this.#over) break
      this.#candidates.delete(peer)
      const session = { peer, lines: [], linesMost: 1, talk: null, opening: 0, heardMs: performance.now(), ended: false }
      this.#sessions.set(peer, session)
      if (this.#isShared) this.#scheduler?.expect(peer, performance.now())
      void this.#converse(session).catch((error: Error) => this.#drop(session, error.message))
    }
    if (this.#sessions.size === 0 && !this.#over) {
      const why = this.#reasons.slice(0, 8).join('; ') || 'none known'
      const message = `no holder of ${this.#options.blob} gave it (${why})`
      this.#fail(new BlobAway(message, this.#isForbidden ? 'BLOB_FORBIDDEN' : 'BLOB_AWAY'))
    }
  }

  #refused(code: number): Error {
    this.#isForbidden ||= code === blobAnswers.forbidden
    return new Error(refusal(code))
  }

  async #converse(session: Session): Promise<void> {
    const { host, blob } = this.#options
    await host.dial(session.peer)
    const first = await this.#openLine(session)
    session.lines.push(first)
    // Each of these costs a far peer a round trip, and most blobs are worth both.
    const talking = first.isNear ? null : this.#openTalk(session)
    talking?.catch(() => undefined)
    const askedMs = performance.now()
    const index = await first.ask({ ask: 'index', blob })
    session.linesMost = Math.min(limits.blobStreamsPerPullMax, Math.ceil((performance.now() - askedMs) / streamEveryMs))
    if (this.#over || session.ended) return
    if (index.code !== blobAnswers.ok && index.code !== blobAnswers.partly) throw this.#refused(index.code)
    this.#refuseLarge(index.bytes)
    if (!(await this.#begin(index.bytes))) {
      this.#options.onLiar(session.peer, 'its index does not have the blob’s name')
      throw new Error('wrong index')
    }
    const scheduler = this.#scheduler
    if (scheduler === null || this.#over || session.ended) return
    const chunkCount = this.#partial!.index.chunks.length
    if (index.code === blobAnswers.ok && !this.#isShared) {
      scheduler.learn(session.peer, fullBitmap(chunkCount), [], performance.now())
      this.#schedule()
      return
    }
    while (session.lines.length + session.opening < session.linesMost) this.#openAnother(session)
    await (talking ?? this.#openTalk(session))
    while (!this.#over && !session.ended) await this.#askHaving(session, scheduler, chunkCount)
  }

  /** A blob costs its maker nothing to name, and one chunk to hold, however long it says that it is. */
  #refuseLarge(indexBytes: Uint8Array): void {
    const { bytesMax } = this.#options
    const index = blobIndexCodec.decode(indexBytes)
    if (!isMalformed(index) && index.length > bytesMax)
      throw new Error(`it is of ${index.length} bytes, at most ${bytesMax} are taken here`)
  }

  /** The first index begins the blob; the others are compared by the name they give it. */
  async #begin(indexBytes: Uint8Array): Promise<boolean> {
    const { store, blob, host } = this.#options
    while (this.#beginning !== null) await this.#beginning
    if (this.#partial !== null || this.#over) return true
    this.#beginning = (async () => {
      try {
        const partial = await store.begin(blob, indexBytes)
        if (partial === null) return false
        if (this.#over) {
          await partial.leave()
          return true
        }
        this.#partial = partial
        const chunkCount = partial.index.chunks.length
        this.#scheduler = new BlobScheduler(chunkCount, partial.missing, `${host.peer}/${blob}`, performance.now())
        if (this.#scheduler.done) this.#succeed()
        else if (this.#isShared) this.#openMore()
        return true
      } catch (error) {
        this.#fail(error as Error)
        return true
      } finally {
        this.#beginning = null
      }
    })()
    return this.#beginning
  }

  async #askHaving(session: Session, scheduler: BlobScheduler, chunkCount: number): Promise<void> {
    const answer = await session.talk!.ask({
      ask: 'have',
      blob: this.#options.blob,
      known: scheduler.heldCount(session.peer),
      lacks: bitmapOf(scheduler.unasked, chunkCount),
      offers: Math.min(limits.blobChunksPerHolderMax * 2, scheduler.wanted(session.peer))
    })
    if (this.#over || session.ended) return
    if (answer.code !== blobAnswers.ok) throw this.#refused(answer.code)
    const holding = holdingCodec.decode(answer.bytes)
    if (isMalformed(holding)) throw new Error(`what it holds is not said rightly: ${holding.detail}`)
    for (const { peer, addresses } of holding.others) {
      if (this.#named++ >= namedMax) break
      await this.#options.host.learn(peer, addresses)
      this.consider(peer)
    }
    scheduler.learn(session.peer, holding.held, holding.offers, performance.now())
    this.#schedule()
    await new Promise(resolve => setTimeout(resolve, haveEveryMs))
  }

  async #openTalk(session: Session): Promise<void> {
    session.talk = await this.#openLine(session)
  }

  #openAnother(session: Session): void {
    session.opening++
    void this.#openLine(session)
      .then(line => void session.lines.push(line))
      // The holder takes no more streams: those that are open do.
      .catch(() => undefined)
      .finally(() => {
        session.opening--
      })
  }

  async #openLine(session: Session): Promise<BlobLine> {
    const { host, buffers, onReceived } = this.#options
    const onBytes = (bytes: number) => {
      this.#received += bytes
      this.#heardMs = session.heardMs = performance.now()
      onReceived(session.peer, bytes)
    }
    const line = await BlobLine.open(host, session.peer, buffers, onBytes, AbortSignal.timeout(silentMs))
    if (session.ended || this.#over) line.close()
    return line
  }

  #drop(session: Session, reason: string): void {
    if (session.ended || this.#over) return
    this.#close(session)
    this.#sessions.delete(session.peer)
    this.#scheduler?.drop(session.peer)
    this.#reasons.push(`${session.peer}: ${reason}`)
    this.#openMore()
    this.#schedule()
  }

  #close(session: Session): void {
    session.ended = true
    for (const line of session.lines) line.close()
    session.talk?.close()
  }

  // ── chunks ──

  #schedule(): void {
    if (this.#over || this.#scheduler === null || this.#writing > writingMax) return
    for (const ask of this.#scheduler.next(performance.now())) {
      const session = this.#sessions.get(ask.peer)
      if (session === undefined) continue
      // A holder that was not owed anything has not been silent.
      if (session.lines.every(({ outstanding }) => outstanding === 0)) session.heardMs = performance.now()
      void this.#bring(session, ask).catch((error: Error) => this.#drop(session, error.message))
    }
  }

  async #bring(session: Session, { peer, chunk }: Ask): Promise<void> {
    const answer = await this.#lineFor(session).ask({ ask: 'chunk', blob: this.#options.blob, chunk })
    const [partial, scheduler] = [this.#partial, this.#scheduler]
    if (this.#over || session.ended || partial === null || scheduler === null) {
      answer.release()
      return
    }
    if (answer.code !== blobAnswers.ok) {
      answer.release()
      scheduler.refused(peer, chunk)
      this.#schedule()
      return
    }
    const want = partial.index.chunks[chunk]
    if (want === undefined || Buffer.compare(answer.digest, want) !== 0) {
      answer.release()
      this.#options.onLiar(peer, `chunk ${chunk} does not have its hash`)
      throw new Error('wrong bytes')
    }
    // A blob's maker may have hashed more, or less, than there is room for: whoever took it would have a blob that nobody can pass on.
    if (answer.bytes.length !== chunkBytesOf(partial.index, chunk)) {
      answer.release()
      this.#options.onLiar(peer, `chunk ${chunk} does not have its length`)
      throw new Error('wrong length')
    }
    this.#chunkMs = performance.now()
    if (!scheduler.arrived(peer, chunk, performance.now())) answer.release()
    else await this.#write(partial, chunk, answer)
    if (scheduler.done && this.#writing === 0) this.#succeed()
    else this.#schedule()
  }

  async #write(partial: PartialBlob, chunk: number, { bytes, release }: BlobAnswer): Promise<void> {
    this.#writing++
    this.#schedule()
    try {
      await partial.write(chunk, bytes)
    } catch (error) {
      this.#fail(error as Error)
    } finally {
      this.#writing--
      release()
    }
  }

  /** The stream with the fewest questions; others are opened while all are busy, several at once: each takes a round trip or two. */
  #lineFor(session: Session): BlobLine {
    const least = session.lines.reduce((best, line) => (line.outstanding < best.outstanding ? line : best))
    if (least.outstanding > 0 && session.lines.length + session.opening < session.linesMost) this.#openAnother(session)
    return least
  }

  #tick(): void {
    const now = performance.now()
    for (const session of [...this.#sessions.values()]) {
      const owes = session.lines.some(({ outstanding }) => outstanding > 0) || session.lines.length === 0
      if (owes && now - session.heardMs > silentMs) this.#drop(session, 'it sent nothing for a while')
    }
    if (now - this.#heardMs > stalledMs) this.#fail(new BlobAway(`nothing more came of ${this.#options.blob}`))
    if (now - this.#chunkMs > (this.#options.fruitlessMs ?? fruitlessMsMost))
      this.#fail(new BlobAway(`no whole chunk of ${this.#options.blob} came for too long`))
    this.#schedule()
  }

  #succeed(): void {
    this.#over = true
    this.#end.resolve()
  }

  #fail(error: Error): void {
    this.#over = true
    this.#end.reject(error)
  }
}

function refusal(code: number): string {
  if (code === blobAnswers.notHeld) return 'it does not hold it'
  if (code === blobAnswers.forbidden) return 'it may not give it'
  return code === blobAnswers.badRange ? 'it has no such chunk' : `an unknown answer (${code})`
}
