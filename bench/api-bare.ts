/** The least that an HTTP server can do: the same bytes for every request. Baseline of the API benchmark. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

let body = ''
const server = createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(body) })
  response.end(body)
})
process.on('message', (text: string) => {
  body = text
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
})
process.on('disconnect', () => process.exit())
