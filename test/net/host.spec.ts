/** Hosts that know one address: the directory, gossip with its validators and budgets, direct messages. All on loopback, any free port. */
import { loopbackHost } from '../../bench/loopback-host.ts'
import assert from 'node:assert/strict'
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { connectionLimits } from '../../src/net/connection-limits.ts'
import { Directory } from '../../src/net/directory.ts'
import { Direct } from '../../src/net/direct.ts'
import { Gossip, type Verdict } from '../../src/net/gossip.ts'
import { type Host, peerNameOf } from '../../src/net/host.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import { verifyPeerSignature } from '../../src/wire/signature.ts'
import { peerOf } from '../wire/peers.ts'

const federation = linkOf(new TextEncoder().encode('a federation'))
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
const bytesOf = (words: string): Uint8Array => new TextEncoder().encode(words)

interface Scores {
  score: { score(peer: string): number }
}

/** Waits for a condition, not for a time. The test's own timeout ends it. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20)
}

describe('hosts', function () {
  this.timeout(60_000)
  let closing: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closing.reverse()) await close()
    closing = []
  })

  async function host(bootstrap: string[] = [], identity?: Uint8Array): Promise<Host> {
    const made = await loopbackHost({ bootstrap, ...(identity && { identity }) })
    closing.push(() => made.stop())
    return made
  }

  it('are named by their key, and sign with it', async () => {
    const { identity, peer } = peerOf('a')
    assert.equal(peerNameOf(identity), peer)
    const one = await host([], identity)
    assert.equal(one.peer, peer)
    assert.deepEqual(one.sign(bytesOf('x')), peerOf('a').sign(bytesOf('x')))
    assert.equal(verifyPeerSignature(one.peer, bytesOf('x'), one.sign(bytesOf('x'))), true)
    assert.ok(one.addresses().every(address => address.startsWith('/ip4/127.0.0.1/tcp/') && address.endsWith(`/p2p/${peer}`)))
  })

  it('refuse what they cannot begin with, by name', async () => {
    const start = (facts: object) => loopbackHost({ identity: peerOf('a').identity, ...facts })
    await assert.rejects(start({ identity: bytesOf('no key') }), { code: 'IDENTITY_DAMAGED' })
    // A bit of the private half, and one of the public half.
    for (const place of [20, 50]) {
      const identity = Uint8Array.from(peerOf('a').identity)
      identity[place]! ^= 1
      await assert.rejects(start({ identity }), { code: 'IDENTITY_DAMAGED', message: /half/ })
      assert.throws(() => peerNameOf(identity), { code: 'IDENTITY_DAMAGED' })
    }
    const rsa = privateKeyToProtobuf(await generateKeyPair('RSA', 2048))
    await assert.rejects(start({ identity: rsa }), { code: 'IDENTITY_DAMAGED', message: /RSA/ })
    await assert.rejects(start({ listen: ['localhost:1'] }), { code: 'BAD_ADDRESS', message: /localhost:1/ })
    await assert.rejects(start({ bootstrap: ['nobody'] }), { code: 'BAD_ADDRESS', message: /nobody/ })
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    await assert.rejects(start({ listen: [`/ip4/127.0.0.1/tcp/${port}`] }), {
      code: 'PORT_IN_USE',
      message: new RegExp(String(port))
    })
    server.close()
  })

  it('take no more connections than leave room for their files', () => {
    assert.deepEqual(connectionLimits(Number.POSITIVE_INFINITY), { connections: 1000, pending: 100 })
    assert.deepEqual(connectionLimits(20_000), { connections: 1000, pending: 100 })
    for (const files of [128, 256, 1024, 1200]) {
      const { connections, pending } = connectionLimits(files)
      assert.ok(connections + pending <= files - 80 && connections >= 36, `${files}: ${connections} and ${pending}`)
    }
    assert.deepEqual(connectionLimits(64), { connections: 8, pending: 4 }, 'few, and not none')
  })

  it('all find each other through the DHT from the first one’s address alone', async () => {
    const first = await host()
    const others = await Promise.all([1, 2, 3, 4].map(() => host(first.addresses().slice(0, 1))))
    const all = [first, ...others]
    for (const one of all) {
      const directory = new Directory(one)
      closing.push(() => directory.stop())
      // Whoever asked first has what it wanted: the search goes on for the second.
      directory.follow(federation, () => true)
      directory.follow(federation, () => all.every(other => other === one || one.connected(other.peer)))
    }
    await until(() => all.every(one => all.every(other => other === one || one.connected(other.peer))))
  })

  it('say once that a bootstrap peer cannot be reached, however often they try', async () => {
    const gone = await host()
    const address = gone.addresses()[0]!
    await gone.stop()
    closing = []
    const said: string[] = []
    const waiting = await loopbackHost({
      bootstrap: [address],
      onWarning: (code, message) => void said.push(`${code} ${message}`)
    })
    closing.push(() => waiting.stop())
    let tries = 0
    const { dial } = waiting.libp2p
    waiting.libp2p.dial = (...given) => {
      tries++
      return dial.apply(waiting.libp2p, given)
    }
    await until(() => tries >= 3)
    assert.equal(said.length, 1, said.join('\n'))
    assert.ok(said[0]!.startsWith(`BOOTSTRAP_UNREACHABLE ${address}: `), said[0])
  })

  it('do not dial themselves where the list of bootstrap addresses holds their own', async () => {
    const early = await host()
    const address = early.addresses()[0]!.replace(/\/p2p\/.*/, '')
    await early.stop()
    closing = []
    const said: string[] = []
    const own = await loopbackHost({
      listen: [address],
      bootstrap: [address],
      onWarning: (_code, message) => void said.push(message)
    })
    closing.push(() => own.stop())
    await sleep(500)
    assert.deepEqual(said, [])
  })

  it('do not give up a bootstrap peer that comes later', async () => {
    const { identity } = peerOf('late')
    const early = await host()
    const address = early.addresses()[0]!.replace(/\/p2p\/.*/, '')
    await early.stop()
    closing = []
    const waiting = await host([`${address}/p2p/${peerNameOf(identity)}`])
    const late = await loopbackHost({ identity, listen: [address] })
    closing.push(() => late.stop())
    await until(() => waiting.connected(late.peer))
  })

  it('have the addresses of those that they begin with, also for who asks for one by its name', async () => {
    const first = await host()
    const [address] = first.addresses()
    const second = await host([address!])
    assert.deepEqual(await second.addressesOf(first.peer), [address!.replace(/\/p2p\/.*/, '')])
  })

  it('that dial one another need not do so once the other has come', async () => {
    const [one, other] = [await host(), await host()]
    // It takes the connection, and never says a word.
    const silent = createServer()
    await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
    closing.push(async () => void silent.close())
    const { port } = silent.address() as AddressInfo
    await one.learn(other.peer, [`/ip4/127.0.0.1/tcp/${port}`])
    const dialed = one.dial(other.peer)
    await new Promise(resolve => silent.once('connection', resolve))
    await other.learn(one.peer, one.addresses())
    await other.dial(one.peer)
    await dialed
    assert.ok(one.connected(other.peer))
  })

  it('dial anew who was there and has gone', async () => {
    const [one, other] = [await host(), await host()]
    await one.learn(other.peer, other.addresses())
    await one.dial(other.peer)
    await other.stop()
    await until(() => !one.connected(other.peer))
    await assert.rejects(one.dial(other.peer))
  })

  describe('that gossip', () => {
    const topic = '/worldlm/1/test'
    async function three(judge: (from: string, bytes: Uint8Array) => Verdict = () => 'accept') {
      const first = await host()
      const hosts = [first, await host(first.addresses()), await host(first.addresses())]
      const heard = hosts.map(() => [] as string[])
      const gossips = hosts.map((one, place) => {
        const gossip = new Gossip(one)
        gossip.join(topic, judge, (_from, bytes) => void heard[place]!.push(text(bytes)))
        return gossip
      })
      await until(() => gossips[0]!.subscribers(topic).length === 2)
      return { hosts, gossips, heard }
    }
    /** Gossip may lose what is said before its mesh stands. */
    async function sayUntil(say: () => Promise<void>, condition: () => boolean): Promise<void> {
      while (!condition()) {
        await say()
        await sleep(100)
      }
    }

    it('hear what a member says, through others too, with its name; never themselves', async () => {
      const { hosts, gossips, heard } = await three()
      let count = 0
      await sayUntil(
        () => gossips[1]!.publish(topic, bytesOf(`hello ${count++}`)),
        () => heard[0]!.length > 0 && heard[2]!.length > 0
      )
      assert.ok(heard[2]!.every(words => words.startsWith('hello')))
      assert.deepEqual(heard[1], [])
      gossips[2]!.leave(topic)
      await until(() => !gossips[0]!.subscribers(topic).includes(hosts[2]!.peer))
    })

    it('pass on nothing that a validator ignores or rejects, and count it', async () => {
      const { gossips, heard } = await three((_from, bytes) =>
        text(bytes).startsWith('bad') ? 'reject' : text(bytes).startsWith('odd') ? 'ignore' : 'accept'
      )
      let count = 0
      await sayUntil(
        async () => {
          for (const word of ['bad', 'odd', 'good']) await gossips[1]!.publish(topic, bytesOf(`${word} ${count++}`))
        },
        () => heard[0]!.length > 2 && gossips[0]!.counts.ignore > 0
      )
      assert.ok(heard.flat().every(words => words.startsWith('good')))
      assert.ok(gossips[0]!.counts.accept >= heard[0]!.length)
    })

    it('take nothing any more from a neighbour that said what is rejected', async () => {
      const { hosts, gossips, heard } = await three((_from, bytes) => (text(bytes).startsWith('bad') ? 'reject' : 'accept'))
      let count = 0
      await sayUntil(
        () => gossips[1]!.publish(topic, bytesOf(`good ${count++}`)),
        () => heard[0]!.length > 0
      )
      const score = () => (hosts[0]!.libp2p.services.pubsub as unknown as Scores).score.score(hosts[1]!.peer)
      await sayUntil(
        () => gossips[1]!.publish(topic, bytesOf(`bad ${count++}`)),
        () => score() < -80
      )
      const { accept, reject } = gossips[0]!.counts
      // gossipsub looks at a neighbour's score once a second.
      await sleep(1_500)
      const before = gossips[0]!.counts.reject
      for (let said = 0; said < 50; said++) await gossips[1]!.publish(topic, bytesOf(`bad ${count++}`))
      await sayUntil(
        () => gossips[2]!.publish(topic, bytesOf(`calm ${count++}`)),
        () => heard[0]!.some(words => words.startsWith('calm'))
      )
      assert.equal(gossips[0]!.counts.reject, before, 'it was still listened to')
      assert.ok(reject >= 9 && gossips[0]!.counts.accept > accept)
    })

    it('ignore who says more than its budget, and hear the others', async () => {
      const { gossips, heard } = await three()
      let warm = 0
      await sayUntil(
        () => gossips[1]!.publish(topic, bytesOf(`warm ${warm++}`)),
        () => heard[0]!.length > 0
      )
      for (let count = 0; count < limits.gossipBurst * 3; count++) await gossips[1]!.publish(topic, bytesOf(`flood ${count}`))
      await until(() => gossips[0]!.counts.overBudget > 0)
      const flood = heard[0]!.filter(words => words.startsWith('flood')).length
      assert.ok(flood <= limits.gossipBurst * 2, `${flood} of the flood were heard`)
      let count = 0
      await sayUntil(
        () => gossips[2]!.publish(topic, bytesOf(`calm ${count++}`)),
        () => heard[0]!.some(words => words.startsWith('calm'))
      )
    })
  })

  describe('that speak directly', () => {
    it('deliver in order, answer questions, and give up on who is not there', async () => {
      const [one, other] = [await host(), await host()]
      const heard: [string, string][] = []
      await Direct.start(
        other,
        (from, bytes) => void heard.push([from, text(bytes)]),
        async (_from, bytes) => {
          if (text(bytes) === 'fail') throw new Error('no answer')
          return bytesOf(`${text(bytes)}!`)
        }
      )
      const direct = await Direct.start(
        one,
        () => undefined,
        async bytes => bytesOf(bytes)
      )
      await one.learn(other.peer, other.addresses())
      for (let count = 0; count < 100; count++) direct.send(other.peer, bytesOf(String(count)))
      await until(() => heard.length === 100)
      assert.deepEqual(
        heard,
        Array.from({ length: 100 }, (_, count) => [one.peer, String(count)])
      )
      assert.equal(text(await direct.ask(other.peer, bytesOf('well'), 5_000)), 'well!')
      const answers = await Promise.all(['a', 'b', 'c'].map(word => direct.ask(other.peer, bytesOf(word), 5_000)))
      assert.deepEqual(answers.map(text), ['a!', 'b!', 'c!'])
      await assert.rejects(direct.ask(other.peer, bytesOf('fail'), 5_000))
      await assert.rejects(direct.ask(peerOf('nobody').peer, bytesOf('?'), 1_000))
      assert.doesNotThrow(() => direct.send(peerOf('nobody').peer, bytesOf('lost')))
    })

    it('are heard again after a break: the next message opens another stream', async () => {
      const [one, other] = [await host(), await host()]
      const heard: string[] = []
      await Direct.start(
        other,
        (_from, bytes) => void heard.push(text(bytes)),
        async () => bytesOf('')
      )
      const direct = await Direct.start(
        one,
        () => undefined,
        async () => bytesOf('')
      )
      await one.learn(other.peer, other.addresses())
      direct.send(other.peer, bytesOf('before'))
      await until(() => heard.includes('before'))
      for (const connection of one.libp2p.getConnections()) await connection.close()
      while (!heard.includes('after')) {
        direct.send(other.peer, bytesOf('after'))
        await sleep(100)
      }
    })

    it('do not let an oversize message through, nor stop for it', async () => {
      const [one, other] = [await host(), await host()]
      const heard: number[] = []
      await Direct.start(
        other,
        (_from, bytes) => void heard.push(bytes.length),
        async () => bytesOf('ok')
      )
      const direct = await Direct.start(
        one,
        () => undefined,
        async () => bytesOf('')
      )
      await one.learn(other.peer, other.addresses())
      direct.send(other.peer, new Uint8Array(limits.consensusBytesMax + 1))
      while (!heard.includes(3)) {
        direct.send(other.peer, new Uint8Array(3))
        await sleep(100)
      }
      assert.ok(heard.every(length => length === 3))
      await assert.rejects(direct.ask(other.peer, new Uint8Array(limits.fetchQuestionBytesMax + 1), 5_000))
      assert.equal(text(await direct.ask(other.peer, bytesOf('?'), 5_000)), 'ok')
    })
  })
})
