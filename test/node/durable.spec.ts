/** What outlives a power cut: bytes reach the disk before their name does, and the name before anybody goes on. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { CertifiedCar } from '../../src/node/certified-car.ts'
import { RecordLog } from '../../src/node/events.ts'
import { writeFileDurably } from '../../src/node/files.ts'
import { Blobs } from '../../src/node/blobs.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { temporaryFolder } from '../temporary.ts'
import { LogBuilder } from '../wire/peers.ts'

/** Of a path that is open; Linux alone tells. */
const pathOf = (fd: number): string => fs.readlinkSync(`/proc/self/fd/${fd}`)

/** What `run` does to the disk, in order: paths below `root`. */
async function doneBy(root: string, run: () => unknown): Promise<string[]> {
  const done: string[] = []
  const { writeSync, fsyncSync, renameSync } = fs
  const note = (what: string, ...paths: string[]) =>
    done.push([what, ...paths.map(path => path.slice(root.length + 1) || 'folder')].join(' '))
  fs.writeSync = ((fd: number, bytes: Uint8Array, offset?: number) => {
    note('write', pathOf(fd))
    return writeSync(fd, bytes, offset)
  }) as typeof writeSync
  fs.fsyncSync = fd => {
    note('sync', pathOf(fd))
    fsyncSync(fd)
  }
  fs.renameSync = (from, to) => {
    note('rename', String(from), String(to))
    renameSync(from, to)
  }
  syncBuiltinESMExports()
  try {
    await run()
  } finally {
    Object.assign(fs, { writeSync, fsyncSync, renameSync })
    syncBuiltinESMExports()
  }
  return done
}

describe('a power cut', () => {
  before(function () {
    if (process.platform !== 'linux') this.skip()
  })

  it('leaves a file as it was, or as it was to be', async () => {
    const root = temporaryFolder()
    const done = await doneBy(root, () => writeFileDurably(join(root, 'f'), 'one'))
    assert.deepEqual(done, ['write f.tmp', 'sync f.tmp', 'rename f.tmp f', 'sync folder'])
  })

  it('leaves a new node its identity, or no node', async () => {
    const root = temporaryFolder()
    const done = await doneBy(root, () => new NodeFolder(root).init(Uint8Array.of(1), 'name: a'))
    const steps = (name: string) => [`write ${name}.tmp`, `sync ${name}.tmp`, `rename ${name}.tmp ${name}`, 'sync folder']
    assert.deepEqual(done, ['identity.key', 'token', 'worldlm.yaml'].flatMap(steps))
  })

  it('takes nothing from records and the certified log that was said to be there', async () => {
    const root = temporaryFolder()
    const builder = new LogBuilder()
    const done = await doneBy(root, async () => {
      const records = new RecordLog(join(root, 'r'))
      records.append({ record: 'accept', federation: 'f', index: 1, term: 1, entry: 'e' })
      records.close()
      const { car } = await CertifiedCar.open(join(root, 'c'))
      car.addCharter(builder.charterBytes)
      car.close()
    })
    assert.deepEqual(done, ['write r', 'sync r', 'write c', 'sync c', 'write c', 'sync c'])
  })

  it('leaves a blob whole, or none: its bytes and its index are on disk before its name', async () => {
    const root = temporaryFolder()
    const { blobs } = await Blobs.open(join(root, 'blobs'))
    fs.writeFileSync(join(root, 'made'), 'made')
    const handle = await open(join(root, 'made'), 'r')
    const prototype = Object.getPrototypeOf(handle) as FileHandle
    await handle.close()
    const { sync } = prototype
    const synced: string[] = []
    prototype.sync = function (this: FileHandle) {
      const path = pathOf(this.fd)
      const [name, isNamed] = [path.slice(root.length + 1), fs.readdirSync(join(root, 'blobs')).some(one => !one.includes('.'))]
      synced.push(`${name.replace(/bafy\w+/, 'LINK')}${isNamed ? ', named' : ''}`)
      return sync.call(this)
    }
    try {
      await blobs.put(join(root, 'made'))
    } finally {
      prototype.sync = sync
    }
    assert.deepEqual(synced, ['made', 'blobs/LINK.index', 'blobs, named'])
  })
})
