/** The holder's process of the blob benchmark: serves one blob, and as many bytes over a raw socket. */
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { BlobExchange } from '../src/net/blob-exchange.ts'
import { createIdentity, Host } from '../src/net/host.ts'
import { Blobs } from '../src/node/blobs.ts'

const [folder = '', bytes = '0'] = process.argv.slice(2)
const content = readFileSync(join(folder, 'source'))
const { blobs } = await Blobs.open(join(folder, 'held'))
const { link } = await blobs.put(join(folder, 'source'))
const host = await Host.start({
  identity: await createIdentity(),
  listen: ['/ip4/127.0.0.1/tcp/0'],
  bootstrap: [],
  mdns: false,
  onWarning: () => undefined
})
await BlobExchange.start({ host, store: blobs, allow: () => true, onLiar: () => undefined })
const server = createServer(socket => {
  socket.on('error', () => undefined)
  socket.end(content.subarray(0, Number(bytes)))
})
server.listen(0, '127.0.0.1', () => {
  process.send?.({ link, peer: host.peer, addresses: host.addresses(), port: (server.address() as AddressInfo).port })
})
process.on('disconnect', () => process.exit())
