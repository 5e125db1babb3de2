/**
 * The libp2p host of a node: who it is, where it listens, whom it knows.
 *
 * TCP, TLS, yamux, identify, ping, kad-dht, gossipsub; mDNS where asked for. The delicate options carry their reasons; all were
 * measured with this set of versions (package.json pins them).
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign as signWith } from 'node:crypto'
import { gossipsub } from '@libp2p/gossipsub'
import type { FastMsgIdFn } from '@libp2p/gossipsub/types'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp, type TCPSocketOptions } from '@libp2p/tcp'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { WorldlmError } from '../errors.ts'
import type { PeerName } from '../ids.ts'
import { limits } from '../wire/limits.ts'
import { protocols } from '../wire/protocol-ids.ts'
import { parseAddress } from './address.ts'
import { connectionLimits } from './connection-limits.ts'
import { rememberPeers } from './peer-memory.ts'
import { socketTls } from './socket-tls.ts'
import { yamuxByHalves } from './stream-window.ts'

export interface HostOptions {
  identity: Uint8Array
  /** Multiaddrs, e.g. `/ip4/127.0.0.1/tcp/0`. */
  listen: string[]
  /** What others are told to dial instead; empty: what it listens on. */
  announce?: string[]
  /** Local IP address of outgoing connections; empty: the system's choice. */
  dialFrom?: string
  /** Multiaddrs of peers to begin with; ones that do not answer are tried again. */
  bootstrap: string[]
  mdns: boolean
  /** What this host calls itself in identify; left out: libp2p's own name. */
  agent?: string
  onWarning: (code: string, message: string) => void
}

/** A new Ed25519 identity, as libp2p's protobuf. */
export async function createIdentity(): Promise<Uint8Array> {
  return privateKeyToProtobuf(await generateKeyPair('Ed25519'))
}

/** @throws {WorldlmError} IDENTITY_DAMAGED */
export function peerNameOf(identity: Uint8Array): PeerName {
  return peerIdFromPrivateKey(readIdentity(identity)).toString()
}

function readIdentity(identity: Uint8Array): PrivateKey {
  const damaged = (what: string, cause?: unknown) =>
    new WorldlmError(
      'IDENTITY_DAMAGED',
      `identity.key is not ${what}`,
      'Restore it from a backup: without it the node is a stranger to its federations.',
      { cause }
    )
  let key: PrivateKey
  try {
    key = privateKeyFromProtobuf(identity)
  } catch (cause) {
    throw damaged('a libp2p private key', cause)
  }
  if (key.type !== 'Ed25519') throw damaged(`an Ed25519 key but one of ${key.type}`)
  // The file holds the public half beside the private one, and nothing says that they belong together: with one that is damaged a node would
  // sign what nobody can verify, its own log included, or be somebody else.
  const derived = createPublicKey(signingKeyOf(key)).export({ format: 'der', type: 'spki' }).subarray(-32)
  if (!derived.equals(key.publicKey.raw)) throw damaged('whole: its private and its public half do not belong together')
  return key
}

/** PKCS#8 of an Ed25519 key before its seed (RFC 8410 §7). */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')

const signingKeyOf = ({ raw }: PrivateKey): KeyObject =>
  createPrivateKey({ key: Buffer.concat([pkcs8Prefix, raw.subarray(0, 32)]), format: 'der', type: 'pkcs8' })

type Libp2p = Awaited<ReturnType<typeof createHost>>

async function startLibp2p(privateKey: PrivateKey, options: HostOptions): Promise<Libp2p> {
  const libp2p = await createHost(privateKey, options)
  rememberPeers(libp2p.peerStore)
  await libp2p.start()
  return libp2p
}

function createHost(privateKey: PrivateKey, options: HostOptions) {
  // @libp2p/tcp hands its dialOpts to net.connect as they are; its type names a few of them only.
  const dialOpts = options.dialFrom ? ({ localAddress: options.dialFrom } as TCPSocketOptions) : {}
  const { connections, pending } = connectionLimits()
  return createLibp2p({
    start: false,
    privateKey,
    ...(options.agent === undefined ? {} : { nodeInfo: { userAgent: options.agent } }),
    addresses: { listen: options.listen, announce: options.announce ?? [] },
    transports: [tcp({ dialOpts, maxConnections: connections + pending })],
    connectionEncrypters: [socketTls()],
    streamMuxers: [yamuxByHalves()],
    // Many peers of one machine or LAN share an address: libp2p's defaults (5 a second from one address) turn them away.
    connectionManager: {
      inboundConnectionThreshold: 1000,
      maxIncomingPendingConnections: pending,
      maxConnections: connections
    },
    // Its default ends connections whose ping waits behind a blob, or behind two busy cores.
    // A ping is a stream of its own, and there are as many as connections: presence finds the dead long before.
    connectionMonitor: { pingInterval: 30_000, pingTimeout: { minTimeout: 60_000 } },
    ...(options.mdns ? { peerDiscovery: [mdns({ serviceTag: '_worldlm._udp.local' })] } : {}),
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({
        protocol: protocols.dht,
        clientMode: false,
        // Loopback and private addresses are addresses here: organizations meet inside VPNs too.
        peerInfoMapper: passthroughMapper,
        initialQuerySelfInterval: 100,
        // Records stand with the eight closest peers, not with twenty: each is a dial, two streams and an answer for every query.
        kBucketSize: 8,
        reprovide: { interval: 600_000, validity: 3_600_000, threshold: 3_000_000 }
      }),
      pubsub: gossipsub({
        globalSignaturePolicy: 'StrictSign',
        allowPublishToZeroTopicPeers: true,
        maxInboundDataLength: limits.gossipBytesMax * 8,
        fastMsgIdFn: copyName,
        // Whoever says something says it to all whom it knows in the topic (floodPublish): passing on is for who knows few, and each
        // neighbour more is another copy of every message at every peer. What is missed comes by the next heartbeat's list.
        D: 3,
        Dlo: 2,
        Dhi: 5,
        Dscore: 2,
        Dout: 1,
        Dlazy: 3,
        // Many organizations behind one address are no attack here; with the default weight the mesh empties.
        scoreParams: { IPColocationFactorWeight: 0 }
      })
    }
  })
}

/**
 * Gossip brings most messages several times. What has the name of one whose signature was checked is its copy, and goes unread; the name
 * is kept after that check alone, so a forger can keep nothing from being heard.
 */
function copyName({ from, seqno, signature, topic }: Parameters<FastMsgIdFn>[0]): string {
  return [from, seqno, signature].map(latin1).join('') + topic
}

const latin1 = (bytes: Uint8Array = new Uint8Array()): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

export class Host {
  readonly peer: PeerName
  readonly libp2p: Libp2p
  readonly #signingKey: KeyObject
  /** What was last learned of each peer. */
  readonly #told = new Map<PeerName, string>()
  readonly #dialing = new Map<PeerName, Promise<void>>()
  /** Told when a peer that is being dialed comes by itself. */
  readonly #coming = new Map<PeerName, () => void>()
  readonly #redial: NodeJS.Timeout | undefined
  /** Bootstrap addresses that could not be reached, and when that was said last. */
  readonly #unreachable = new Map<string, number>()

  private constructor(libp2p: Libp2p, privateKey: PrivateKey, options: HostOptions) {
    this.libp2p = libp2p
    this.peer = libp2p.peerId.toString()
    this.#signingKey = signingKeyOf(privateKey)
    libp2p.addEventListener('peer:connect', event => this.#coming.get(event.detail.toString())?.())
    if (options.bootstrap.length > 0) {
      const dial = () => void this.#dialBootstrap(options)
      dial()
      this.#redial = setInterval(dial, bootstrapRetryMs)
    }
  }

  /** @throws {WorldlmError} PORT_IN_USE, BAD_ADDRESS, IDENTITY_DAMAGED */
  static async start(options: HostOptions): Promise<Host> {
    const privateKey = readIdentity(options.identity)
    for (const address of [...options.listen, ...(options.announce ?? []), ...options.bootstrap]) parseAddress(address)
    try {
      const libp2p = await startLibp2p(privateKey, options)
      await noteAddresses(libp2p, options.bootstrap)
      return new Host(libp2p, privateKey, options)
    } catch (cause) {
      const text = `${cause instanceof Error ? cause.message : cause} ${cause instanceof AggregateError ? cause.errors.join(' ') : ''}`
      if (!/EADDRINUSE|EADDRNOTAVAIL|listen|UnsupportedListenAddress/i.test(text)) throw cause
      // The library tells of each address with its stack, and of options of its own: the system's words are what a person can use.
      const reasons = [...text.matchAll(/\bE[A-Z]+: [^\n]+/g)].map(([reason]) => reason)
      throw new WorldlmError(
        'PORT_IN_USE',
        `cannot listen on ${options.listen.join(', ')}: ${[...new Set(reasons)].join('; ') || text.trim()}`,
        'Another program has the port, or the address is not this machine’s: change `listen`, or use port 0 for any free port.',
        { cause }
      )
    }
  }

  /** Where this host can be reached, with its peer name. */
  addresses(): string[] {
    return this.libp2p.getMultiaddrs().map(String)
  }

  connected(peer: PeerName): boolean {
    return this.libp2p.getConnections(peerIdFromString(peer)).length > 0
  }

  connectedPeers(): PeerName[] {
    return this.libp2p.getPeers().map(String)
  }

  /** Addresses that others told us of `peer`. */
  async learn(peer: PeerName, addresses: string[]): Promise<void> {
    if (peer === this.peer || addresses.length === 0) return
    // Each presence tells them again, and to write them again costs more than all else that a presence does.
    const told = addresses.join()
    if (this.#told.get(peer) === told && this.connected(peer)) return
    if (this.#told.size >= limits.membersMax) this.#told.clear()
    this.#told.set(peer, told)
    try {
      await this.libp2p.peerStore.merge(peerIdFromString(peer), { multiaddrs: addresses.map(address => multiaddr(address)) })
    } catch {
      // A wrong address of a stranger: it is simply not learned.
    }
  }

  /** Where `peer` said that it can be reached, or where others said so, as far as it can be told: whoever says more keeps nothing from others. */
  async addressesOf(peer: PeerName): Promise<string[]> {
    try {
      const { addresses } = await this.libp2p.peerStore.get(peerIdFromString(peer))
      return addresses
        .map(({ multiaddr }) => multiaddr.toString())
        .filter(({ length }) => length <= limits.addressCharactersMax)
        .slice(0, limits.addressesMax)
    } catch {
      return []
    }
  }

  /**
   * Connects, unless it is connected; several askers share one attempt. It is over, too, when the other comes by itself: where no address of
   * it is known, it is looked for in the DHT for seconds. @throws when the peer cannot be reached.
   */
  dial(peer: PeerName): Promise<void> {
    if (this.connected(peer)) return Promise.resolve()
    const running = this.#dialing.get(peer)
    if (running !== undefined) return running
    const comes = new Promise<void>(resolve => this.#coming.set(peer, resolve))
    const dialed = this.libp2p.dial(peerIdFromString(peer), { signal: AbortSignal.timeout(dialTimeoutMs) })
    const attempt = Promise.race([dialed.then(() => undefined), comes]).finally(() => {
      this.#dialing.delete(peer)
      this.#coming.delete(peer)
    })
    this.#dialing.set(peer, attempt)
    return attempt
  }

  /** Ed25519 signature of `bytes`, 64 bytes. */
  sign(bytes: Uint8Array): Uint8Array {
    return new Uint8Array(signWith(null, bytes, this.#signingKey))
  }

  onDisconnect(listener: (peer: PeerName) => void): void {
    this.libp2p.addEventListener('peer:disconnect', event => listener(event.detail.toString()))
  }

  async stop(): Promise<void> {
    clearInterval(this.#redial)
    await this.libp2p.stop()
  }

  /** One list of bootstrap addresses for all nodes of an organization holds each one's own. */
  #listensOn(address: string): boolean {
    return this.addresses().includes(`${address}/p2p/${this.peer}`)
  }

  #wasTold(address: string): boolean {
    const told = this.#unreachable.get(address)
    if (told !== undefined && performance.now() - told < unreachableToldMs) return true
    this.#unreachable.set(address, performance.now())
    return false
  }

  async #dialBootstrap({ bootstrap, onWarning }: HostOptions): Promise<void> {
    for (const address of bootstrap) {
      const target = multiaddr(address)
      const peer = peerOf(target)
      if (peer !== null && (peer === this.peer || this.connected(peer))) continue
      if (peer === null && (this.libp2p.getPeers().length > 0 || this.#listensOn(address))) continue
      try {
        await this.libp2p.dial(target, { signal: AbortSignal.timeout(dialTimeoutMs) })
        this.#unreachable.delete(address)
      } catch (error) {
        if (this.libp2p.status !== 'started' || this.#wasTold(address)) continue
        onWarning('BOOTSTRAP_UNREACHABLE', `${address}: ${error instanceof Error ? error.message : error}`)
      }
    }
  }
}

const dialTimeoutMs = 10_000
/** A bootstrap peer that starts later is found within this time. */
const bootstrapRetryMs = 2_000
/** One that is gone for good is no news every two seconds. */
const unreachableToldMs = 600_000

/**
 * Who asks for one of them by its name alone has its address: libp2p would look for it in the DHT for seconds, and have the attempt by its
 * address wait for the same.
 */
async function noteAddresses({ peerStore, peerId }: Libp2p, addresses: readonly string[]): Promise<void> {
  for (const address of addresses.map(one => multiaddr(one))) {
    const peer = peerOf(address)
    if (peer !== null && peer !== peerId.toString()) await peerStore.merge(peerIdFromString(peer), { multiaddrs: [address] })
  }
}

function peerOf(address: Multiaddr): PeerName | null {
  return address.getComponents().findLast(({ name }) => name === 'p2p')?.value ?? null
}
