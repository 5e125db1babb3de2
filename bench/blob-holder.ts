/**
 * A process of the blob benchmark: one or more peers, each with a host and a store of its own. It does what the benchmark's process asks,
 * one question at a time.
 *
 *   { ask: 'make' }    writes the blob into the first peer's store, and serves as many bytes over a raw socket
 *   { ask: 'learn' }   where a peer can be reached
 *   { ask: 'pull' }    all peers pull at once; answers with seconds until the last is done
 *   { ask: 'forget' }  removes the blob
 *   { ask: 'sent' }    bytes that the peers have sent since the start
 */
import { writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { Random } from '../src/math/random.ts'
import { BlobExchange } from '../src/net/blob-exchange.ts'
import { Blobs } from '../src/node/blobs.ts'
import { loopbackHost } from './loopback-host.ts'

export interface PeersStarted {
  peers: { peer: string; addresses: string[] }[]
}
export type BlobQuestion =
  | { ask: 'make'; bytes: number }
  | { ask: 'learn'; peer: string; addresses: string[] }
  | { ask: 'pull'; blob: string; holders: string[] }
  | { ask: 'forget'; blob: string }
  | { ask: 'sent' }
export interface BlobAnswers {
  make: { blob: string; rawPort: number }
  learn: null
  pull: { seconds: number; bytes: number }
  forget: null
  sent: number
}

const [folder = '', count = '1', uploadBytesPerSecond = '0'] = process.argv.slice(2)

async function startPeer(place: number) {
  const { blobs } = await Blobs.open(join(folder, `peer-${process.pid}-${place}`))
  const host = await loopbackHost()
  const options = { host, store: blobs, allow: () => 'shared' as const, onLiar: () => undefined }
  const exchange = await BlobExchange.start({ ...options, uploadBytesPerSecond: Number(uploadBytesPerSecond) })
  return { host, blobs, exchange }
}

const peers = await Promise.all(Array.from({ length: Number(count) }, (_, place) => startPeer(place)))

function randomBytes(bytes: number): Buffer {
  const random = new Random('blob')
  const block = new Uint32Array(250_000)
  for (let place = 0; place < block.length; place++) block[place] = random.uint32()
  const whole = Buffer.alloc(bytes)
  // Each copy begins with its place, so that no two chunks are alike.
  for (let offset = 0; offset < bytes; offset += block.byteLength) {
    block[0] = offset
    Buffer.from(block.buffer).copy(whole, offset)
  }
  return whole
}

async function make(bytes: number): Promise<BlobAnswers['make']> {
  const content = randomBytes(bytes)
  const path = join(folder, `made-${process.pid}`)
  writeFileSync(path, content)
  const { link: blob } = await peers[0]!.blobs.put(path)
  const server = createServer(socket => {
    socket.on('error', () => undefined)
    socket.end(content)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { blob, rawPort: (server.address() as AddressInfo).port }
}

async function answer(question: BlobQuestion): Promise<BlobAnswers[BlobQuestion['ask']]> {
  switch (question.ask) {
    case 'make':
      return make(question.bytes)
    case 'learn':
      for (const { host } of peers) {
        await host.learn(question.peer, question.addresses)
        // Meeting is not what is measured: a member has been connected for long when a model comes.
        if (host.peer !== question.peer) await host.dial(question.peer)
      }
      return null
    case 'pull': {
      const began = performance.now()
      const received = await Promise.all(peers.map(({ exchange }) => exchange.pull(question.blob, question.holders)))
      return { seconds: (performance.now() - began) / 1000, bytes: received.reduce((sum, bytes) => sum + bytes, 0) }
    }
    case 'forget':
      for (const { blobs } of peers) blobs.remove(question.blob)
      return null
    case 'sent':
      return peers.reduce((sum, { exchange }) => sum + exchange.bytes.out, 0)
  }
}

process.on('message', async (question: BlobQuestion) => {
  try {
    process.send?.({ answer: await answer(question) })
  } catch (error) {
    process.send?.({ failed: error instanceof Error ? error.message : String(error) })
  }
})
process.on('disconnect', () => process.exit())
const started: PeersStarted = { peers: peers.map(({ host }) => ({ peer: host.peer, addresses: host.addresses() })) }
process.send?.({ answer: started })
