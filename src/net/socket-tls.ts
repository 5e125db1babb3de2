/**
 * libp2p's TLS (https://github.com/libp2p/specs/blob/master/tls/tls.md) straight on the TCP socket. On the wire it is what @libp2p/tls
 * speaks; certificates are made and checked by its own functions.
 *
 * Why: @libp2p/tls lays Node's TLS over a stream of JavaScript, so that each record of 16 kB passes the event loop on its way to the
 * socket. Given the socket itself, Node encrypts and writes a whole slice in one native call. What stands on no socket of ours (tests
 * in memory, relays) is left to @libp2p/tls.
 *
 * Delicate: the socket is taken from @libp2p/tcp's connection, which still closes, times out and resets it, and from then on neither
 * reads nor writes it. The field has no public name; versions are pinned, and test/net/socket-tls.spec.ts fails when it is gone.
 */
import { once } from 'node:events'
import { Socket } from 'node:net'
import { connect, TLSSocket, type TLSSocketOptions } from 'node:tls'
import type {
  AbortOptions,
  ConnectionEncrypter,
  MessageStream,
  SecureConnectionOptions,
  SecuredConnection,
  StreamMuxerFactory
} from '@libp2p/interface'
import { type TLSComponents, tls } from '@libp2p/tls'
import { generateCertificate, verifyPeerCertificate } from '@libp2p/tls/utils'
import { AbstractMessageStream, type SendResult } from '@libp2p/utils'
import type { Uint8ArrayList } from 'uint8arraylist'
import { HostCertificate } from './host-certificate.ts'
import { giveSentBytes } from './send-buffers.ts'

/** What both sides name when they want no multiplexer chosen in the handshake. */
const noMuxer = 'libp2p'
/** The quicker one first; whichever both know. */
const ciphers = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256'

/** The connection encrypter for libp2p's options. */
export function socketTls(): (components: TLSComponents) => ConnectionEncrypter {
  return components => new SocketTls(components)
}

class SocketTls implements ConnectionEncrypter {
  readonly protocol: string
  readonly #components: TLSComponents
  readonly #overStreams: ConnectionEncrypter
  readonly #certificate: HostCertificate

  constructor(components: TLSComponents) {
    this.#components = components
    this.#certificate = new HostCertificate(() => generateCertificate(components.privateKey))
    this.#overStreams = tls()(components)
    this.protocol = this.#overStreams.protocol
  }

  secureInbound(connection: MessageStream, options?: SecureConnectionOptions): Promise<SecuredConnection> {
    const socket = socketOf(connection)
    if (socket === null) return this.#overStreams.secureInbound(connection, options)
    return this.#secure(connection, socket, true, options)
  }

  secureOutbound(connection: MessageStream, options?: SecureConnectionOptions): Promise<SecuredConnection> {
    const socket = socketOf(connection)
    if (socket === null) return this.#overStreams.secureOutbound(connection, options)
    return this.#secure(connection, socket, false, options)
  }

  async #secure(
    connection: MessageStream,
    socket: Socket,
    isServer: boolean,
    options: SecureConnectionOptions = {}
  ): Promise<SecuredConnection> {
    const certificate = await this.#certificate.get()
    options.signal?.throwIfAborted()
    await takeOver(connection, socket)
    if (socket.destroyed) throw new Error('the connection closed before the handshake')
    const muxers = this.#components.upgrader.getStreamMuxers()
    const names = options.skipStreamMuxerNegotiation === true ? [] : [...muxers.keys()]
    const common: TLSSocketOptions = {
      ...certificate,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      ciphers,
      // Certificates are signed by themselves; verifyPeerCertificate says whose they are.
      rejectUnauthorized: false
    }
    const secure = isServer
      ? new TLSSocket(socket, {
          ...common,
          isServer,
          requestCert: true,
          ALPNCallback: ({ protocols }) => protocols.find(name => name === noMuxer || names.includes(name))
        })
      : connect({ ...common, socket, ALPNProtocols: [...names, noMuxer] })
    secure.on('error', error => {
      secure.destroy()
      connection.abort(error)
    })
    try {
      await handshake(secure, options.signal)
      const remotePeer = await verifyPeerCertificate(secure.getPeerCertificate().raw, options.remotePeer, connection.log)
      return { remotePeer, connection: new SecureSocket(connection, secure), ...chosenMuxer(secure, muxers) }
    } catch (error) {
      secure.destroy()
      connection.abort(error as Error)
      throw error
    }
  }
}

function chosenMuxer(
  { alpnProtocol }: TLSSocket,
  muxers: ReadonlyMap<string, StreamMuxerFactory>
): { streamMuxer?: StreamMuxerFactory } {
  const streamMuxer = typeof alpnProtocol === 'string' ? muxers.get(alpnProtocol) : undefined
  return streamMuxer === undefined ? {} : { streamMuxer }
}

/** @returns null if the connection is not @libp2p/tcp's. */
function socketOf(connection: MessageStream): Socket | null {
  const { socket } = connection as { socket?: unknown }
  return socket instanceof Socket ? socket : null
}

/** Gives the socket what the connection has read ahead of the handshake, and keeps the connection from reading on. */
async function takeOver(connection: MessageStream, socket: Socket): Promise<void> {
  const ahead: Uint8Array[] = []
  const onMessage = ({ data }: { data: Uint8Array | Uint8ArrayList }) => void ahead.push(data.subarray())
  // A new listener is told in a microtask what waits: before anything else can arrive.
  connection.addEventListener('message', onMessage)
  await Promise.resolve()
  connection.removeEventListener('message', onMessage)
  socket.removeAllListeners('data')
  socket.pause()
  for (const bytes of ahead.reverse()) socket.unshift(bytes)
}

/** Resolves when the handshake is done. @throws when it fails, or the socket closes first, or `signal` says so. */
function handshake(secure: TLSSocket, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => settle(signal?.reason instanceof Error ? signal.reason : new Error('the handshake took too long'))
    const onClose = () => settle(new Error('the connection closed during the handshake'))
    // In a turn of its own: Node says it from within OpenSSL's reading, and whoever resets the socket at once (a node that finds that it
    // has dialed itself) frees what is being read with: the process ended by SIGSEGV.
    const onSecure = () => void setImmediate(settle, null)
    const settle = (error: Error | null) => {
      signal?.removeEventListener('abort', onAbort)
      secure.off('secure', onSecure).off('error', settle).off('close', onClose)
      if (error === null) resolve()
      else reject(error)
    }
    signal?.addEventListener('abort', onAbort)
    secure.on('secure', onSecure).on('error', settle).on('close', onClose)
  })
}

/** The encrypted connection as libp2p sees it. */
class SecureSocket extends AbstractMessageStream {
  readonly #connection: MessageStream
  readonly #socket: TLSSocket

  constructor(connection: MessageStream, socket: TLSSocket) {
    const { log, inactivityTimeout, maxReadBufferLength, direction } = connection
    super({ log, inactivityTimeout, maxReadBufferLength, direction })
    this.#connection = connection
    this.#socket = socket
    socket.on('data', bytes => this.onData(bytes))
    socket.on('drain', () => this.safeDispatchEvent('drain'))
    // The socket's end closes the TCP connection below, which says how it ended.
    connection.addEventListener('close', ({ error, local }) => {
      socket.destroy()
      if (error === undefined) this.onTransportClosed()
      else if (local === true) this.abort(error)
      else this.onRemoteReset()
    })
  }

  async close(options?: AbortOptions): Promise<void> {
    if (!this.#socket.closed) {
      const closed = once(this.#socket, 'close', { signal: options?.signal })
      this.#socket.destroySoon()
      await closed
    }
    await this.#connection.close(options)
  }

  sendData(data: Uint8ArrayList): SendResult {
    let sentBytes = 0
    let canSendMore = true
    // A frame's head of 12 bytes travels with what follows, not as a record and a write of its own.
    this.#socket.cork()
    for (const bytes of data) {
      sentBytes += bytes.byteLength
      canSendMore = this.#socket.write(bytes, error => {
        if (!error) giveSentBytes(bytes)
      })
      if (!canSendMore) break
    }
    this.#socket.uncork()
    return { sentBytes, canSendMore }
  }

  sendReset(error: Error): void {
    this.#connection.abort(error)
  }

  sendPause(): void {
    this.#socket.pause()
  }

  sendResume(): void {
    this.#socket.resume()
  }
}
