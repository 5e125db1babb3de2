/** One peer of the gossip benchmark: follows a topic, says what it is told to, and tells when it heard the others. */
import { Direct } from '../src/net/direct.ts'
import { Gossip } from '../src/net/gossip.ts'
import { loopbackHost } from './loopback-host.ts'

/** Sender and number of a message stand in its first 8 bytes. */
export type Order = { connect: string[] } | { say: { number: number; bytes: number; direct: string | null } } | { cpu: true }

const topic = 'worldlm-bench'
const host = await loopbackHost()
/** The same clock in every process of a machine. */
const nowMs = () => Number(process.hrtime.bigint()) / 1e6
const heard = (bytes: Uint8Array) => {
  const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
  process.send?.({ heard: number, atMs: nowMs() })
}
const direct = await Direct.start(
  host,
  (_from, bytes) => heard(bytes),
  async () => new Uint8Array()
)
const gossip = new Gossip(host)
gossip.join(
  topic,
  () => 'accept',
  (_from, bytes) => heard(bytes)
)

process.on('message', async (order: Order) => {
  if ('connect' in order) {
    for (const address of order.connect) {
      const peer = address.slice(address.lastIndexOf('/') + 1)
      if (peer === host.peer) continue
      await host.learn(peer, [address])
      await host.dial(peer)
    }
    process.send?.({ connected: true })
  } else if ('say' in order) {
    const { number, bytes, direct: to } = order.say
    const message = new Uint8Array(bytes)
    new DataView(message.buffer).setUint32(0, number)
    process.send?.({ said: number, atMs: nowMs() })
    if (to === null) await gossip.publish(topic, message)
    else direct.send(to, message)
  } else process.send?.({ cpuMs: process.cpuUsage().user / 1000 + process.cpuUsage().system / 1000 })
})
process.on('disconnect', () => process.exit())
process.send?.({ peer: host.peer, address: host.addresses()[0] })
