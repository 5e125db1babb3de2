import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BlobStore } from '../../src/net/blob-store.ts'
import type { Blobs } from '../../src/node/blobs.ts'
import { countBits } from '../../src/wire/bitmap.ts'
import { blobIndexCodec } from '../../src/wire/blob-index.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import { type BlobPeer, BlobPeers, putRandom, randomBytes } from './blob-peers.ts'

const chunkBytes = limits.blobChunkBytes

/** The store of a peer, with another way of reading chunks. */
function readingBy(
  blobs: Blobs,
  read: (chunk: number, into: Uint8Array, whole: () => Promise<Uint8Array>) => Promise<Uint8Array>
): BlobStore {
  return {
    has: link => blobs.has(link),
    indexBytes: link => blobs.indexBytes(link),
    chunkCount: link => blobs.chunkCount(link),
    held: link => blobs.held(link),
    begin: (link, index) => blobs.begin(link, index),
    chunk: (link, chunk) => {
      const found = blobs.chunk(link, chunk)
      if (typeof found === 'string') return found
      return { bytes: found.bytes, read: (offset, into) => read(chunk, into, () => found.read(offset, into)) }
    }
  }
}

const contentOf = ({ blobs }: BlobPeer, blob: string): Buffer => readFileSync(blobs.path(blob))

describe('blob exchange', () => {
  let peers: BlobPeers
  beforeEach(() => {
    peers = new BlobPeers()
  })
  afterEach(() => peers.stopAll())

  for (const bytes of [1, chunkBytes, 2.5 * chunkBytes, 11 * chunkBytes + 7]) {
    it(`brings ${bytes} bytes from one holder, and nothing the second time`, async () => {
      const [holder, receiver] = [await peers.add(), await peers.add()]
      const blob = await putRandom(holder, bytes, 'one')
      await peers.introduce(receiver, holder)
      const received = await receiver.exchange.pull(blob, [holder.name])
      assert.ok(received >= bytes && received < bytes + 4096 + bytes / 100, `${received} bytes came`)
      assert.ok(contentOf(receiver, blob).equals(randomBytes(bytes, 'one')))
      assert.equal(await receiver.exchange.pull(blob, [holder.name]), 0)
      assert.equal(receiver.exchange.traffic.get(holder.name)?.in, received)
    })
  }

  it('tells from whom bytes come while they do, not of each of them', async () => {
    const [slow, receiver] = [await peers.add({ uploadBytesPerSecond: 1.5 * chunkBytes }), await peers.add()]
    const blob = await putRandom(slow, 3 * chunkBytes, 'slow')
    await peers.introduce(receiver, slow)
    await receiver.exchange.pull(blob, [slow.name])
    assert.deepEqual([...new Set(receiver.heard)], [slow.name])
    assert.ok(receiver.heard.length >= 3 && receiver.heard.length <= 30, `${receiver.heard.length} times`)
  })

  it('is ended by who gives up waiting for itself alone, and for all when nobody waits any more', async () => {
    const [slow, receiver] = [await peers.add({ uploadBytesPerSecond: 1.5 * chunkBytes }), await peers.add()]
    const [one, other] = [await putRandom(slow, 3 * chunkBytes, 'one'), await putRandom(slow, 3 * chunkBytes, 'other')]
    await peers.introduce(receiver, slow)
    const pull = (blob: string, ms?: number) =>
      receiver.exchange.pull(blob, [slow.name], ...(ms === undefined ? [] : [AbortSignal.timeout(ms)]))
    const awayOf = (pulled: Promise<number>) => assert.rejects(pulled, { code: 'BLOB_AWAY', message: /did not come in time/ })
    await Promise.all([awayOf(pull(one, 300)), awayOf(pull(one, 600)), pull(one)])
    assert.ok(receiver.blobs.has(one))
    await Promise.all([awayOf(pull(other, 300)), awayOf(pull(other, 600))])
    await assert.rejects(receiver.exchange.pull(other, [], AbortSignal.abort()))
    const { in: before } = receiver.exchange.bytes
    await new Promise(resolve => setTimeout(resolve, 1_000))
    assert.equal(receiver.exchange.bytes.in, before, 'nothing more comes')
    await pull(other)
    assert.ok(contentOf(receiver, other).equals(randomBytes(3 * chunkBytes, 'other')))
  })

  it('takes chunks from several holders, each a part', async () => {
    const holders = [await peers.add({ uploadBytesPerSecond: 2e7 }), await peers.add({ uploadBytesPerSecond: 2e7 })]
    const receiver = await peers.add()
    const blobs = await Promise.all(holders.map(holder => putRandom(holder, 16 * chunkBytes, 'several')))
    await peers.introduce(receiver, ...holders)
    await receiver.exchange.pull(
      blobs[0]!,
      holders.map(({ name }) => name)
    )
    assert.ok(contentOf(receiver, blobs[0]!).equals(randomBytes(16 * chunkBytes, 'several')))
    for (const { name } of holders) {
      const chunks = receiver.exchange.traffic.get(name)!.in / chunkBytes
      assert.ok(chunks > 3 && chunks < 13, `${chunks} chunks from ${name}`)
    }
  })

  it('uploads about one copy to five receivers that know only the holder: they pass on what they have', async () => {
    const holder = await peers.add({ uploadBytesPerSecond: 2e7 })
    const blob = await putRandom(holder, 16 * chunkBytes, 'shared')
    const receivers: BlobPeer[] = []
    for (let place = 0; place < 5; place++) {
      const receiver = await peers.add({ uploadBytesPerSecond: 2e7 })
      await peers.introduce(receiver, holder)
      receivers.push(receiver)
    }
    await Promise.all(receivers.map(({ exchange }) => exchange.pull(blob, [holder.name])))
    for (const receiver of receivers) assert.ok(contentOf(receiver, blob).equals(randomBytes(16 * chunkBytes, 'shared')))
    const copies = holder.exchange.bytes.out / (16 * chunkBytes)
    assert.ok(copies < 2, `the holder uploaded ${copies} copies`)
  }).timeout(180_000)

  it('names those that may have it for themselves alone to nobody, and nobody to them: each would be refused by the other', async () => {
    const alone = new Set<string>()
    const holder = await peers.add({
      uploadBytesPerSecond: 2e7,
      allow: peer => (alone.has(peer) ? 'alone' : 'shared')
    })
    const blob = await putRandom(holder, 16 * chunkBytes, 'alone')
    const asked: string[] = []
    const add = async () => {
      const receiver = await peers.add({
        allow: peer => {
          asked.push(`${receiver.name} by ${peer}`)
          return 'shared'
        }
      })
      await peers.introduce(receiver, holder)
      return receiver
    }
    const receivers = [await add(), await add(), await add()]
    for (const { name } of receivers.slice(0, 2)) alone.add(name)
    await Promise.all(receivers.map(({ exchange }) => exchange.pull(blob, [holder.name])))
    assert.deepEqual(asked, [])
  })

  it('drops and reports a holder that sends wrong bytes, and takes the chunk from another', async () => {
    const liar = await peers.add({
      serve: blobs =>
        readingBy(blobs, async (chunk, _, whole) => {
          const bytes = await whole()
          if (chunk === 5) bytes[17]! ^= 1
          return bytes
        })
    })
    const honest = await peers.add({ uploadBytesPerSecond: 3e7 })
    const receiver = await peers.add()
    const blob = await putRandom(liar, 12 * chunkBytes, 'lie')
    await putRandom(honest, 12 * chunkBytes, 'lie')
    await peers.introduce(receiver, liar, honest)
    // Alone first: what the liar gave rightly is kept, and the wrong chunk is not.
    await assert.rejects(receiver.exchange.pull(blob, [liar.name]), /wrong bytes/)
    assert.deepEqual(receiver.liars, [{ peer: liar.name, detail: 'chunk 5 does not have its hash' }])
    assert.ok(!receiver.blobs.has(blob))
    await receiver.exchange.pull(blob, [liar.name, honest.name])
    assert.ok(contentOf(receiver, blob).equals(randomBytes(12 * chunkBytes, 'lie')))
    assert.equal(receiver.liars.length, 1, 'a liar is not asked again for that blob')
  })

  it('does not ask the newest liars again, however many there were before', async () => {
    const liar = await peers.add({
      serve: blobs =>
        readingBy(blobs, async (_, __, whole) => {
          const bytes = await whole()
          bytes[17]! ^= 1
          return bytes
        })
    })
    const receiver = await peers.add({ liarsMax: 2 })
    await peers.introduce(receiver, liar)
    for (const name of ['one', 'two', 'three', 'three']) {
      const blob = await putRandom(liar, 1000, name)
      await assert.rejects(receiver.exchange.pull(blob, [liar.name]), name)
    }
    assert.equal(receiver.liars.length, 3)
  })

  it('gives to others as before when one asks whose address is longer than an answer may tell', async () => {
    const [holder, odd, receiver] = [await peers.add({ uploadBytesPerSecond: 2e7 }), await peers.add(), await peers.add()]
    const blob = await putRandom(holder, 12 * chunkBytes, 'odd')
    await peers.introduce(odd, holder)
    await peers.introduce(receiver, holder)
    await odd.host.dial(holder.name)
    // What it says as they connect comes in the place of what was known.
    while ((await holder.host.addressesOf(odd.name)).length === 0) await sleep(20)
    await holder.host.learn(odd.name, [`/dns4/${'a'.repeat(400)}/tcp/1`])
    await Promise.all([odd, receiver].map(({ exchange }) => exchange.pull(blob, [holder.name])))
  })

  it('goes on with the others when a holder stops sending in the middle of a chunk', async () => {
    let asked = 0
    const stuck = await peers.add({
      serve: blobs => readingBy(blobs, (_, __, whole) => (asked++ < 6 ? whole() : new Promise(() => undefined)))
    })
    const holder = await peers.add()
    const receiver = await peers.add()
    const blob = await putRandom(stuck, 12 * chunkBytes, 'stuck')
    await putRandom(holder, 12 * chunkBytes, 'stuck')
    await peers.introduce(receiver, stuck, holder)
    await receiver.exchange.pull(blob, [stuck.name, holder.name])
    assert.ok(contentOf(receiver, blob).equals(randomBytes(12 * chunkBytes, 'stuck')))
  })

  it('goes on with the others when a holder dies', async () => {
    let dying: Promise<void> | null = null
    const dies = await peers.add({
      serve: blobs =>
        readingBy(blobs, (chunk, _, whole) => {
          if (chunk > 3) dying ??= peers.stop(dies)
          return whole()
        })
    })
    const holder = await peers.add({ uploadBytesPerSecond: 1e7 })
    const receiver = await peers.add()
    const blob = await putRandom(dies, 12 * chunkBytes, 'dies')
    await putRandom(holder, 12 * chunkBytes, 'dies')
    await peers.introduce(receiver, dies, holder)
    await receiver.exchange.pull(blob, [dies.name, holder.name])
    assert.notEqual(dying, null)
    await dying
    assert.ok(contentOf(receiver, blob).equals(randomBytes(12 * chunkBytes, 'dies')))
  })

  it('resumes after a break with what it has, in a new process’s store too', async () => {
    const holder = await peers.add({ uploadBytesPerSecond: 2e7 })
    const receiver = await peers.add()
    const blob = await putRandom(holder, 12 * chunkBytes, 'resume')
    await peers.introduce(receiver, holder)
    const stop = new AbortController()
    const pulling = receiver.exchange.pull(blob, [holder.name], stop.signal)
    const here = () => {
      const held = receiver.blobs.held(blob)
      return held === null ? 0 : countBits(held, 12)
    }
    while (here() < 5) await new Promise(resolve => setTimeout(resolve, 5))
    stop.abort(new Error('that is enough'))
    await assert.rejects(pulling, /did not come in time/)
    assert.ok(existsSync(`${receiver.blobs.path(blob)}.part`))
    await peers.stop(receiver)
    const again = await peers.add({ folder: receiver.folder })
    await peers.introduce(again, holder)
    const received = await again.exchange.pull(blob, [holder.name])
    assert.ok(received < 7.5 * chunkBytes, `${received} bytes came again`)
    assert.ok(contentOf(again, blob).equals(randomBytes(12 * chunkBytes, 'resume')))
  })

  for (const { why, hashed, claimed } of [
    { why: 'less than there is room for', hashed: chunkBytes / 2, claimed: chunkBytes },
    { why: 'more than there is room for', hashed: chunkBytes, claimed: chunkBytes / 2 }
  ]) {
    it(`takes no chunk of a blob whose maker hashed ${why}: nobody could have it from here`, async () => {
      const bytes = randomBytes(hashed, 'short')
      const index = { length: claimed, chunkBytes, chunks: [new Uint8Array(createHash('sha256').update(bytes).digest())] }
      const encoded = blobIndexCodec.encode(index)
      const blob = linkOf(encoded)
      const maker = await peers.add({
        serve: blobs => ({
          has: link => link === blob,
          indexBytes: () => encoded,
          chunkCount: () => 1,
          held: () => null,
          begin: (link, given) => blobs.begin(link, given),
          chunk: () => ({ bytes: hashed, read: async (offset, into) => bytes.subarray(offset, offset + into.length) })
        })
      })
      const receiver = await peers.add()
      await peers.introduce(receiver, maker)
      await assert.rejects(receiver.exchange.pull(blob, [maker.name]), /wrong length/)
      assert.deepEqual(receiver.liars, [{ peer: maker.name, detail: 'chunk 0 does not have its length' }])
      assert.ok(!receiver.blobs.has(blob))
    })
  }

  it('takes no blob that is larger than any that it has a use for, and none of its bytes', async () => {
    const [holder, receiver] = [await peers.add(), await peers.add({ bytesMax: 3 * chunkBytes })]
    const [large, fits] = [await putRandom(holder, 3 * chunkBytes + 1, 'l'), await putRandom(holder, 3 * chunkBytes, 'f')]
    await peers.introduce(receiver, holder)
    await assert.rejects(receiver.exchange.pull(large, [holder.name]), /it is of 3145729 bytes, at most 3145728 are taken here/)
    assert.ok(receiver.exchange.bytes.in < 1000, `${receiver.exchange.bytes.in} bytes came`)
    assert.deepEqual([receiver.liars, existsSync(`${receiver.blobs.path(large)}.part`)], [[], false])
    await receiver.exchange.pull(fits, [holder.name])
  })

  it('gives up a holder that says again and again that it has nothing yet', async () => {
    const empty = await peers.add({
      serve: blobs => ({
        has: () => false,
        indexBytes: link => blobs.indexBytes(link),
        chunkCount: link => blobs.chunkCount(link),
        held: () => new Uint8Array(2),
        begin: (link, index) => blobs.begin(link, index),
        chunk: () => 'notHeld'
      })
    })
    const receiver = await peers.add({ fruitlessMs: 1_500 })
    const blob = await putRandom(empty, 12 * chunkBytes, 'nothing')
    await peers.introduce(receiver, empty)
    await assert.rejects(receiver.exchange.pull(blob, [empty.name]), /no whole chunk of .* came for too long/)
  })

  it('says who was asked and why nobody gave it', async () => {
    const [holder, receiver] = [await peers.add(), await peers.add()]
    const blob = await putRandom(holder, 10, 'here')
    const other = await peers.add()
    await peers.introduce(receiver, other)
    await assert.rejects(
      receiver.exchange.pull(blob, [other.name]),
      new RegExp(`no holder of ${blob}.*${other.name}: it does not hold it`)
    )
    await assert.rejects(receiver.exchange.pull(blob, []), /none known/)
  })
})
