/** What the parts of a running node share. Made once, by node.ts. */
import type { BlobExchange } from '../net/blob-exchange.ts'
import type { Direct } from '../net/direct.ts'
import type { Directory } from '../net/directory.ts'
import type { Gossip } from '../net/gossip.ts'
import type { Host } from '../net/host.ts'
import type { Logger } from '../log.ts'
import type { Blobs } from './blobs.ts'
import type { CertifiedCar } from './certified-car.ts'
import type { EventLog, RecordLog } from './events.ts'
import type { Mixer } from './mixer.ts'
import type { NodeFolder } from './folder.ts'

export interface Services {
  folder: NodeFolder
  host: Host
  gossip: Gossip
  direct: Direct
  directory: Directory
  exchange: BlobExchange
  blobs: Blobs
  car: CertifiedCar
  mixer: Mixer
  events: EventLog
  records: RecordLog
  log: Logger
  /** Ends the node: what went wrong leaves nothing else to do. */
  fail: (error: unknown) => void
}
