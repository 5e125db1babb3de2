/**
 * How much the other side may send on a stream of blobs before it hears from here.
 *
 * @libp2p/yamux grants anew after each frame. A grant costs both sides a TLS record and a wake-up, and Node writes a connection's second
 * record only after the turn in which it read: the holder stood still while the receiver hashed a megabyte. So the window is two megabytes
 * here, granted anew by halves as HashiCorp's yamux does it. It still begins with 256 KiB, and yamux doubles it only while the
 * stream is quick for its round trip: on a slow link little stands before other messages.
 */
import type { Stream } from '@libp2p/interface'
import { YamuxStream } from '@libp2p/yamux/stream'
import { limits } from '../wire/limits.ts'

/** Fields of YamuxStream that its type calls private; versions are pinned, and test/net/stream-window.spec.ts fails when they are gone. */
interface Receiving {
  recvWindow: number
  recvWindowCapacity: number
  maxStreamWindowSize: number
}

/** Before anything of weight has come. A stream of another multiplexer, or of a test, stays as it is. */
export function widenWindow(stream: Stream): void {
  if (!(stream instanceof YamuxStream)) return
  const receiving = stream as unknown as Receiving
  const grant = stream.sendWindowUpdate.bind(stream)
  receiving.maxStreamWindowSize = limits.blobWindowBytes
  stream.sendWindowUpdate = () => {
    if (receiving.recvWindowCapacity <= receiving.recvWindow / 2) grant()
  }
}
