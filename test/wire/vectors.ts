/** One record of each kind, from keys by name: what test/vectors/wire.json holds. */
import { blobIndexCodec } from '../../src/wire/blob-index.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import { acceptBytes } from '../../src/wire/signature.ts'
import { LogBuilder, peerOf } from './peers.ts'

export interface WireVector {
  name: string
  link: string
  hex: string
}

export function wireVectors(): WireVector[] {
  const log = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b')
  const [members, round] = [log.entries[0]!, log.entries.at(-1)!]
  const blob = blobIndexCodec.encode({ length: 3, chunkBytes: limits.blobChunkBytes, chunks: [new Uint8Array(32).fill(7)] })
  const records: Record<string, Uint8Array> = {
    'peer a': new TextEncoder().encode(peerOf('a').peer),
    charter: log.charterBytes,
    'members entry': members.entry,
    'certificate of the members entry': members.certificate,
    'round entry': round.entry,
    'certificate of the round entry': round.certificate,
    'signed update': [...log.updates.values()][0]!,
    'blob index': blob,
    'what is signed to accept': acceptBytes(log.id, 1, 2, log.head)
  }
  return Object.entries(records).map(([name, bytes]) => ({
    name,
    link: linkOf(bytes),
    hex: Buffer.from(bytes).toString('hex')
  }))
}
