/** Opens what the parts of a node share, in order: disk, host, and what speaks over it. */
import type { NodeConfig } from '../config.ts'
import { WorldlmError } from '../errors.ts'
import type { Link } from '../ids.ts'
import type { Logger } from '../log.ts'
import { BlobExchange } from '../net/blob-exchange.ts'
import type { Permission } from '../net/blob-server.ts'
import { Direct } from '../net/direct.ts'
import { Directory } from '../net/directory.ts'
import { Gossip } from '../net/gossip.ts'
import { Host } from '../net/host.ts'
import { agentOf, IdentityGuard, newInstance } from '../net/identity-guard.ts'
import { Blobs } from './blobs.ts'
import { type CertifiedArchive, CertifiedCar } from './certified-car.ts'
import { type EventLog, RecordLog } from './events.ts'
import type { NodeFolder } from './folder.ts'
import { Mixer } from './mixer.ts'
import type { Services } from './services.ts'

export interface Opening {
  version: string
  folder: NodeFolder
  config: NodeConfig
  events: EventLog
  log: Logger
  fail: (error: unknown) => void
  /** Whether a peer may have a blob that is here. */
  mayFetch: (peer: string, blob: Link) => Permission
  /** Bytes of the largest blob that this node has any use for. */
  blobBytesMax: () => number
  /** Blobs are coming from a peer. */
  onBlobBytes: (peer: string) => void
  onConsensus: (from: string, bytes: Uint8Array) => void
  onQuestion: (from: string, bytes: Uint8Array) => Promise<Uint8Array>
}

/** @throws {WorldlmError} of the folder, a used port, a damaged archive. */
export async function openServices(opening: Opening): Promise<{ services: Services; archive: CertifiedArchive }> {
  const { folder, config, events, log, fail } = opening
  const warn = (code: string, message: string) => events.emit({ type: 'warning', code, message })
  folder.prepare()
  const { blobs, damaged } = await Blobs.open(folder.blobs)
  for (const link of damaged)
    warn('BLOB_DAMAGED', `blob ${link} was damaged and is removed; it is fetched again when it is needed`)
  const { car, archive } = await CertifiedCar.open(folder.certifiedCar)
  if (archive.tornBytes > 0)
    warn('LOG_TORN', `the last ${archive.tornBytes} bytes of certified.car were not whole and are cut off`)
  const { listen, announce, dialFrom, bootstrap, mdns } = config
  const onWarning = (code: string, message: string) => log.warn({ code }, message)
  const instance = newInstance()
  const agent = agentOf(opening.version, instance)
  const identity = folder.identity()
  const host = await Host.start({ identity, listen, announce, dialFrom, bootstrap, mdns, agent, onWarning })
  try {
    await IdentityGuard.start({ host, instance, onDouble: () => fail(identityInUse(host.peer)) })
    const onLiar = (peer: string, blob: Link, detail: string) =>
      events.emit({ type: 'fault', federation: '', peer, code: 'WRONG_BYTES', detail: `${blob}: ${detail}` })
    const services: Services = {
      folder,
      host,
      gossip: new Gossip(host),
      direct: await Direct.start(host, opening.onConsensus, opening.onQuestion),
      directory: new Directory(host),
      exchange: await BlobExchange.start({
        host,
        store: blobs,
        allow: opening.mayFetch,
        onLiar,
        onBytes: opening.onBlobBytes,
        bytesMax: opening.blobBytesMax,
        uploadBytesPerSecond: config.network.uploadBytesPerSecond
      }),
      blobs,
      car,
      mixer: new Mixer(),
      events,
      records: new RecordLog(folder.records),
      log,
      fail
    }
    return { services, archive }
  } catch (error) {
    await host.stop()
    throw error
  }
}

const identityInUse = (peer: string): WorldlmError =>
  new WorldlmError(
    'IDENTITY_IN_USE',
    `another process runs with this node's identity (${peer}); both stop`,
    'Start one of them only. A copied folder is the same node: a second one gets its own with `worldlm node init`.'
  )
