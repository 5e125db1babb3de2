/** A disk that is full for a moment: what failed is not built upon while the node closes, and what is appended to stays readable. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { WorldlmError } from '../../src/errors.ts'
import type { Entry } from '../../src/federation/entry.ts'
import { emptyLog } from '../../src/federation/federation-start.ts'
import { type ConsensusMessage, firstMemory } from '../../src/federation/consensus-state.ts'
import { Blobs } from '../../src/node/blobs.ts'
import { CertifiedCar, readCertifiedCar } from '../../src/node/certified-car.ts'
import { RecordLog } from '../../src/node/events.ts'
import type { EffectToPerform, FederationNodeOptions } from '../../src/node/federation-core.ts'
import { FederationNode } from '../../src/node/federation-node.ts'
import type { NodeRecord } from '../../src/node/status.ts'
import { writeConsensus } from '../../src/node/store.ts'
import { isMalformed } from '../../src/wire/codec.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { temporaryFolder } from '../temporary.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

/** The next write gets half of its bytes onto the disk; the ones after it find room again. */
function fullForAMoment(run: () => void): void {
  const { writeSync } = fs
  fs.writeSync = ((fd: number, bytes: Uint8Array) => {
    fs.writeSync = ((): never => {
      fs.writeSync = writeSync
      syncBuiltinESMExports()
      throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
    }) as typeof writeSync
    syncBuiltinESMExports()
    return writeSync(fd, bytes, 0, Math.ceil(bytes.length / 2))
  }) as typeof writeSync
  syncBuiltinESMExports()
  try {
    assert.throws(run, { code: 'DISK_FULL' })
  } finally {
    fs.writeSync = writeSync
    syncBuiltinESMExports()
  }
}

describe('a disk that is full for a moment', () => {
  it('leaves a certified.car whose torn end is cut off, whatever else was to be written meanwhile', async () => {
    const path = join(temporaryFolder(), 'certified.car')
    const builder = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b')
    const { car } = await CertifiedCar.open(path)
    car.addCharter(builder.charterBytes)
    const log = car.newLog()
    const add = (place: number) => {
      const bytes = builder.entries[place]!
      const entry = entryCodec.decode(bytes.entry)
      assert.ok(!isMalformed(entry))
      car.addEntry(log, entry, bytes, [])
    }
    add(0)
    fullForAMoment(() => add(1))
    assert.throws(() => car.addCharter(new LogBuilder({ path: 'other' }).charterBytes), { code: 'DISK_FULL' })
    car.close()
    const { file, logs, charters } = await readCertifiedCar(path)
    assert.deepEqual([[...charters.keys()], logs.get(builder.id)?.length], [[builder.id], 1])
    file.close()
  })

  it('leaves a records.jsonl of whole lines', () => {
    const path = join(temporaryFolder(), 'records.jsonl')
    const record: NodeRecord = { record: 'accept', federation: 'f', index: 1, term: 1, entry: 'e' }
    const records = new RecordLog(path)
    records.append(record)
    fullForAMoment(() => records.append({ ...record, index: 2 }))
    assert.throws(() => records.append({ ...record, index: 3 }), { code: 'DISK_FULL' })
    records.close()
    new RecordLog(path).close()
    assert.deepEqual(
      fs
        .readFileSync(path, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map(line => JSON.parse(line)),
      [record]
    )
  })

  it('ends what a federation does with the effect that failed: nothing is said or stored on top of it', async () => {
    const [memory, builder] = [
      join(temporaryFolder(), 'consensus.cbor'),
      new LogBuilder({ founders: [peerOf('a').peer, peerOf('b').peer] })
    ]
    writeConsensus(memory, { ...firstMemory, nonce: null })
    const done: EffectToPerform['do'][] = []
    const failures: unknown[] = []
    const options = {
      services: {
        host: { peer: peerOf('a').peer },
        folder: { consensus: () => memory },
        events: { emit: () => undefined },
        fail: (error: unknown) => void failures.push(error)
      },
      charter: builder.charter,
      id: builder.id,
      folded: emptyLog(builder.id, builder.charter),
      perform: async (_node: unknown, effect: EffectToPerform) => {
        done.push(effect.do)
        if (effect.do === 'persist') throw new WorldlmError('DISK_FULL', 'the disk is full', 'Free some space.')
      }
    }
    const node = new FederationNode(options as unknown as FederationNodeOptions)
    const hear = async (message: ConsensusMessage<Entry>) => {
      node.dispatch({ type: 'consensus', event: { type: 'message', from: peerOf('b').peer, message } })
      await node.settled()
    }
    const nothing = { term: 0, commitIndex: 0, acceptedTerm: 0, accepted: null, voters: builder.charter.founders }
    const vote = { type: 'vote', term: 1, commitIndex: 0, acceptedTerm: 0 } as const
    node.dispatch({ type: 'consensus', event: { type: 'start' } })
    await hear({ type: 'recalled', ...nothing })
    await hear(vote)
    assert.deepEqual([done.at(-1), failures.length], ['persist', 1])
    const before = [...done]
    // Asked again, it would give the vote that it has not written down.
    await hear(vote)
    node.timers.stopAll()
    assert.deepEqual(done, before)
  })

  it('leaves no descriptor of a blob that found no room open, however often it is begun', async () => {
    const root = temporaryFolder()
    const [{ blobs: source }, { blobs }] = [await Blobs.open(join(root, 'source')), await Blobs.open(join(root, 'blobs'))]
    fs.writeFileSync(join(root, 'made'), 'made')
    const { link } = await source.put(join(root, 'made'))
    const handle = await open(join(root, 'source'), 'r')
    const prototype = Object.getPrototypeOf(handle) as FileHandle
    await handle.close()
    const { truncate } = prototype
    prototype.truncate = () => Promise.reject(Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }))
    try {
      for (let time = 0; time < 3; time++)
        await assert.rejects(blobs.begin(link, source.indexBytes(link)!), { code: 'DISK_FULL' })
    } finally {
      prototype.truncate = truncate
    }
    const stillOpen = fs.readdirSync('/proc/self/fd').filter(fd => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith(root)
      } catch {
        return false // the descriptor of the listing itself
      }
    })
    assert.deepEqual(stillOpen, [])
  })
})
