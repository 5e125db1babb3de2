/**
 * A network between the processes of one machine that can be cut and slowed (docs/scenarios.md, "The network").
 *
 *   node A ──from 127.x.y.1──▶ proxy of B at 127.x.y.2:4889 ──▶ node B at 127.x.y.2:4890
 *
 * Each node has a loopback address of its own: it listens there, announces its proxy's port there, and dials from there, so the proxy knows
 * by the source address which pair a connection belongs to. Lost instead: network namespaces with `tc netem` (root, and a kernel
 * that has netem), and looking up the owner of a source port (races, and another way on each system).
 *
 * Is: TCP. A cut link is silent, as behind a dead router: what was sent waits, and new connections get no answer. A lost segment costs what
 * a retransmission costs; nothing is reordered.
 * Is not: what nodes say over HTTP to the testnet; that is never cut.
 */
import { createServer, connect, type Server, type Socket } from 'node:net'
import { WorldlmError } from '../src/errors.ts'
import { Random } from '../src/math/random.ts'
import { type Lane, type LinkCondition, Pipe } from './pipe.ts'

export interface NodeAddresses {
  listen: string
  announce: string
  dialFrom: string
}

const nodePort = 4890
const proxyPort = 4889
/** Tries of an address range: other testnets of this machine may have some. */
const rangeTriesMax = 50

export class FaultyNetwork {
  readonly #hosts: Map<string, string>
  readonly #names: Map<string, string>
  readonly #lanes = new Map<string, Lane>()
  readonly #servers: Server[]
  readonly #sockets = new Set<Socket>()
  readonly #pipes = new Set<Pipe>()
  readonly #seed: number

  private constructor(hosts: Map<string, string>, servers: Server[], seed: number) {
    this.#hosts = hosts
    this.#names = new Map([...hosts].map(([name, host]) => [host, name]))
    this.#servers = servers
    this.#seed = seed
  }

  /** @param names - of the nodes, at most 200. @throws {WorldlmError} NO_LOOPBACK_RANGE */
  static async open(names: string[], seed: number): Promise<FaultyNetwork> {
    let failure: unknown = null
    for (let tries = 0; tries < rangeTriesMax; tries++) {
      const range = process.pid + tries * 7919
      const prefix = `127.${1 + (Math.floor(range / 250) % 250)}.${1 + (range % 250)}`
      const hosts = new Map(names.map((name, place) => [name, `${prefix}.${place + 1}`]))
      const servers: Server[] = []
      try {
        for (const host of hosts.values()) servers.push(await listen(host))
        const network = new FaultyNetwork(hosts, servers, seed)
        for (const [place, name] of names.entries()) servers[place]!.on('connection', socket => network.#accept(name, socket))
        return network
      } catch (error) {
        failure = error
        for (const server of servers) server.close()
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') break
      }
    }
    throw new WorldlmError(
      'NO_LOOPBACK_RANGE',
      `no address of its own on loopback could be had for each node: ${(failure as Error).message}`,
      'Cut and slow links need addresses like 127.1.2.3: Linux and Windows have them; on macOS add them with `sudo ifconfig lo0 alias`.',
      { cause: failure }
    )
  }

  /** What the node is configured with. */
  addressesOf(name: string): NodeAddresses {
    const host = this.#hosts.get(name)!
    return { listen: `/ip4/${host}/tcp/${nodePort}`, announce: `/ip4/${host}/tcp/${proxyPort}`, dialFrom: host }
  }

  /** Nothing passes between groups; who is in none is in a group with all others that are in none. */
  cut(groups: readonly (readonly string[])[]): void {
    const groupOf = (name: string) => groups.findIndex(group => group.includes(name))
    for (const from of this.#hosts.keys())
      for (const to of this.#hosts.keys()) if (from !== to) this.#lane(from, to).cut = groupOf(from) !== groupOf(to)
    this.#wake()
  }

  heal(): void {
    this.cut([])
  }

  /** Both directions between `left` and `right`; null: as fast as the machine is. */
  slow(left: string, right: string, condition: LinkCondition | null): void {
    this.#lane(left, right).condition = condition
    this.#lane(right, left).condition = condition
    this.#wake()
  }

  /** As fast as the machine is again, where nobody has said otherwise since. */
  endSlow(left: string, right: string, condition: LinkCondition): void {
    if (this.#lane(left, right).condition === condition) this.slow(left, right, null)
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    for (const pipe of this.#pipes) pipe.close()
    await Promise.all(this.#servers.map(server => new Promise<void>(resolve => server.close(() => resolve()))))
  }

  #lane(from: string, to: string): Lane {
    const key = `${from}→${to}`
    let lane = this.#lanes.get(key)
    if (lane === undefined) {
      lane = { condition: null, cut: false, freeAt: 0, random: new Random(`${this.#seed}/${key}`) }
      this.#lanes.set(key, lane)
    }
    return lane
  }

  #wake(): void {
    for (const pipe of this.#pipes) pipe.wake()
  }

  /** A connection to the proxy of `to`. It reaches the node once the link lets it. */
  #accept(to: string, dialer: Socket): void {
    this.#keep(dialer)
    const from = this.#names.get((dialer.remoteAddress ?? '').replace('::ffff:', ''))
    const there = from === undefined ? freeLane() : this.#lane(from, to)
    const back = from === undefined ? freeLane() : this.#lane(to, from)
    const reach = () => {
      const node = this.#keep(connect(nodePort, this.#hosts.get(to)!))
      this.#pipe(node, back, () => dialer)
      return node
    }
    this.#pipe(dialer, there, reach).begin()
  }

  #pipe(source: Socket, lane: Lane, reach: () => Socket): Pipe {
    const pipe: Pipe = new Pipe(source, lane, reach, () => this.#pipes.delete(pipe))
    this.#pipes.add(pipe)
    return pipe
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket)
    socket.setNoDelay(true)
    socket.on('error', () => undefined)
    socket.on('close', () => this.#sockets.delete(socket))
    return socket
  }
}

/** For who is no node of the testnet. */
const freeLane = (): Lane => ({ condition: null, cut: false, freeAt: 0, random: new Random('free') })

function listen(host: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    // A side that ends keeps its ear open: whether the other hears of it is the link's affair.
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
    server.once('error', reject)
    server.listen(proxyPort, host, () => resolve(server))
  })
}
