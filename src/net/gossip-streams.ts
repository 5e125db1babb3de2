/**
 * Streams of gossip that outlive one broken connection. gossipsub opens its stream to a peer when that connects, and once: where the stream
 * breaks, or could not be opened, it forgets the peer until a connection comes. Two peers that dialed each other at once have two
 * connections, and keep the second when the first one ends: neither would hear the other any more, for as long as that holds.
 */
import type { GossipSub } from '@libp2p/gossipsub'
import type { Connection } from '@libp2p/interface'
import type { PeerName } from '../ids.ts'
import type { Host } from './host.ts'

/** How often it is looked for peers without a stream. */
const lookMs = 3_000
/** Looks in vain until it is opened here: gossipsub opens one after another, and thirty that start at once take it seconds. */
const looksMax = 3

/** What gossipsub does itself when a peer connects; its types leave it out. */
interface Opener {
  readonly streamsOutbound: ReadonlyMap<PeerName, unknown>
  addPeer(peer: Connection['remotePeer'], direction: Connection['direction'], address: Connection['remoteAddr']): void
  createOutboundStream(peer: Connection['remotePeer'], connection: Connection): Promise<void>
}

/** Until the host stops. */
export function keepGossipStreams({ libp2p }: Host, pubsub: GossipSub): void {
  const opener = pubsub as unknown as Opener
  /** An attempt may take the ten seconds of a negotiation. */
  const opening = new Set<PeerName>()
  /** How many looks found none. */
  const lacking = new Map<PeerName, number>()
  const look = () => {
    const newest = new Map<PeerName, Connection>()
    for (const connection of libp2p.getConnections())
      if (connection.status === 'open') newest.set(connection.remotePeer.toString(), connection)
    for (const [peer, connection] of newest) {
      const looks = (lacking.get(peer) ?? 0) + 1
      if (opener.streamsOutbound.has(peer) || opening.has(peer)) lacking.delete(peer)
      else if (looks < looksMax) lacking.set(peer, looks)
      else {
        opening.add(peer)
        opener.addPeer(connection.remotePeer, connection.direction, connection.remoteAddr)
        // It catches what fails.
        void opener.createOutboundStream(connection.remotePeer, connection).finally(() => opening.delete(peer))
      }
    }
    for (const peer of lacking.keys()) if (!newest.has(peer)) lacking.delete(peer)
  }
  const timer = setInterval(look, lookMs).unref()
  libp2p.addEventListener('stop', () => clearInterval(timer))
}
