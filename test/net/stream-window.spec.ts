/** Windows of streams: granted by halves, and as wide as they may be. */
import assert from 'node:assert/strict'
import type { Stream } from '@libp2p/interface'
import { YamuxStream } from '@libp2p/yamux/stream'
import type { Host } from '../../src/net/host.ts'
import { widenWindow } from '../../src/net/stream-window.ts'
import { limits } from '../../src/wire/limits.ts'
import { loopbackHost } from '../../bench/loopback-host.ts'

const flood = '/flood/1'
const pieceBytes = 16 * 1024
const pieces = 2_048
/** What yamux begins with, on both sides of any stream. */
const firstWindowBytes = 256 * 1024

describe('the window of a stream', () => {
  const started: Host[] = []
  afterEach(async () => {
    for (const host of started.splice(0)) await host.stop()
  })

  async function peer(): Promise<Host> {
    const host = await loopbackHost()
    started.push(host)
    return host
  }

  /** A stream on which everything comes. @returns how often the other side was granted more, the window at the end, and what had come when it was that wide. */
  async function receive(
    prepare: (stream: Stream) => void
  ): Promise<{ bytes: number; grants: number; windowBytes: number; widestAfterBytes: number }> {
    const [from, to] = [await peer(), await peer()]
    await from.libp2p.handle(flood, async stream => {
      for (let piece = 0; piece < pieces; piece++) {
        stream.send(new Uint8Array(pieceBytes))
        while (stream.writeBufferLength > 0) await new Promise(resolve => setTimeout(resolve, 1))
      }
      await stream.close()
    })
    const stream = await to.libp2p.dialProtocol(from.libp2p.getMultiaddrs(), flood)
    prepare(stream)
    const inner = stream as unknown as { sendFrame: (header: { length: number }) => boolean; recvWindow: number }
    let grants = 0
    const sendFrame = inner.sendFrame
    inner.sendFrame = header => {
      if (header.length > 0) grants++
      return sendFrame(header)
    }
    let bytes = 0
    let widest = { windowBytes: 0, bytes: 0 }
    stream.addEventListener('message', ({ data }) => {
      bytes += data.byteLength
      if (inner.recvWindow > widest.windowBytes) widest = { windowBytes: inner.recvWindow, bytes }
    })
    await new Promise(resolve => stream.addEventListener('remoteCloseWrite', resolve))
    return { bytes, grants, windowBytes: inner.recvWindow, widestAfterBytes: widest.bytes }
  }

  for (const [name, prepare] of [
    ['any stream', () => undefined],
    ['a stream of blobs', widenWindow]
  ] as const)
    it(`is granted by halves on ${name}`, async () => {
      const { bytes, grants, windowBytes } = await receive(prepare)
      assert.equal(bytes, pieces * pieceBytes)
      const most = bytes / (firstWindowBytes / 2)
      assert.ok(grants > 0 && grants <= most, `${grants} grants, more than one for each half of the first window`)
      assert.ok(windowBytes <= (prepare === widenWindow ? limits.blobNearWindowBytes : limits.streamWindowBytes))
    })

  it('is wider between neighbours than for a peer far away, or one of which nobody knows how far', () => {
    const most = (roundTripMs: number) => {
      const stream = Object.assign(Object.create(YamuxStream.prototype), { getRTT: () => roundTripMs })
      widenWindow(stream)
      return stream.maxStreamWindowSize
    }
    const { blobWindowBytes, blobNearWindowBytes } = limits
    assert.deepEqual([0, 5, 6, -1].map(most), [blobNearWindowBytes, blobNearWindowBytes, blobWindowBytes, blobWindowBytes])
  })

  it('is as wide as it may be before half of the first one has come, on a stream of blobs far away', async () => {
    const { windowBytes, widestAfterBytes } = await receive(stream => {
      Object.assign(stream, { getRTT: () => 10_000 })
      widenWindow(stream)
    })
    assert.equal(windowBytes, limits.blobWindowBytes)
    assert.ok(widestAfterBytes <= firstWindowBytes / 2, `only after ${widestAfterBytes} bytes`)
  })
})
