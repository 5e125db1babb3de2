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
  /**
   * null: this file is a whole memory of how the node voted. Else the number by which the node asks to be enrolled (docs/protocol.md,
   * "Lost votes"): as long as the file is there it has not voted, and asks by the same one, for an entry with it may be on its way.
   */
  nonce: number | null
}

export function writeConsensus(path: string, { term, votedFor, accepted, nonce }: PersistedConsensus): void {
  const open = accepted === null ? null : { term: accepted.term, entry: entryCodec.encode(accepted.entry) }
  writeFileDurably(path, dagCbor.encode({ term, votedFor, accepted: open, nonce }))
}

/**
 * @param drawNonce - called where there is no file; what it gives is on disk when this returns.
 * @throws {WorldlmError} CONSENSUS_DAMAGED: a node that forgot its votes could vote twice, so it does not start.
 */
export function readConsensus(path: string, drawNonce: () => number): PersistedConsensus {
  if (!existsSync(path)) {
    const fresh = { term: 0, votedFor: null, accepted: null, nonce: drawNonce() }
    writeConsensus(path, fresh)
    return fresh
  }
  try {
    const stored = dagCbor.decode<{
      term: number
      votedFor: PeerName | null
      accepted: { term: number; entry: Uint8Array } | null
      nonce: number | null
    }>(readFileSync(path))
    const { term, votedFor, nonce } = stored
    if (stored.accepted === null) return { term, votedFor, accepted: null, nonce }
    const entry = entryCodec.decode(stored.accepted.entry)
    if (isMalformed(entry)) throw new Error(entry.detail)
    const accepted = { index: entry.index, term: stored.accepted.term, link: linkOf(stored.accepted.entry), entry }
    return { term, votedFor, accepted, nonce }
  } catch (cause) {
    throw new WorldlmError(
      'CONSENSUS_DAMAGED',
      `${path} is damaged: this node cannot know how it voted`,
      'Remove it: a majority of the other voters enrolls the node anew. Where there is none (of one voter, or of two), restore its newest copy.',
      { cause }
    )
  }
}
