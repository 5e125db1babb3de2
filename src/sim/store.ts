/** What consensus remembers across restarts (node/store.ts). */
import type { Random } from '../math/random.ts'
import type { PeerCore, PersistedConsensus, Topic } from './core.ts'
import type { Certified } from './stand-ins.ts'

/**
 * As it is on disk; a peer without memory draws the number that it will ask to be enrolled by. A follower does not write down its term:
 * it is that of the newest certificate.
 */
export function readConsensus({ disk }: PeerCore, { files }: Topic, random: Random): PersistedConsensus {
  const known = disk.read<PersistedConsensus>(files.consensus)
  const term = disk.log<Certified>(files.log).at(-1)?.certificate.term ?? 0
  if (known !== undefined && known.term >= term) return known
  const nonce = known === undefined ? random.below(2 ** 48 - 1) : known.nonce
  const fresh = { term, votedFor: null, accepted: known?.accepted ?? null, nonce, updates: known?.updates ?? [] }
  disk.write(files.consensus, fresh)
  return fresh
}
