/** Certified logs on disk, verified without asking anybody: each from its genesis charter on, and all against each other (I1). */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { WorldlmError } from '../errors.ts'
import type { Link } from '../ids.ts'
import { beginLog, extendLog, type LogFault, type LogState } from '../wire/certified-log.ts'
import { linkOf } from '../wire/codec.ts'
import { type CertifiedArchive, readCertifiedCar } from './certified-car.ts'

export interface VerifiedLog {
  node: string
  federation: string
  federationId: string
  entries: number
  rounds: number
  members: number
  head: Link
  /** Inputs of certified rounds, and how many of their signed updates are in the archive and were checked. */
  updatesCounted: number
  updatesChecked: number
  fault: string | null
}

export interface AuditReport {
  schema: 'worldlm.audit/1'
  ok: boolean
  logs: VerifiedLog[]
  faults: (LogFault & { node: string })[]
  /** Bytes at the end of a file that are no whole block: a killed node leaves them, and cuts them off when it starts again. */
  torn: { node: string; bytes: number }[]
  /** Nodes' folders without a log in them: never started, or what they held was taken away. */
  empty: string[]
}

/** @param paths - a node's folder, or a folder of them. @throws {WorldlmError} NOTHING_TO_VERIFY, CAR_DAMAGED */
export async function verifyPaths(paths: string[]): Promise<AuditReport> {
  const folders = paths.flatMap(findCars)
  if (!folders.some(isCar)) throw nothing('certified.car', paths)
  const report: AuditReport = { schema: 'worldlm.audit/1', ok: true, logs: [], faults: [], torn: [], empty: [] }
  const entryAt = new Map<string, { link: Link; node: string }>()
  for (const path of folders) {
    const node = basename(join(path, '..'))
    if (!isCar(path)) {
      report.empty.push(node)
      continue
    }
    const archive = await readCertifiedCar(path)
    if (archive.tornBytes > 0) report.torn.push({ node, bytes: archive.tornBytes })
    if (archive.charters.size === 0 && archive.logs.size === 0) report.empty.push(node)
    for (const [id, charter] of archive.charters) verifyOne(node, id, charter, archive, report, entryAt)
    for (const id of archive.logs.keys())
      if (!archive.charters.has(id))
        report.faults.push({
          federation: id,
          index: 0,
          code: 'CHARTER_MISSING',
          detail: 'the archive holds entries of it, and no charter to check them from',
          node
        })
    archive.file.close()
  }
  if (report.logs.length === 0 && report.faults.length === 0) throw nothing('certified log', paths)
  report.ok = report.faults.length === 0
  return report
}

const nothing = (what: string, paths: string[]): WorldlmError =>
  new WorldlmError(
    'NOTHING_TO_VERIFY',
    `no ${what} lies in ${paths.join(', ')}`,
    'Give a node’s folder, or the --out of a testnet.'
  )

function verifyOne(
  node: string,
  id: string,
  charter: Uint8Array,
  archive: CertifiedArchive,
  report: AuditReport,
  entryAt: Map<string, { link: Link; node: string }>
): void {
  const begun = beginLog(charter)
  if ('code' in begun) {
    report.faults.push({ ...begun, node })
    return
  }
  let log: LogState = begun
  let fault: LogFault | null = null
  let [counted, checked] = [0, 0]
  const entries = archive.logs.get(id)
  for (let place = 0; place < (entries?.length ?? 0); place++) {
    const bytes = entries!.at(place)
    if (bytes === undefined) {
      fault = { federation: id, index: log.index + 1, code: 'GAP', detail: 'an entry is missing' }
      break
    }
    const extended = extendLog(log, bytes, archive.updates)
    if ('code' in extended) {
      fault = extended
      break
    }
    log = extended.log
    const { entry } = extended
    if (entry.kind === 'round') {
      counted += entry.inputs.length
      checked += entry.inputs.filter(({ update }) => archive.updates.has(update)).length
    }
    const elsewhere = entryAt.get(`${id}/${log.index}`)
    const link = linkOf(bytes.entry)
    if (elsewhere !== undefined && elsewhere.link !== link) {
      report.faults.push({
        federation: id,
        index: log.index,
        code: 'I1',
        detail: `${elsewhere.node} holds another certified entry at this index`,
        node
      })
    }
    entryAt.set(`${id}/${log.index}`, { link, node })
  }
  if (fault !== null) report.faults.push({ ...fault, node })
  const { roster, index, rounds, head } = log
  report.logs.push({
    node,
    federation: log.charter.path,
    federationId: id,
    entries: index,
    rounds,
    members: roster.members.size,
    head,
    updatesCounted: counted,
    updatesChecked: checked,
    fault: fault?.code ?? null
  })
}

function isCar(path: string): boolean {
  try {
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** `certified.car` in the folder itself, or in the folders below it; where it should lie, in a node's folder that has none. */
function findCars(path: string): string[] {
  if (!existsSync(path))
    throw new WorldlmError('NOTHING_TO_VERIFY', `${path} is not there`, 'Give a node’s folder, or the --out of a testnet.')
  if (!statSync(path).isDirectory()) return [path]
  const car = join(path, 'certified.car')
  if (isCar(car) || existsSync(join(path, 'worldlm.yaml'))) return [car]
  return readdirSync(path, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .flatMap(entry => findCars(join(path, entry.name)))
}
