/** Direct messages to a peer that cannot be reached, or not at once: what is kept, what is dropped, how often it is tried; and many questions. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { loopbackHost } from '../../bench/loopback-host.ts'
import { Direct } from '../../src/net/direct.ts'
import type { Host } from '../../src/net/host.ts'
import { limits } from '../../src/wire/limits.ts'
import { protocols } from '../../src/wire/protocol-ids.ts'

const bytesOf = (count: number): Uint8Array => new TextEncoder().encode(String(count))

describe('what two peers say directly', function () {
  this.timeout(60_000)
  let hosts: Host[] = []
  afterEach(async () => {
    for (const host of hosts) await host.stop()
    hosts = []
  })

  async function two(answer: () => Uint8Array = () => new Uint8Array()) {
    const [one, other] = [await loopbackHost(), await loopbackHost()]
    hosts = [one, other]
    const heard: number[] = []
    const onMessage = (_from: string, bytes: Uint8Array) => void heard.push(Number(new TextDecoder().decode(bytes)))
    const onQuestion = async () => answer()
    await Direct.start(other, onMessage, onQuestion)
    const direct = await Direct.start(one, () => undefined, onQuestion)
    await one.learn(other.peer, other.addresses())
    const reach = one.dial.bind(one)
    return { one, to: other.peer, direct, heard, reach }
  }

  it('waits where it cannot go out yet, the newest of it: consensus says everything again', async () => {
    const { one, to, direct, heard, reach } = await two()
    const opened = Promise.withResolvers<void>()
    one.dial = async peer => {
      await opened.promise
      await reach(peer)
    }
    const said = Array.from({ length: 3 * limits.consensusQueueMax }, (_, count) => count)
    for (const count of said) direct.send(to, bytesOf(count))
    opened.resolve()
    while (heard.at(-1) !== said.at(-1)) await sleep(20)
    assert.deepEqual(heard, said.slice(-limits.consensusQueueMax))
  })

  it('is dropped where the other cannot be reached, which is tried again half a second later', async () => {
    const { one, to, direct, heard, reach } = await two()
    let tries = 0
    one.dial = async () => {
      tries++
      throw new Error('refused')
    }
    const beganMs = performance.now()
    for (let count = 0; count < 100; count++) {
      direct.send(to, bytesOf(count))
      await new Promise(resolve => setImmediate(resolve))
    }
    const most = 1 + Math.floor((performance.now() - beganMs) / 500)
    assert.ok(tries >= 1 && tries <= most, `${tries} tries`)
    await sleep(550)
    direct.send(to, bytesOf(100))
    await sleep(550)
    one.dial = reach
    direct.send(to, bytesOf(101))
    while (heard.length === 0) await sleep(20)
    assert.deepEqual(heard, [101])
  })

  it('is asked as often as one likes, a stream each, and answered within bounds', async () => {
    let bytes = 1
    const { one, to, direct } = await two(() => new Uint8Array(bytes))
    for (let count = 0; count < 3 * limits.streamsPerPeerMax; count++)
      assert.equal((await direct.ask(to, bytesOf(count), 5_000)).length, 1)
    const open = () =>
      one.libp2p.getConnections().flatMap(({ streams }) => streams.filter(({ protocol }) => protocol === protocols.fetch))
    while (open().length > 0) await sleep(20)
    bytes = limits.fetchAnswerBytesMax
    assert.equal((await direct.ask(to, bytesOf(0), 20_000)).length, bytes)
    bytes++
    await assert.rejects(direct.ask(to, bytesOf(0), 20_000), /length/)
  })
})
