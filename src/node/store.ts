/** Consensus's own state of one federation: term, vote, what was accepted. On disk before anything that depends on it is said (I2). */
import { existsSync, readFileSync } from 'node:fs'
import * as dagCbor from '@ipld/dag-cbor'
import { WorldlmError } from '../errors.ts'
import { firstMemory, isNewMemory, type Memory } from '../federation/consensus-state.ts'
import type { Entry } from '../federation/entry.ts'
import type { SignedPlace } from '../federation/recall.ts'
import type { Link, PeerName } from '../ids.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { entryCodec } from '../wire/records.ts'
import { writeFileDurably } from './files.ts'

/**
 * `nonce` is null: this file is a whole memory of how the node voted. Else it is the number by which the node asks to be enrolled
 * (docs/protocol.md, "Lost votes"): as long as the file is there it has not voted, and asks by the same one, for an entry with it may be on
 * its way.
 */
export type PersistedConsensus = Memory<Entry>

export function writeConsensus(
  path: string,
  { term, votedFor, accepted, givenUp, nonce, signed, old }: PersistedConsensus
): void {
  const signedFor = accepted?.signedFor === undefined ? {} : { signedFor: accepted.signedFor }
  const open = accepted === null ? null : { term: accepted.term, entry: entryCodec.encode(accepted.entry), ...signedFor }
  writeFileDurably(path, dagCbor.encode({ term, votedFor, accepted: open, givenUp, nonce, signed, old }))
}

/** A federation is founded, and its founder started, within one go; or the founder listens for three election timeouts first. */
const newForMs = 5 * 60_000

/** Its founder has not voted yet, and knows it; as long as it is new (`isNewMemory`), it is no copy from before. */
export function writeFirstMemory(path: string): void {
  writeFileDurably(path, dagCbor.encode({ ...firstMemory, foundedAtMs: Date.now() }))
}

/**
 * @param drawNonce - called where there is no file; what it gives is on disk when this returns.
 * @throws {WorldlmError} CONSENSUS_DAMAGED: a node that forgot its votes could vote twice, so it does not start.
 */
export function readConsensus(path: string, drawNonce: () => number): PersistedConsensus & { fromDisk: boolean } {
  if (!existsSync(path)) {
    const fresh = { ...firstMemory, nonce: drawNonce() }
    writeConsensus(path, fresh)
    return { ...fresh, fromDisk: false }
  }
  try {
    const stored = dagCbor.decode<{
      term: number
      votedFor: PeerName | null
      accepted: { term: number; entry: Uint8Array; signedFor?: PeerName[] } | null
      givenUp?: Link | null
      nonce: number | null
      // Left out by earlier versions: what such a node has signed is known from its next signature on.
      signed?: SignedPlace | null
      old?: boolean
      foundedAtMs?: number
    }>(readFileSync(path))
    const { term, votedFor, givenUp = null, nonce, old = false, foundedAtMs } = stored
    const isNew = foundedAtMs !== undefined && isNewMemory(Date.now() - foundedAtMs, newForMs)
    const read = { term, votedFor, givenUp, nonce, old, fromDisk: !isNew }
    if (stored.accepted === null) return { ...read, accepted: null, signed: stored.signed ?? null }
    const entry = entryCodec.decode(stored.accepted.entry)
    if (isMalformed(entry)) throw new Error(entry.detail)
    const { signedFor } = stored.accepted
    const link = linkOf(stored.accepted.entry)
    const told = signedFor === undefined ? {} : { signedFor }
    const accepted = { index: entry.index, term: stored.accepted.term, link, entry, ...told }
    return { ...read, accepted, signed: stored.signed ?? { index: accepted.index, term: accepted.term } }
  } catch (cause) {
    throw new WorldlmError(
      'CONSENSUS_DAMAGED',
      `${path} is damaged: this node cannot know how it voted`,
      'Remove it: a majority of the other voters enrolls the node anew. Where there is none (of one voter, or of two), restore its newest copy.',
      { cause }
    )
  }
}
