/** What the invariants are checked on: the certified logs and the records of every node of a testnet, as they lie on disk. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Certificate, Entry, Update } from '../../src/federation/entry.ts'
import type { FederationId, Link, PeerName } from '../../src/ids.ts'
import { readCertifiedCar } from '../../src/node/certified-car.ts'
import type { NodeRecord } from '../../src/node/status.ts'
import { readUpdate } from '../../src/wire/certified-log.ts'
import { isMalformed, linkOf } from '../../src/wire/codec.ts'
import { certificateCodec, entryCodec } from '../../src/wire/records.ts'

export interface CertifiedEntry {
  node: string
  link: Link
  entry: Entry
  certificate: Certificate
}

/** Where a node's log and records lie. `voter` and `lost`: as in `TestnetRecords`. */
interface NodeRecords {
  name: string
  voter?: PeerName
  root: string
  lost?: boolean
}

export interface TestnetRecords {
  /** By federation, in order of node and index. */
  entries: Map<FederationId, CertifiedEntry[]>
  /** Signed updates by link, checked. */
  updates: Map<Link, Update>
  /** `voter`: the peer whose signatures they tell of; left out, they are held to no certificate. `lost`: of a disk that the node has no more. */
  records: { node: string; voter?: PeerName; record: NodeRecord; lost?: boolean }[]
}

export interface Violation {
  invariant: string
  detail: string
}

/** @param folders - of the nodes. What a killed node did not finish writing is left out, as it would at its restart. */
export async function loadRecords(folders: NodeRecords[]): Promise<TestnetRecords> {
  const loaded: TestnetRecords = { entries: new Map(), updates: new Map(), records: [] }
  for (const { name, voter, root, lost = false } of folders) {
    const car = join(root, 'certified.car')
    if (existsSync(car)) await loadCar(name, car, loaded)
    const path = join(root, 'records.jsonl')
    const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []
    // The last line is empty, or torn.
    for (const line of lines.slice(0, -1))
      loaded.records.push({ node: name, voter, record: JSON.parse(line) as NodeRecord, lost })
  }
  return loaded
}

async function loadCar(node: string, path: string, loaded: TestnetRecords): Promise<void> {
  const archive = await readCertifiedCar(path)
  for (const [federation, log] of archive.logs) {
    const entries = loaded.entries.get(federation) ?? []
    for (const bytes of log.from(0)) {
      const entry = entryCodec.decode(bytes.entry)
      const certificate = certificateCodec.decode(bytes.certificate)
      if (!isMalformed(entry) && !isMalformed(certificate))
        entries.push({ node, link: linkOf(bytes.entry), entry, certificate })
    }
    loaded.entries.set(federation, entries)
  }
  for (const link of archive.updates.links()) {
    const read = readUpdate(archive.updates.get(link)!)
    if (read !== null) loaded.updates.set(read.link, read.update)
  }
  archive.file.close()
}
