/** The network that can be cut and slowed, between real sockets. No time is asserted but that something waits for what it must wait for. */
import assert from 'node:assert/strict'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { createHash } from 'node:crypto'
import { Random } from '../../src/math/random.ts'
import { FaultyNetwork } from '../../testnet/proxy.ts'

const parts = (address: string) => ({ host: address.split('/')[2]!, port: Number(address.split('/')[4]) })

/** A node that sends back what it gets. */
function echo(network: FaultyNetwork, name: string): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => undefined)
    socket.pipe(socket)
  })
  const { host, port } = parts(network.addressesOf(name).listen)
  return new Promise(resolve => server.listen(port, host, () => resolve(server)))
}

function dial(network: FaultyNetwork, from: string, to: string): Socket {
  const { host, port } = parts(network.addressesOf(to).announce)
  const socket = connect({ host, port, localAddress: network.addressesOf(from).dialFrom })
  socket.on('error', () => undefined)
  return socket
}

/** As many characters as `expected` has, after `text` was sent; null if they do not come within `ms`. */
function ask(socket: Socket, text: string, ms = 3_000, expected = text): Promise<string | null> {
  return new Promise(resolve => {
    let got = ''
    const end = (answer: string | null) => {
      socket.off('data', take)
      clearTimeout(timer)
      resolve(answer)
    }
    const take = (bytes: Buffer) => {
      got += bytes.toString()
      if (got.length >= expected.length) end(got)
    }
    const timer = setTimeout(() => end(null), ms)
    socket.on('data', take)
    socket.write(text)
  })
}

describe('a network that can be cut and slowed', () => {
  let network: FaultyNetwork
  const servers: Server[] = []
  const sockets: Socket[] = []
  const open = (from: string, to: string) => {
    const socket = dial(network, from, to)
    sockets.push(socket)
    return socket
  }
  beforeEach(async function () {
    // macOS has 127.0.0.1 alone; the testnet says so there.
    if (process.platform === 'darwin') this.skip()
    network = await FaultyNetwork.open(['a', 'b', 'c'], 1)
    for (const name of ['a', 'b', 'c']) servers.push(await echo(network, name))
  })
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy()
    await network?.close()
    for (const server of servers.splice(0)) server.close()
  })

  it('passes all bytes on, in order, and the end', async () => {
    const random = new Random('bytes')
    // More than waits in line at most.
    const sent = Buffer.alloc(20_000_000, Buffer.from(Array.from({ length: 4_099 }, () => random.below(256))))
    const socket = open('a', 'b')
    const got = createHash('sha256')
    let count = 0
    const ended = new Promise<void>(resolve => socket.on('end', resolve))
    socket.on('data', bytes => {
      got.update(bytes)
      count += bytes.length
    })
    socket.end(sent)
    await ended
    assert.equal(count, sent.length)
    assert.equal(got.digest('hex'), createHash('sha256').update(sent).digest('hex'))
  })

  it('holds what is sent over a cut link until it is healed, and lets others pass', async () => {
    const [ab, ac] = [open('a', 'b'), open('a', 'c')]
    assert.equal(await ask(ab, 'one'), 'one')
    network.cut([['a', 'c'], ['b']])
    assert.equal(await ask(ab, 'two', 300), null)
    assert.equal(await ask(ac, 'past'), 'past')
    const late = open('b', 'c')
    assert.equal(await ask(late, 'new', 300), null, 'a new connection gets no answer')
    network.heal()
    assert.equal(await ask(ab, 'three', 3_000, 'twothree'), 'twothree', 'what waited comes first')
    assert.equal(await ask(late, 'er', 3_000, 'newer'), 'newer')
  })

  it('does not tell of an end that lies behind a cut', async () => {
    const socket = open('a', 'b')
    assert.equal(await ask(socket, 'one'), 'one')
    network.cut([['a'], ['b']])
    let ended = false
    socket.on('end', () => {
      ended = true
    })
    // Its node sends the end back when it hears of it.
    socket.end()
    await new Promise(resolve => setTimeout(resolve, 300))
    assert.equal(ended, false)
    network.heal()
    await new Promise<void>(resolve => (ended ? resolve() : socket.on('end', () => resolve())))
  })

  it('delays by the latency of both ways, and no other link', async () => {
    const [ab, ac] = [open('a', 'b'), open('a', 'c')]
    await ask(ab, 'warm')
    network.slow('a', 'b', { latencyMs: 100, bytesPerSecond: 0, loss: 0 })
    const began = performance.now()
    assert.equal(await ask(ab, 'slow'), 'slow')
    assert.ok(performance.now() - began >= 195, 'two ways of 100 ms')
    assert.equal(await ask(ac, 'fast'), 'fast')
    const dialed = performance.now()
    assert.equal(await ask(open('a', 'b'), 'new'), 'new')
    assert.ok(performance.now() - dialed >= 295, 'a connection takes a round trip of its own')
    network.slow('a', 'b', null)
    assert.equal(await ask(ab, 'fast'), 'fast')
  })

  it('holds a link to its rate', async () => {
    network.slow('a', 'b', { latencyMs: 0, bytesPerSecond: 1_000_000, loss: 0 })
    const socket = open('a', 'b')
    const began = performance.now()
    const sent = 'x'.repeat(400_000)
    assert.equal(await ask(socket, sent, 10_000), sent)
    assert.ok(performance.now() - began >= 390, '400 kB at 1 MB/s')
  })

  it('lets little wait in line for a slow link: what another connection has to say does not come after it all', async () => {
    network.slow('a', 'b', { latencyMs: 0, bytesPerSecond: 200_000, loss: 0 })
    const [bulk, word] = [open('a', 'b'), open('a', 'b')]
    // Of three megabytes each way the first takes fifteen seconds.
    bulk.write('x'.repeat(3_000_000))
    await new Promise(resolve => setTimeout(resolve, 200))
    assert.equal(await ask(word, 'alive', 10_000), 'alive')
  })

  it('ends a connection whose node is not there', async () => {
    servers[1]!.close()
    const socket = open('a', 'b')
    await new Promise<void>(resolve => socket.on('close', () => resolve()))
  })
})
