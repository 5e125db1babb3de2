/** Consensus's own state of one federation: term, vote, what was accepted. On disk before anything that depends on it is said (I2). */
import { existsSync, readFileSync } from 'node:fs'
import * as dagCbor from '@ipld/dag-cbor'
import { WorldlmError } from '../errors.ts'
import type { Accepted } from '../federation/consensus-state.ts'
import type { Entry } from '../federation/entry.ts'
import type { PeerName } from '../ids.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { entryCodec } from '../wire/records.ts'
import { writeFileDurably } from './files.ts'

export interface PersistedConsensus {
  term: number
  votedFor: PeerName | null
  accepted: Accepted<Entry> | null
  /** Whether this file is a whole memory of how the node voted (docs/protocol.md, "Lost votes"). */
  enrolled: boolean
}

export function writeConsensus(path: string, { term, votedFor, accepted, enrolled }: PersistedConsensus): void {
  const open = accepted === null ? null : { term: accepted.term, entry: entryCodec.encode(accepted.entry) }
  writeFileDurably(path, dagCbor.encode({ term, votedFor, accepted: open, enrolled }))
}

/** @throws {WorldlmError} CONSENSUS_DAMAGED: a node that forgot its votes could vote twice, so it does not start. */
export function readConsensus(path: string): PersistedConsensus {
  if (!existsSync(path)) return { term: 0, votedFor: null, accepted: null, enrolled: false }
  try {
    const stored = dagCbor.decode<{
      term: number
      votedFor: PeerName | null
      accepted: { term: number; entry: Uint8Array } | null
      enrolled: boolean
    }>(readFileSync(path))
    const { term, votedFor, enrolled } = stored
    if (stored.accepted === null) return { term, votedFor, accepted: null, enrolled }
    const entry = entryCodec.decode(stored.accepted.entry)
    if (isMalformed(entry)) throw new Error(entry.detail)
    const accepted = { index: entry.index, term: stored.accepted.term, link: linkOf(stored.accepted.entry), entry }
    return { term, votedFor, accepted, enrolled }
  } catch (cause) {
    throw new WorldlmError(
      'CONSENSUS_DAMAGED',
      `${path} is damaged: this node cannot know how it voted`,
      'Restore the file, or join with a new identity: the others go on meanwhile.',
      { cause }
    )
  }
}
