/** certified.car on disk, and what `audit verify` says of it: torn tails are cut off, anything else that is changed is found and named. */
import assert from 'node:assert/strict'
import { appendFileSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as dagCbor from '@ipld/dag-cbor'
import type { WorldlmError } from '../../src/errors.ts'
import { verifyPaths } from '../../src/node/audit.ts'
import type { Entry } from '../../src/federation/entry.ts'
import { initialFederation, resumeFederation } from '../../src/federation/federation-start.ts'
import { CertifiedCar, readCertifiedCar } from '../../src/node/certified-car.ts'
import { verifyOwn } from '../../src/node/charters.ts'
import type { EntryLog } from '../../src/node/entry-log.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { isMalformed, linkOf } from '../../src/wire/codec.ts'
import type { CertifiedBytes } from '../../src/wire/messages.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { temporaryFolder } from '../temporary.ts'
import { LogBuilder } from '../wire/peers.ts'

const builder = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b').addRound('b', 'c')

/** A node's folder with the log in it. */
async function nodeFolder(log = builder, root = temporaryFolder(), name = 'node'): Promise<string> {
  const folder = join(root, name)
  mkdirSync(folder, { recursive: true })
  const { car } = await CertifiedCar.open(join(folder, 'certified.car'))
  car.addCharter(log.charterBytes)
  const updates = [...log.updates].map(([link, bytes]) => ({ link, bytes }))
  car.addUpdates(updates)
  append(car, car.newLog(), log.entries)
  car.close()
  return folder
}

function append(car: CertifiedCar, log: EntryLog, entries: CertifiedBytes[]): void {
  for (const bytes of entries) car.addEntry(log, decoded(bytes), bytes, [])
}

function decoded({ entry }: CertifiedBytes): Entry {
  const record = entryCodec.decode(entry)
  if (isMalformed(record)) throw new Error(record.detail)
  return record
}

const refusal = async (run: () => Promise<unknown>): Promise<WorldlmError> => {
  try {
    await run()
  } catch (error) {
    return error as WorldlmError
  }
  throw new Error('was not refused')
}

describe('certified.car', () => {
  it('gives back charters, entries in order, and updates', async () => {
    const folder = await nodeFolder()
    const { file, charters, logs, updates, tornBytes } = await readCertifiedCar(join(folder, 'certified.car'))
    assert.deepEqual([[...charters.keys()], tornBytes], [[builder.id], 0])
    const log = logs.get(builder.id)!
    assert.equal(log.length, builder.entries.length)
    for (const [place, { entry, certificate }] of [...log.from(0)].entries()) {
      assert.ok(Buffer.from(entry).equals(builder.entries[place]!.entry))
      assert.ok(Buffer.from(certificate).equals(builder.entries[place]!.certificate))
    }
    assert.deepEqual(log.rounds(9), builder.entries.slice(-2))
    assert.deepEqual(
      [log.rounds(1), log.rounds(9, 2), log.rounds(1, 2), log.rounds(9, 1)],
      [builder.entries.slice(-1), builder.entries.slice(-2, -1), builder.entries.slice(-2, -1), []]
    )
    const changes = builder.entries.slice(0, -2)
    assert.deepEqual([log.changes(), log.changes(2), log.changes(99)], [changes, changes.slice(1), []])
    assert.deepEqual(updates.links().sort(), [...builder.updates.keys()].sort())
    for (const [link, bytes] of builder.updates) assert.ok(Buffer.from(updates.get(link)!).equals(bytes))
    file.close()
  })

  it('passes over a certificate without its entry, one that comes a second time, and what a newer version may have written', async () => {
    const path = join(await nodeFolder(), 'certified.car')
    const { car } = await CertifiedCar.open(path)
    const foreign = new LogBuilder({ minMembers: 2, startMembers: 2 }).admit('a')
    const blocks = [foreign.entries[0]!.certificate, builder.entries[0]!.certificate, dagCbor.encode({ later: 1 })]
    car.addUpdates(blocks.map(bytes => ({ link: linkOf(bytes), bytes })))
    car.close()
    const { file, charters, logs } = await readCertifiedCar(path)
    assert.deepEqual([[...charters.keys()], [...logs.keys()]], [[builder.id], [builder.id]])
    assert.deepEqual([...logs.get(builder.id)!.from(0)], builder.entries)
    file.close()
  })

  it('grows over restarts and holds nothing twice', async () => {
    const path = join(await nodeFolder(), 'certified.car')
    const before = statSync(path).size
    const { car, archive } = await CertifiedCar.open(path)
    car.addCharter(builder.charterBytes)
    car.addUpdates([...builder.updates].map(([link, bytes]) => ({ link, bytes })))
    car.close()
    assert.deepEqual([statSync(path).size, archive.logs.get(builder.id)!.length], [before, builder.entries.length])
  })

  it('whatever the length that a dying process left it at, opens with the whole entries before, and goes on from there', async () => {
    const path = join(await nodeFolder(), 'certified.car')
    const whole = readFileSync(path)
    for (let length = 0; length < whole.length; length += 211) {
      writeFileSync(path, whole)
      truncateSync(path, length)
      const { car, archive } = await CertifiedCar.open(path)
      const log = archive.logs.get(builder.id) ?? car.newLog()
      for (const [place, { entry }] of [...log.from(0)].entries())
        assert.ok(Buffer.from(entry).equals(builder.entries[place]!.entry))
      car.addCharter(builder.charterBytes)
      append(car, log, builder.entries.slice(log.length))
      for (const [place, { entry }] of [...log.from(0)].entries())
        assert.ok(Buffer.from(entry).equals(builder.entries[place]!.entry))
      car.close()
      const again = await readCertifiedCar(path)
      again.file.close()
      assert.deepEqual([again.logs.get(builder.id)!.length, again.tornBytes], [builder.entries.length, 0], `cut at ${length}`)
    }
  })

  it('a block whose bytes are others is named with its place', async () => {
    const path = join(await nodeFolder(), 'certified.car')
    const bytes = readFileSync(path)
    const inMiddle = Math.floor(bytes.length / 2)
    bytes[inMiddle] = bytes[inMiddle]! ^ 1
    writeFileSync(path, bytes)
    const error = await refusal(() => CertifiedCar.open(path))
    assert.deepEqual([error.code, /damaged at byte \d+/.test(error.message)], ['CAR_DAMAGED', true], error.message)
  })

  it('a length that no block has is damage, and nothing is cut off for it', async () => {
    const path = join(await nodeFolder(), 'certified.car')
    const bytes = readFileSync(path)
    const [first] = builder.entries
    // Two bytes of length and 36 of link stand before a block.
    const lengthAt = bytes.indexOf(first!.entry) - 38
    bytes.set([0xff, 0xff, 0xff, 0xff, 0x7f], lengthAt)
    writeFileSync(path, bytes)
    const error = await refusal(() => CertifiedCar.open(path))
    assert.deepEqual([error.code, statSync(path).size], ['CAR_DAMAGED', bytes.length])
    assert.match(error.message, new RegExp(`damaged at byte ${lengthAt}: `))
  })

  it('knows the models and outer states of all its rounds: they leave by the federation’s rules', async () => {
    const blob = (name: string) => linkOf(new TextEncoder().encode(name))
    const one = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b')
    one.add(one.roundEntry(['a'], { model: blob('second'), outer: blob('outer') }))
    const { file, logs } = await readCertifiedCar(join(await nodeFolder(one), 'certified.car'))
    assert.deepEqual(logs.get(one.id)!.blobs, new Set(['model 1', 'second', 'outer'].map(blob)))
    file.close()
  })

  it('is never more than read or refused, whichever byte is changed', async () => {
    const path = join(await nodeFolder(), 'certified.car')
    const whole = readFileSync(path)
    for (let place = 0; place < whole.length; place += 41) {
      const bytes = Buffer.from(whole)
      bytes[place] = bytes[place]! ^ 0x10
      writeFileSync(path, bytes)
      try {
        const { file } = await readCertifiedCar(path)
        file.close()
      } catch (error) {
        assert.equal((error as WorldlmError).code, 'CAR_DAMAGED', `byte ${place}: ${error}`)
      }
    }
  })
})

describe('a log of months', () => {
  const long = new LogBuilder().admit('a', 'b', 'c')
  before(() => {
    for (let round = 0; round < 400; round++) long.addRound('a', 'b', 'c')
  })

  /** @returns its result, and how often the event loop came round meanwhile. */
  async function turnsOf<Result>(work: () => Promise<Result>): Promise<{ result: Result; turns: number }> {
    let [turns, isDone] = [0, false]
    const turn = () => {
      turns++
      if (!isDone) setImmediate(turn)
    }
    setImmediate(turn)
    try {
      return { result: await work(), turns }
    } finally {
      isDone = true
    }
  }

  it('is read and checked while the event loop goes on: a node can be stopped, and asked how it is', async () => {
    const folder = new NodeFolder(await nodeFolder(long))
    const read = await turnsOf(() => CertifiedCar.open(folder.certifiedCar))
    assert.ok(read.turns > 0, 'read')
    const { car, archive } = read.result
    const log = archive.logs.get(long.id)!
    const checked = await turnsOf(() => verifyOwn(folder, long.id, long.charterBytes, log, () => false))
    assert.ok(checked.turns > 0, 'checked')
    const entries = long.entries.map(bytes => ({ link: linkOf(bytes.entry), entry: decoded(bytes) }))
    const persisted = { term: 0, votedFor: null, accepted: null }
    const start = { id: long.id, charter: long.charter, self: 'a', persisted, rank: 0 }
    assert.deepEqual(resumeFederation(start, checked.result.folded), initialFederation({ ...start, entries }))
    let places = 0
    const stopped = verifyOwn(folder, long.id, long.charterBytes, log, () => ++places > 9)
    await assert.rejects(stopped, { code: 'STOPPED' })
    assert.equal(places, 10)
    car.close()
  })
})

describe('one’s own log', () => {
  it('is believed no more than others’: an entry that is missing, or not rightly certified, is named', async () => {
    const cut = new LogBuilder().admit('a', 'b', 'c').addRound('a')
    cut.entries.splice(1, 1)
    const forged = new LogBuilder().admit('a', 'b', 'c')
    forged.entries.push(forged.certify(forged.roundEntry(['a']), ['a']))
    for (const [one, says] of [
      [cut, /entry 2 of world\/prose: it is missing/],
      [forged, /voters signed/]
    ] as const) {
      const folder = new NodeFolder(await nodeFolder(one))
      const { car, archive } = await CertifiedCar.open(folder.certifiedCar)
      const error = await refusal(() => verifyOwn(folder, one.id, one.charterBytes, archive.logs.get(one.id)!, () => false))
      car.close()
      assert.equal(error.code, 'CAR_DAMAGED')
      assert.match(error.message, says)
    }
    const error = await refusal(() => verifyOwn(new NodeFolder('.'), 'bafyX', Uint8Array.of(0xa0), null as never, () => false))
    assert.equal(error.code, 'CHARTER_DAMAGED')
  })
})

describe('audit verify', () => {
  it('holds for a node, for a folder of nodes, and for the file itself', async () => {
    const root = temporaryFolder()
    const [one] = [await nodeFolder(builder, root, 'one'), await nodeFolder(builder, root, 'two')]
    const all = await verifyPaths([root])
    assert.deepEqual([all.ok, all.logs.map(({ node }) => node)], [true, ['one', 'two']])
    const [log] = (await verifyPaths([one])).logs
    assert.deepEqual(
      [log!.federationId, log!.entries, log!.rounds, log!.members, log!.updatesCounted, log!.updatesChecked, log!.fault],
      [builder.id, builder.entries.length, 2, 3, 4, 4, null]
    )
    assert.equal((await verifyPaths([join(one, 'certified.car')])).ok, true)
  })

  it('finds an entry that was certified by too few, although every block is whole', async () => {
    const forged = new LogBuilder().admit('a', 'b', 'c')
    forged.entries.push(forged.certify(forged.roundEntry(['a']), ['a']))
    const report = await verifyPaths([await nodeFolder(forged)])
    assert.deepEqual([report.ok, report.faults.map(({ code }) => code)], [false, ['WRONG_CERTIFICATE']])
    assert.equal(report.logs[0]!.fault, 'WRONG_CERTIFICATE')
  })

  it('finds an entry that is missing in between', async () => {
    const cut = new LogBuilder().admit('a', 'b', 'c').addRound('a')
    cut.entries.splice(1, 1)
    const report = await verifyPaths([await nodeFolder(cut)])
    assert.deepEqual([report.ok, report.faults.map(({ code }) => code)], [false, ['GAP']])
  })

  it('finds two certified entries for one index in different nodes (I1)', async () => {
    const root = temporaryFolder()
    const [one, other] = [0, 1].map(() => new LogBuilder().admit('a', 'b', 'c'))
    await nodeFolder(one!.addRound('a', 'b'), root, 'one')
    await nodeFolder(other!.addRound('b', 'c'), root, 'other')
    const report = await verifyPaths([root])
    assert.deepEqual([report.ok, report.faults.map(({ code, node }) => [code, node])], [false, [['I1', 'other']]])
  })

  it('says what is torn at the end, without calling it a fault: a killed node leaves that', async () => {
    const folder = await nodeFolder()
    appendFileSync(join(folder, 'certified.car'), Buffer.from([0x80]))
    const report = await verifyPaths([folder])
    assert.deepEqual([report.ok, report.torn], [true, [{ node: 'node', bytes: 1 }]])
  })

  it('finds a log that nothing can be checked from, as when its charter was taken out', async () => {
    const folder = join(temporaryFolder(), 'node')
    mkdirSync(folder)
    const { car } = await CertifiedCar.open(join(folder, 'certified.car'))
    append(car, car.newLog(), builder.entries)
    car.close()
    const report = await verifyPaths([folder])
    assert.deepEqual(
      [report.ok, report.faults.map(({ code, federation }) => [code, federation])],
      [false, [['CHARTER_MISSING', builder.id]]]
    )
  })

  it('does not say that an empty archive holds', async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'certified.car'), '')
    assert.equal((await refusal(() => verifyPaths([folder]))).code, 'NOTHING_TO_VERIFY')
  })

  it('names the nodes whose log is not there: emptied, away, or something else in its place', async () => {
    const root = temporaryFolder()
    await nodeFolder(builder, root, 'a-whole')
    truncateSync(join(await nodeFolder(builder, root, 'b-emptied'), 'certified.car'))
    for (const name of ['c-away', 'd-folder']) {
      mkdirSync(join(root, name))
      writeFileSync(join(root, name, 'worldlm.yaml'), '')
    }
    mkdirSync(join(root, 'd-folder', 'certified.car'))
    const { ok, logs, empty } = await verifyPaths([root])
    assert.deepEqual([ok, logs.map(({ node }) => node), empty], [true, ['a-whole'], ['b-emptied', 'c-away', 'd-folder']])
  })

  it('refuses paths without a log, by name', async () => {
    for (const path of ['/nowhere', temporaryFolder()]) {
      const error = await refusal(() => verifyPaths([path]))
      assert.deepEqual([error.code, error.message.includes(path)], ['NOTHING_TO_VERIFY', true])
    }
  })
})
