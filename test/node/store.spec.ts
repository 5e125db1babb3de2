/** What a node keeps: its blobs, its folder, its records (its votes: consensus-store.spec.ts). Whole or not there; damaged: said, by name. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync
} from 'node:fs'
import { join } from 'node:path'
import type { WorldlmError } from '../../src/errors.ts'
import { Blobs } from '../../src/node/blobs.ts'
import { EventLog, eventsKeptMax, RecordLog } from '../../src/node/events.ts'
import { writeFileDurably } from '../../src/node/files.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { initNodeFolder } from '../../src/node/genesis.ts'
import { blobIndexCodec } from '../../src/wire/blob-index.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import { temporaryFolder } from '../temporary.ts'
import { LogBuilder } from '../wire/peers.ts'

const refusal = (run: () => unknown): WorldlmError => {
  try {
    run()
  } catch (error) {
    return error as WorldlmError
  }
  throw new Error('was not refused')
}

describe('blobs on disk', () => {
  const chunk = limits.blobChunkBytes
  const content = Buffer.alloc(2 * chunk + 77, 'worldlm ')
  const put = async (blobs: Blobs, folder: string, bytes: Uint8Array = content) => {
    writeFileSync(join(folder, 'made.tmp'), bytes)
    return blobs.put(join(folder, 'made.tmp'))
  }

  const readFrom = new Set<Blobs>()
  after(async () => {
    for (const blobs of readFrom) await blobs.close()
  })
  const chunkOf = async (blobs: Blobs, link: string, place: number): Promise<Uint8Array | string> => {
    readFrom.add(blobs)
    const reader = blobs.chunk(link, place)
    return typeof reader === 'string' ? reader : reader.read(0, Buffer.alloc(reader.bytes))
  }

  it('are named by their content, and read chunk by chunk', async () => {
    const folder = temporaryFolder()
    const { blobs } = await Blobs.open(folder)
    const { link, bytes } = await put(blobs, folder)
    assert.equal(bytes, content.length)
    assert.equal((await put(blobs, folder)).link, link)
    const chunks = await Promise.all([0, 1, 2].map(place => chunkOf(blobs, link, place)))
    assert.ok(Buffer.concat(chunks as Uint8Array[]).equals(content))
    assert.deepEqual([await chunkOf(blobs, link, 3), await chunkOf(blobs, 'bafyother', 0)], ['badRange', 'notHeld'])
    const digests = blobs.index(link)!.chunks
    assert.ok(
      createHash('sha256')
        .update(content.subarray(2 * chunk))
        .digest()
        .equals(digests[2]!)
    )
  })

  it('are digested while the event loop goes on: models are large, and heartbeats are due', async () => {
    const folder = temporaryFolder()
    const { blobs } = await Blobs.open(folder)
    const large = Buffer.alloc(8 * chunk + 1, 'worldlm ')
    const { link } = await put(blobs, folder, large)
    let [turns, isDone] = [0, false]
    const turn = () => {
      turns++
      if (!isDone) setImmediate(turn)
    }
    setImmediate(turn)
    const digest = await blobs.digest(link)
    isDone = true
    assert.equal(digest, createHash('sha256').update(large).digest('hex'))
    assert.ok(turns >= 8, `${turns} turns`)
  })

  it('that are damaged are found when the store is opened, told, and gone', async () => {
    const folder = temporaryFolder()
    const { blobs } = await Blobs.open(folder)
    const good = await put(blobs, folder)
    const flipped = await put(blobs, folder, Buffer.from('flipped'))
    const longer = await put(blobs, folder, Buffer.from('longer'))
    const nameless = await put(blobs, folder, Buffer.from('nameless'))
    const misnamed = await put(blobs, folder, Buffer.from('misnamed'))
    writeFileSync(join(folder, flipped.link), 'flopped')
    appendFileSync(join(folder, longer.link), '!')
    rmSync(join(folder, `${nameless.link}.index`))
    writeFileSync(join(folder, `${misnamed.link}.index`), readFileSync(join(folder, `${good.link}.index`)))
    const again = await Blobs.open(folder)
    assert.deepEqual(again.damaged.sort(), [flipped, longer, nameless, misnamed].map(({ link }) => link).sort())
    assert.deepEqual([again.blobs.has(good.link), again.blobs.has(flipped.link)], [true, false])
    assert.deepEqual(readdirSync(folder).sort(), [good.link, `${good.link}.index`].sort())
  })

  it('that are partial are resumed: chunks that are whole are not asked for again, others are', async () => {
    const folder = temporaryFolder()
    const { blobs: source } = await Blobs.open(temporaryFolder())
    const { link } = await put(source, folder)
    const { blobs } = await Blobs.open(folder)
    const first = await blobs.begin(link, source.indexBytes(link)!)
    await first!.write(1, (await chunkOf(source, link, 1)) as Uint8Array)
    await first!.write(2, Buffer.alloc(77))
    await first!.leave()
    assert.equal(blobs.has(link), false)
    const { blobs: later } = await Blobs.open(folder)
    const second = await later.begin(link, source.indexBytes(link)!)
    assert.deepEqual([...second!.missing].sort(), [0, 2])
    for (const place of second!.missing) await second!.write(place, (await chunkOf(source, link, place)) as Uint8Array)
    await second!.finish()
    assert.ok(readFileSync(later.path(link)).equals(content))
  })

  it('are not swept away while they are begun, nor while they are made', async () => {
    const folder = temporaryFolder()
    const { blobs: source } = await Blobs.open(temporaryFolder())
    const { blobs } = await Blobs.open(folder)
    const { link } = await put(source, folder)
    let isDone = false
    const sweep = () => {
      blobs.keep(new Set())
      if (!isDone) setImmediate(sweep)
    }
    sweep()
    try {
      const partial = await blobs.begin(link, source.indexBytes(link)!)
      for (const place of partial!.missing) await partial!.write(place, (await chunkOf(source, link, place)) as Uint8Array)
      await partial!.finish()
      const made = await put(blobs, temporaryFolder(), Buffer.from('made here'))
      assert.deepEqual([blobs.has(link), blobs.has(made.link)], [true, true])
    } finally {
      isDone = true
    }
  })

  it('are not swept away while they arrive, however long a chunk takes; what is left unfinished is, after a while', async () => {
    const folder = temporaryFolder()
    const { blobs: source } = await Blobs.open(temporaryFolder())
    const { blobs } = await Blobs.open(folder)
    const { link } = await put(source, folder)
    const age = () => {
      for (const name of readdirSync(folder)) utimesSync(join(folder, name), 0, 0)
    }
    const first = await blobs.begin(link, source.indexBytes(link)!)
    age()
    assert.equal(blobs.keep(new Set()), 0)
    await first!.leave()
    assert.equal(blobs.keep(new Set([link])), 0)
    const second = await blobs.begin(link, source.indexBytes(link)!)
    for (const place of second!.missing) {
      age()
      assert.equal(blobs.keep(new Set()), 0)
      await second!.write(place, (await chunkOf(source, link, place)) as Uint8Array)
    }
    await second!.finish()
    assert.ok(readFileSync(blobs.path(link)).equals(content))
    const other = await put(source, folder, Buffer.from('other'))
    const third = await blobs.begin(other.link, source.indexBytes(other.link)!)
    await third!.leave()
    age()
    assert.equal(blobs.keep(new Set()), 2)
    assert.deepEqual(readdirSync(folder), [])
  })

  it('are as long as they say: what a dying process left behind is not part of them, and one that is cut off is not given', async () => {
    const folder = temporaryFolder()
    const { blobs: source } = await Blobs.open(temporaryFolder())
    const { link } = await put(source, folder)
    writeFileSync(join(folder, `${link}.part`), Buffer.alloc(content.length + 99, 'worldlm '))
    writeFileSync(join(folder, 'unfinished.tmp'), '')
    const { blobs } = await Blobs.open(folder)
    const partial = await blobs.begin(link, source.indexBytes(link)!)
    assert.equal(partial!.missing.size, 0)
    await partial!.finish()
    assert.ok(readFileSync(blobs.path(link)).equals(content))
    assert.deepEqual(readdirSync(folder).sort(), [link, `${link}.index`])
    truncateSync(blobs.path(link), content.length - 1)
    await assert.rejects(chunkOf(blobs, link, 2), /ends before byte/)
  })

  it('are begun with no index that is not theirs', async () => {
    const folder = temporaryFolder()
    const { blobs: source } = await Blobs.open(temporaryFolder())
    const { link } = await put(source, folder)
    const other = await put(source, folder, Buffer.from('other'))
    const { blobs } = await Blobs.open(folder)
    assert.equal(await blobs.begin(link, source.indexBytes(other.link)!), null)
    assert.equal(await blobs.begin(link, Uint8Array.of(1)), null)
    const index = source.index(link)!
    const shorter = blobIndexCodec.encode({ ...index, chunks: index.chunks.slice(1) })
    assert.equal(await blobs.begin(linkOf(shorter), shorter), null)
  })
})

describe('a node’s folder', () => {
  it('keeps its secrets for its owner, and an identity for good', async () => {
    const folder = new NodeFolder(join(temporaryFolder(), 'node'))
    const peer = await initNodeFolder(folder, { name: 'Klinik' })
    assert.match(peer, /^12D3KooW/)
    for (const name of ['identity.key', 'token']) assert.equal(statSync(join(folder.root, name)).mode & 0o777, 0o600, name)
    assert.ok(folder.token().length >= 32)
    for (const lost of [null, 'worldlm.yaml', 'token']) {
      if (lost !== null) rmSync(join(folder.root, lost))
      await assert.rejects(initNodeFolder(folder, { name: 'Klinik' }), { code: 'FOLDER_EXISTS' })
    }
    assert.equal(refusal(() => new NodeFolder(temporaryFolder()).prepare()).code, 'FOLDER_MISSING')
    assert.equal(refusal(() => new NodeFolder(temporaryFolder()).identity()).code, 'FOLDER_MISSING')
  })

  it('belongs to one process at a time; what a dead one left over is not believed', async () => {
    const folder = new NodeFolder(join(temporaryFolder(), 'node'))
    await initNodeFolder(folder, { name: 'n' })
    const other = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)'])
    try {
      folder.writeRun({ pid: other.pid!, api: 'http://127.0.0.1:1', addresses: [], peer: '' })
      assert.equal(folder.running()?.pid, other.pid)
      const error = refusal(() => folder.lock())
      assert.deepEqual([error.code, error.message.includes(String(other.pid))], ['FOLDER_IN_USE', true])
    } finally {
      const ended = new Promise(resolve => other.once('exit', resolve))
      other.kill('SIGKILL')
      await ended
    }
    assert.equal(folder.running(), null)
    folder.lock()
    folder.lock()
    assert.equal(folder.running()?.pid, process.pid)
    folder.unlock()
    assert.equal(existsSync(join(folder.root, 'run.json')), false)
  })

  it('says which charter is not what its name says', async () => {
    const folder = new NodeFolder(join(temporaryFolder(), 'node'))
    await initNodeFolder(folder, { name: 'n' })
    const builder = new LogBuilder()
    const id = folder.addCharter(builder.charterBytes)
    // A process died while it wrote another.
    writeFileSync(join(folder.root, 'charters', `${id}.cbor.tmp`), 'torn')
    assert.deepEqual([id, [...folder.charters().keys()]], [builder.id, [builder.id]])
    appendFileSync(join(folder.root, 'charters', `${id}.cbor`), 'x')
    const error = refusal(() => folder.charters())
    assert.deepEqual([error.code, error.message.includes(id)], ['CHARTER_DAMAGED', true])
  })

  it('has files that are whole or not there', () => {
    const folder = temporaryFolder()
    const path = join(folder, 'f')
    writeFileDurably(path, 'one')
    writeFileDurably(path, 'two')
    assert.deepEqual([readFileSync(path, 'utf8'), readdirSync(folder)], ['two', ['f']])
  })
})

describe('events and records', () => {
  it('are numbered without gaps; the newest are kept, and who comes late gets what it missed', () => {
    const events = new EventLog()
    const heard: number[] = []
    events.emit({ type: 'finished', round: 0 })
    const end = events.subscribe(({ seq }) => void heard.push(seq))
    for (let round = 1; round <= eventsKeptMax + 5; round++) events.emit({ type: 'finished', round })
    end()
    events.emit({ type: 'finished', round: -1 })
    assert.deepEqual([heard.length, heard[0], heard.at(-1)], [eventsKeptMax + 5, 2, eventsKeptMax + 6])
    const kept = events.since(0)
    assert.deepEqual([kept.length, kept.at(-1)!.seq], [eventsKeptMax, eventsKeptMax + 7])
    assert.deepEqual(
      events.since(eventsKeptMax + 5).map(({ seq }) => seq),
      [eventsKeptMax + 6, eventsKeptMax + 7]
    )
    assert.deepEqual(events.since(1e9), [])
  })

  it('are on disk, a line each, when they are said', () => {
    const path = join(temporaryFolder(), 'records.jsonl')
    for (const index of [1, 2]) {
      const records = new RecordLog(path)
      records.append({ record: 'accept', federation: 'f', index, term: 1, entry: 'e' })
      records.close()
    }
    const indices = () =>
      readFileSync(path, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map(line => JSON.parse(line).index)
    assert.deepEqual(indices(), [1, 2])
    // A process died while it wrote a line: the next one begins a line of its own.
    appendFileSync(path, '{"record":"acc')
    const records = new RecordLog(path)
    records.append({ record: 'accept', federation: 'f', index: 3, term: 1, entry: 'e' })
    records.close()
    assert.deepEqual(indices(), [1, 2, 3])
  })

  it('go on in a file of years, which is longer than can be read at once, and after a torn line of any length', () => {
    const path = join(temporaryFolder(), 'records.jsonl')
    for (const { years, torn } of [
      { years: 3 * 2 ** 30, torn: 9 },
      { years: 0, torn: 200_000 },
      { years: 65_535, torn: 65_536 },
      { years: 65_536, torn: 0 }
    ]) {
      writeFileSync(path, '')
      // A hole, which takes no room.
      truncateSync(path, years)
      appendFileSync(path, `\n${'x'.repeat(torn)}`)
      new RecordLog(path).close()
      assert.equal(statSync(path).size, years + 1, `${years} bytes and a torn line of ${torn}`)
    }
  })
})
