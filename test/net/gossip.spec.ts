/** Gossip that is said again by others than who said it: what was heard once counts once, whoever brings it and however late. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { TopicValidatorResult } from '@libp2p/gossipsub'
import { multiaddr } from '@multiformats/multiaddr'
import { Random } from '../../src/math/random.ts'
import { Gossip } from '../../src/net/gossip.ts'
import { createIdentity, Host } from '../../src/net/host.ts'
import { limits } from '../../src/wire/limits.ts'

const topic = '/worldlm/1/test'
const from = { toString: () => 'member' }

/** A host whose gossipsub has forgotten what it has seen: each message comes to the validator. */
function forgetful() {
  const connected: ((event: { detail: typeof from }) => void)[] = []
  const topicValidators = new Map<string, (relay: unknown, message: unknown) => TopicValidatorResult>()
  const followed = new Set<string>()
  const scored: Record<string, unknown> = {}
  const pubsub = {
    topicValidators,
    opts: { scoreParams: { topics: scored } },
    addEventListener: () => undefined,
    subscribe: (name: string) => void followed.add(name),
    unsubscribe: (name: string) => void followed.delete(name)
  }
  const addEventListener = (_type: string, listener: (event: { detail: typeof from }) => void) => void connected.push(listener)
  const host = { peer: 'self', libp2p: { services: { pubsub }, addEventListener, getConnections: () => [] } } as unknown as Host
  const gossip = new Gossip(host)
  gossip.join(
    topic,
    () => 'accept',
    () => undefined
  )
  const judge = (message: object) => topicValidators.get(topic)!('relay', message)
  const say = (number: bigint, by = from): boolean =>
    judge({ type: 'signed', from: by, sequenceNumber: number, data: new Uint8Array(1) }) === TopicValidatorResult.Accept
  const connect = () => {
    for (const listener of connected) listener({ detail: from })
  }
  return { gossip, say, connect, judge, has: () => [followed.has(topic), topicValidators.has(topic), topic in scored] }
}

describe('gossip that is replayed', () => {
  const began = BigInt(1_790_000_000_000) * 1_000_000n

  it('is heard once, also long after gossipsub forgot it', () => {
    const { gossip, say } = forgetful()
    const numbers = Array.from({ length: 20 }, (_, place) => began + BigInt(place))
    assert.ok(numbers.every(number => say(number)))
    assert.ok(!numbers.some(number => say(number)))
    assert.equal(gossip.counts.again, 20)
    assert.equal(say(began, { toString: () => 'another' }), true, 'each sender counts for itself')
  })

  it('is ignored where it is older than all that could have been overtaken', () => {
    const { say } = forgetful()
    const window = BigInt(limits.gossipWindow)
    assert.ok(say(began + window))
    assert.equal(say(began), false)
    assert.equal(say(began + 1n), true)
    // Another process of the same sender, later.
    assert.ok(say(began + 3_600_000_000_000n))
    assert.equal(say(began + window + 1n), false)
  })

  it('does not spend the budget of who said it', () => {
    const { gossip, say } = forgetful()
    assert.ok(say(began))
    for (let again = 0; again < limits.gossipBurst * 3; again++) say(began)
    assert.ok(say(began + 1n))
    assert.equal(gossip.counts.overBudget, 0)
  })

  it('is what is told from one that is overtaken: in any order, each is heard once', () => {
    for (let seed = 0; seed < 50; seed++) {
      const { say } = forgetful()
      const random = new Random(`order/${seed}`)
      // No more than one burst, which is half of the window.
      const left = Array.from({ length: limits.gossipBurst }, (_, place) => began + BigInt(place))
      while (left.length > 0) {
        const [number] = left.splice(random.below(left.length), 1) as [bigint]
        assert.ok(say(number), `seed ${seed}`)
        assert.ok(!say(number), `seed ${seed}`)
      }
    }
  })

  it('is believed anew of who connects: its clock may have been set back', () => {
    const { say, connect } = forgetful()
    assert.ok(say(began))
    assert.equal(say(began - 3_600_000_000_000n), false)
    connect()
    assert.equal(say(began - 3_600_000_000_000n), true)
  })
})

describe('gossip', () => {
  it('is rejected where it is unsigned, or too long', () => {
    const { gossip, judge } = forgetful()
    const signed = (length: number) => ({ type: 'signed', from, sequenceNumber: BigInt(length), data: new Uint8Array(length) })
    assert.equal(judge(signed(limits.gossipBytesMax)), TopicValidatorResult.Accept)
    assert.equal(judge(signed(limits.gossipBytesMax + 1)), TopicValidatorResult.Reject)
    assert.equal(judge({ type: 'unsigned', data: new Uint8Array(1) }), TopicValidatorResult.Reject)
    assert.deepEqual([gossip.counts.accept, gossip.counts.reject], [1, 2])
  })

  it('is heard in bursts, and between them as often as a sender may speak, however long it was silent before', () => {
    const nowReally = performance.now
    let nowMs = 0
    performance.now = () => nowMs
    try {
      const { say } = forgetful()
      let number = 0n
      const heard = () => Array.from({ length: 1_000 }, () => say(++number)).filter(isHeard => isHeard).length
      assert.equal(heard(), limits.gossipBurst)
      nowMs = 1_000
      assert.equal(heard(), limits.gossipPerSecond)
      nowMs = 3_600_000
      assert.equal(heard(), limits.gossipBurst)
    } finally {
      performance.now = nowReally
    }
  })

  it('of a topic that was left is asked for no more, nor judged', () => {
    const { gossip, has } = forgetful()
    assert.deepEqual(has(), [true, true, true])
    gossip.leave(topic)
    assert.deepEqual(has(), [false, false, false])
  })
})

describe('gossip between two peers with two connections', () => {
  it('goes on when the one that it went over breaks', async function () {
    this.timeout(60_000)
    const hosts: Host[] = []
    const heard: string[][] = []
    const gossips: Gossip[] = []
    try {
      for (let count = 0; count < 2; count++) {
        const options = { listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false, onWarning: () => undefined }
        const host = await Host.start({ identity: await createIdentity(), ...options })
        hosts.push(host)
        const gossip = new Gossip(host)
        const said: string[] = []
        heard.push(said)
        gossip.join(
          topic,
          () => 'accept',
          (_from, bytes) => said.push(Buffer.from(bytes).toString())
        )
        gossips.push(gossip)
      }
      const [{ libp2p }, other] = hosts as [Host, Host]
      // gossipsub opens its streams when a connection is identified.
      let identified = 0
      for (const host of hosts) host.libp2p.addEventListener('peer:identify', () => identified++)
      const address = multiaddr(other.addresses()[0]!)
      await libp2p.dial(address)
      await until(() => gossips.every(gossip => gossip.subscribers(topic).length === 1))
      await libp2p.dial(address, { force: true })
      await until(() => identified === 4)
      const connections = libp2p.getConnections()
      assert.equal(connections.length, 2)
      const used = connections.find(({ streams }) => streams.some(({ protocol }) => protocol.includes('meshsub')))
      used!.abort(new Error('cut'))
      await until(() => hosts.every(host => host.libp2p.getConnections().length === 1))
      await until(() => {
        for (const [place, gossip] of gossips.entries()) void gossip.publish(topic, Buffer.from(`from ${place}`))
        return heard.every(said => said.length > 0)
      })
      assert.deepEqual(
        heard.map(said => said[0]),
        ['from 1', 'from 0']
      )
    } finally {
      await Promise.all(hosts.map(host => host.stop()))
    }
  })
})

async function until(isSo: () => boolean): Promise<void> {
  for (let tries = 0; !isSo(); tries++) {
    assert.ok(tries < 400, 'it takes too long')
    await sleep(50)
  }
}
