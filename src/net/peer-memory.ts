/**
 * libp2p's peer store, with what it last said of each peer kept as it said it.
 *
 * Why: the store keeps every peer as bytes, and decodes, merges and encodes them behind a lock at each call. The DHT tells of many peers
 * in each answer, all with the addresses that they had before; each stream tells again that its peer knows its protocol. A node that
 * started among seventeen others made 4,000 such calls, nearly all for what was known.
 *
 * What is known is neither read nor written again for a while; a change goes to the store at once, and is forgotten here until it is there.
 */
import type { Peer, PeerData, PeerId, PeerStore } from '@libp2p/interface'

/** Well below the hour after which the store forgets addresses that nobody tells again. */
const keptMs = 300_000
const keptMax = 4_096

interface Kept {
  peer: Peer | null
  atMs: number
  /** Changes on their way to the store. */
  changes: number
}

/** Puts a memory before `store`, for all who hold it. */
export function rememberPeers(store: PeerStore): void {
  const kept = new Map<string, Kept>()

  const known = (id: PeerId): Peer | null => {
    const one = kept.get(id.toString())
    return one === undefined || one.changes > 0 || performance.now() - one.atMs > keptMs ? null : one.peer
  }
  const keptOf = (id: PeerId): Kept => {
    const name = id.toString()
    const one = kept.get(name) ?? { peer: null, atMs: 0, changes: 0 }
    if (kept.size >= keptMax && !kept.has(name)) kept.delete(kept.keys().next().value!)
    kept.set(name, one)
    return one
  }
  const changed = async (id: PeerId, change: () => Promise<Peer | null>): Promise<Peer | null> => {
    const one = keptOf(id)
    one.changes++
    one.peer = null
    try {
      const peer = await change()
      Object.assign(one, { peer, atMs: performance.now() })
      return peer
    } finally {
      one.changes--
    }
  }

  const { get, merge, patch, save } = store
  const remove = store.delete
  store.get = async (id, options) => {
    const held = known(id)
    if (held !== null) return held
    const peer = await get.call(store, id, options)
    const one = keptOf(id)
    if (one.changes === 0) Object.assign(one, { peer, atMs: performance.now() })
    return peer
  }
  store.merge = async (id, data, options) => {
    const peer = known(id)
    if (peer !== null && holds(peer, data)) return peer
    return (await changed(id, () => merge.call(store, id, data, options)))!
  }
  store.patch = async (id, data, options) => (await changed(id, () => patch.call(store, id, data, options)))!
  store.save = async (id, data, options) => (await changed(id, () => save.call(store, id, data, options)))!
  store.delete = async (id, options) => {
    await changed(id, async () => {
      await remove.call(store, id, options)
      return null
    })
  }
}

/** Whether merging `data` would change nothing but the time at which it was told. */
function holds(peer: Peer, { multiaddrs = [], protocols = [], ...others }: PeerData): boolean {
  if (Object.values(others).some(other => other !== undefined)) return false
  const suffix = `/p2p/${peer.id}`
  const addresses = new Set(peer.addresses.map(({ multiaddr }) => multiaddr.toString()))
  return (
    protocols.every(protocol => peer.protocols.includes(protocol)) &&
    multiaddrs.every(address => addresses.has(address.toString().replace(suffix, '')))
  )
}
