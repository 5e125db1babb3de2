/** TLS straight on the socket, beside the unmodified @libp2p/tls: both directions, what is refused, and how connections end. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { ConnectionEncrypter, MessageStream, SecuredConnection, Stream } from '@libp2p/interface'
import { identify } from '@libp2p/identify'
import { peerIdFromString } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { type TLSComponents, tls } from '@libp2p/tls'
import { generateCertificate } from '@libp2p/tls/utils'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { Random } from '../../src/math/random.ts'
import { createIdentity, peerNameOf } from '../../src/net/host.ts'
import { socketTls } from '../../src/net/socket-tls.ts'
import { linkOf } from '../../src/wire/codec.ts'

type Kind = 'on the socket' | 'on a stream'
type Encrypter = (components: TLSComponents) => ConnectionEncrypter
const encrypters: Record<Kind, () => Encrypter> = { 'on the socket': socketTls, 'on a stream': tls }
const echo = '/echo/1'

function randomBytes(length: number): Uint8Array {
  const random = new Random('tls')
  return Uint8Array.from({ length }, () => random.below(256))
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10)
}

describe('TLS on the socket', function () {
  this.timeout(60_000)
  let started: Libp2p[] = []
  afterEach(async () => {
    await Promise.all(started.map(one => one.stop()))
    started = []
  })

  async function peer(encrypter: Encrypter): Promise<Libp2p> {
    const made = await createLibp2p({
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [encrypter],
      streamMuxers: [yamux()],
      services: { identify: identify() }
    })
    await made.handle(echo, stream => stream.addEventListener('message', ({ data }) => void stream.send(data.slice())))
    started.push(made)
    return made
  }

  async function there(from: Libp2p, to: Libp2p, bytes: Uint8Array): Promise<Uint8Array> {
    const stream: Stream = await from.dialProtocol(to.getMultiaddrs(), echo)
    const parts: Uint8Array[] = []
    stream.addEventListener('message', ({ data }) => void parts.push(data.slice()))
    const length = () => parts.reduce((sum, part) => sum + part.length, 0)
    for (let sent = 0; sent < bytes.length; sent += 100_000) {
      const part = bytes.subarray(sent, sent + 100_000)
      stream.send(part)
      await until(() => length() === sent + part.length)
    }
    await stream.close()
    return new Uint8Array(Buffer.concat(parts))
  }

  it('outlives a host that dials itself by an address without a name', async () => {
    const script = `
      import { loopbackHost } from ${JSON.stringify(new URL('../../bench/loopback-host.ts', import.meta.url).href)}
      import { multiaddr } from ${JSON.stringify(import.meta.resolve('@multiformats/multiaddr'))}
      const host = await loopbackHost()
      const address = multiaddr(host.addresses()[0].replace(/\\/p2p\\/.*/, ''))
      for (let tries = 0; tries < 5; tries++) await host.libp2p.dial(address).catch(error => console.log(error.message))
      await host.stop()
      process.exit()`
    // In a process of its own, which it ended.
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])
    assert.deepEqual(
      stdout.trim().split('\n'),
      Array.from({ length: 5 }, () => 'Can not dial self')
    )
  })

  for (const dialer of Object.keys(encrypters) as Kind[])
    for (const listener of Object.keys(encrypters) as Kind[])
      it(`carries bytes unchanged: from one ${dialer} to one ${listener}`, async () => {
        const [from, to] = [await peer(encrypters[dialer]()), await peer(encrypters[listener]())]
        const bytes = randomBytes(1_000_000)
        assert.equal(linkOf(await there(from, to, bytes)), linkOf(bytes))
        const [outbound, inbound] = [from.getConnections()[0]!, to.getConnections()[0]!]
        assert.deepEqual([outbound.encryption, inbound.encryption], ['/tls/1.0.0', '/tls/1.0.0'])
        assert.deepEqual([outbound.multiplexer, inbound.multiplexer], ['/yamux/1.0.0', '/yamux/1.0.0'])
        assert.deepEqual([outbound.remotePeer, inbound.remotePeer], [to.peerId, from.peerId])
      })

  it('really stands on the socket of this version of @libp2p/tcp', async () => {
    const kinds: string[] = []
    const watched: Encrypter = components => {
      const inner = socketTls()(components)
      const seen = (secured: SecuredConnection) => {
        kinds.push(secured.connection.constructor.name)
        return secured
      }
      return {
        protocol: inner.protocol,
        secureInbound: async (connection: MessageStream, options) => seen(await inner.secureInbound(connection, options)),
        secureOutbound: async (connection: MessageStream, options) => seen(await inner.secureOutbound(connection, options))
      }
    }
    const [from, to] = [await peer(watched), await peer(watched)]
    await from.dial(to.getMultiaddrs())
    await until(() => kinds.length === 2)
    assert.deepEqual(kinds, ['SecureSocket', 'SecureSocket'])
  })

  it('refuses a peer that is not who was called', async () => {
    const [from, to] = [await peer(socketTls()), await peer(socketTls())]
    const address = to.getMultiaddrs()[0]!.toString().split('/p2p/')[0]
    const other = peerNameOf(await createIdentity())
    await assert.rejects(from.dial(multiaddr(`${address}/p2p/${other}`)), /peer id|UnexpectedPeer|Encryption/i)
    await until(() => from.getConnections().length === 0 && to.getConnections().length === 0)
  })

  it('refuses a client that shows no certificate', async () => {
    const to = await peer(socketTls())
    const socket = await rawSocket(to)
    const client = connectTls({ socket: eager(socket), rejectUnauthorized: false, ALPNProtocols: ['libp2p'] })
    client.on('error', () => undefined)
    await once(client, 'close')
    assert.equal(to.getConnections().length, 0)
  })

  it('takes a handshake that came in one piece with the choice of protocol', async () => {
    const to = await peer(socketTls())
    const privateKey = await generateKeyPair('Ed25519')
    const socket = await rawSocket(to)
    const client = connectTls({
      ...(await generateCertificate(privateKey)),
      socket: eager(socket),
      rejectUnauthorized: false,
      ALPNProtocols: ['/yamux/1.0.0', 'libp2p']
    })
    client.on('error', () => undefined)
    await once(client, 'secureConnect')
    assert.equal(client.alpnProtocol, '/yamux/1.0.0')
    await until(() => to.getConnections().length === 1)
    assert.deepEqual(to.getConnections()[0]!.remotePeer.publicKey?.raw, privateKey.publicKey.raw)
    client.destroy()
    await until(() => to.getConnections().length === 0)
  })

  for (const { how, end } of [
    { how: 'closed', end: (from: Libp2p, to: Libp2p) => from.hangUp(to.peerId) },
    {
      how: 'broken off',
      end: async (from: Libp2p) => from.getConnections()[0]!.abort(new Error('enough'))
    }
  ])
    it(`ends on both sides when it is ${how}`, async () => {
      const [from, to] = [await peer(socketTls()), await peer(socketTls())]
      await there(from, to, randomBytes(1000))
      await end(from, to)
      await until(() => from.getConnections().length === 0 && to.getConnections().length === 0)
      // And both can meet again.
      await to.dial(from.getMultiaddrs())
      assert.equal(to.getConnections(peerIdFromString(from.peerId.toString())).length, 1)
    })
})

async function rawSocket(to: Libp2p): Promise<Socket> {
  const port = Number(/\/tcp\/(\d+)/.exec(to.getMultiaddrs()[0]!.toString())?.[1])
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  return socket
}

/** Sends multistream-select's two lines together with the first bytes, and takes their echo away: what a hurried peer does. */
function eager(socket: Socket): Duplex {
  const lines = Buffer.concat(
    ['/multistream/1.0.0\n', '/tls/1.0.0\n'].map(line => Buffer.from(`${String.fromCharCode(line.length)}${line}`))
  )
  let first = true
  let answered = Buffer.alloc(0)
  const duplex = new Duplex({
    write(bytes: Buffer, _, done) {
      socket.write(first ? Buffer.concat([lines, bytes]) : bytes, done)
      first = false
    },
    read: () => undefined,
    destroy(error, done) {
      socket.destroy()
      done(error)
    }
  })
  socket.on('data', bytes => {
    if (answered.length >= lines.length) return void duplex.push(bytes)
    answered = Buffer.concat([answered, bytes])
    if (answered.length > lines.length) duplex.push(answered.subarray(lines.length))
  })
  socket.on('end', () => duplex.push(null))
  socket.on('error', () => duplex.destroy())
  socket.on('close', () => duplex.destroy())
  return duplex
}
