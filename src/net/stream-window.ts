/**
 * How much the other side may send on a stream before it hears from here.
 *
 * @libp2p/yamux grants anew after each frame, however small. A grant costs both sides a TLS record and a wake-up: in a node that only
 * hears heartbeats and gossip every second record was one. So windows are granted anew by halves, as HashiCorp's yamux does it; yamux
 * begins with 256 KiB, so that the other side always has half of that left.
 *
 * On streams of blobs the window is two megabytes: Node writes a connection's second record only after the turn in which it read, and
 * the holder stood still while the receiver hashed a megabyte. Yamux doubles it only while the stream is quick for its round trip: on a
 * slow link little stands before other messages. Between neighbours it is eight: on busy cores one side often waits for a core longer
 * than two megabytes last the other.
 */
import type { Stream, StreamMuxerFactory } from '@libp2p/interface'
import { yamux } from '@libp2p/yamux'
import { StreamState, YamuxStream } from '@libp2p/yamux/stream'
import { limits } from '../wire/limits.ts'

/** Fields of YamuxStream that its type calls private; versions are pinned, and test/net/stream-window.spec.ts fails when they are gone. */
interface Receiving {
  recvWindow: number
  recvWindowCapacity: number
  maxStreamWindowSize: number
  sendWindowUpdate(): void
  state: StreamState
  /** Milliseconds; negative while it is not known. */
  getRTT(): number
}

/** A path of at most this round trip joins neighbours: one machine, one house. */
const nearMs = 5

/** Where YamuxMuxer makes its streams, both sides' ones. */
interface Making {
  _newStream(...given: unknown[]): Receiving
}

/** The multiplexer for libp2p's options: yamux, with windows granted by halves. */
export function yamuxByHalves(): () => StreamMuxerFactory {
  return () => {
    const factory = yamux({ streamOptions: { maxStreamWindowSize: limits.streamWindowBytes } })()
    const create = factory.createStreamMuxer.bind(factory)
    factory.createStreamMuxer = connection => {
      const muxer = create(connection)
      const making = muxer as unknown as Making
      const newStream = making._newStream.bind(making)
      making._newStream = (...given) => grantByHalves(newStream(...given))
      return muxer
    }
    return factory
  }
}

function grantByHalves(stream: Receiving): Receiving {
  const grant = stream.sendWindowUpdate.bind(stream)
  stream.sendWindowUpdate = () => {
    // Until a stream is established the same frame opens it.
    if (stream.state !== StreamState.Established || widens(stream) || stream.recvWindowCapacity <= stream.recvWindow / 2)
      grant()
  }
  return stream
}

/** Yamux doubles with a grant: by halves the first megabytes of a blob would wait for the other side once a doubling. */
const widens = ({ recvWindow, maxStreamWindowSize }: Receiving): boolean =>
  recvWindow < maxStreamWindowSize && maxStreamWindowSize > limits.streamWindowBytes

/** Whether the other side is a neighbour, as far as is known. */
export function isNear(stream: Stream): boolean {
  const roundTripMs = stream instanceof YamuxStream ? (stream as unknown as Receiving).getRTT() : -1
  return roundTripMs >= 0 && roundTripMs <= nearMs
}

/** Before anything of weight has come. A stream of another multiplexer, or of a test, stays as it is. */
export function widenWindow(stream: Stream): void {
  if (!(stream instanceof YamuxStream)) return
  const most = isNear(stream) ? limits.blobNearWindowBytes : limits.blobWindowBytes
  ;(stream as unknown as Receiving).maxStreamWindowSize = most
}
