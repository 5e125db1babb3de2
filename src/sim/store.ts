/** What consensus remembers across restarts (node/store.ts). */
import { firstMemory } from '../federation/consensus-state.ts'
import type { Random } from '../math/random.ts'
import type { PeerCore, PersistedConsensus, Topic } from './core.ts'
import type { Certified } from './stand-ins.ts'

/**
 * As it is on disk; a peer without memory draws the number that it will ask to be enrolled by. A follower does not write down its term:
 * it is that of the newest certificate.
 */
export function readConsensus(
  { disk }: PeerCore,
  { files }: Topic,
  random: Random
): PersistedConsensus & { fromDisk: boolean } {
  const known = disk.read<PersistedConsensus>(files.consensus)
  const term = disk.log<Certified>(files.log).at(-1)?.certificate.term ?? 0
  if (known !== undefined && known.term >= term) return { ...known, fromDisk: true }
  const read =
    known === undefined
      ? { ...firstMemory, term, nonce: random.below(2 ** 48 - 1), updates: [] }
      : { ...known, term, votedFor: null }
  disk.write(files.consensus, read)
  return { ...read, fromDisk: known !== undefined }
}
