/** Peers for the tests of the blob exchange: real hosts on loopback, each with a store on disk. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Random } from '../../src/math/random.ts'
import { BlobExchange, type BlobExchangeOptions } from '../../src/net/blob-exchange.ts'
import type { BlobStore } from '../../src/net/blob-store.ts'
import type { Host } from '../../src/net/host.ts'
import { Blobs } from '../../src/node/blobs.ts'
import { loopbackHost } from '../../bench/loopback-host.ts'

export interface BlobPeer {
  name: string
  folder: string
  host: Host
  blobs: Blobs
  exchange: BlobExchange
  liars: { peer: string; detail: string }[]
  /** Peers of which it was told that bytes come from them, each time. */
  heard: string[]
}

export interface BlobPeerOptions {
  uploadBytesPerSecond?: number
  /** What the peer serves from; its own store by default. */
  serve?: (blobs: Blobs) => BlobStore
  folder?: string
  bytesMax?: number
  fruitlessMs?: number
  liarsMax?: number
  /** Default: whoever asks may have all, and shares it. */
  allow?: BlobExchangeOptions['allow']
}

export class BlobPeers {
  readonly #peers: BlobPeer[] = []

  async add({
    uploadBytesPerSecond = 0,
    serve = blobs => blobs,
    folder,
    bytesMax,
    fruitlessMs,
    liarsMax,
    allow = () => 'shared'
  }: BlobPeerOptions = {}): Promise<BlobPeer> {
    const own = folder ?? mkdtempSync(join(tmpdir(), 'worldlm-blobs-'))
    const { blobs } = await Blobs.open(join(own, 'blobs'))
    const host = await loopbackHost()
    const liars: BlobPeer['liars'] = []
    const heard: string[] = []
    const exchange = await BlobExchange.start({
      host,
      store: serve(blobs),
      allow,
      onLiar: (peer, _, detail) => void liars.push({ peer, detail }),
      onBytes: peer => heard.push(peer),
      uploadBytesPerSecond,
      ...(bytesMax !== undefined && { bytesMax: () => bytesMax }),
      ...(fruitlessMs !== undefined && { fruitlessMs }),
      ...(liarsMax !== undefined && { liarsMax })
    })
    const peer = { name: host.peer, folder: own, host, blobs, exchange, liars, heard }
    this.#peers.push(peer)
    return peer
  }

  /** `from` learns where `to` can be reached. */
  async introduce(from: BlobPeer, ...to: BlobPeer[]): Promise<void> {
    for (const { name, host } of to) await from.host.learn(name, host.addresses())
  }

  /** Ends a peer as a crash would, as far as the others can see. */
  async stop(peer: BlobPeer): Promise<void> {
    this.#peers.splice(this.#peers.indexOf(peer), 1)
    await peer.host.stop()
    await peer.blobs.close()
  }

  async stopAll(): Promise<void> {
    for (const peer of this.#peers.splice(0)) {
      await peer.host.stop()
      await peer.blobs.close()
      rmSync(peer.folder, { recursive: true, force: true })
    }
  }
}

/** Puts random bytes into a store. @returns the blob's name. */
export async function putRandom({ folder, blobs }: BlobPeer, bytes: number, seed: string): Promise<string> {
  const path = join(folder, 'made')
  writeFileSync(path, randomBytes(bytes, seed))
  return (await blobs.put(path)).link
}

export function randomBytes(bytes: number, seed: string): Buffer {
  const random = new Random(seed)
  const words = Uint32Array.from({ length: Math.ceil(bytes / 4) }, () => random.uint32())
  return Buffer.from(words.buffer).subarray(0, bytes)
}
