/** What consensus remembers across restarts (node/store.ts). */
import { firstMemory, isNewMemory } from '../federation/consensus-state.ts'
import type { Random } from '../math/random.ts'
import type { PeerCore, PersistedConsensus, Topic } from './core.ts'
import type { Certified } from './stand-ins.ts'

interface Stored extends PersistedConsensus {
  foundedAtMs?: number
}

/** After so long what a founder's disk held when the world began is a copy (the daemon gives it minutes, which are a whole run here). */
const newForMs = 10_000

/** Who founds a federation knows that it has never voted there (node/genesis.ts). */
export function writeFirstMemory({ disk }: PeerCore, { files }: Topic): void {
  const memory: Stored = { ...firstMemory, updates: [], foundedAtMs: 0 }
  disk.write(files.consensus, memory)
}

/**
 * As it is on disk; a peer without memory draws the number that it will ask to be enrolled by. A follower does not write down its term:
 * it is that of the newest certificate.
 */
export function readConsensus(peer: PeerCore, { files }: Topic, random: Random): PersistedConsensus & { fromDisk: boolean } {
  const { disk } = peer
  const term = disk.log<Certified>(files.log).at(-1)?.certificate.term ?? 0
  const stored = disk.read<Stored>(files.consensus)
  if (stored === undefined) {
    const read = { ...firstMemory, term, nonce: random.below(2 ** 48 - 1), updates: [] }
    disk.write(files.consensus, read)
    return { ...read, fromDisk: false }
  }
  const { foundedAtMs, ...known } = stored
  const isNew = foundedAtMs !== undefined && isNewMemory(peer.localMs() - foundedAtMs, newForMs)
  if (known.term >= term) return { ...known, fromDisk: !isNew }
  const read = { ...known, term, votedFor: null }
  disk.write(files.consensus, read)
  return { ...read, fromDisk: true }
}
