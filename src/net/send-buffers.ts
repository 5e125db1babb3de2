/**
 * Buffers of what is sent, used again as soon as the connection has encrypted them: new ones would cost as much as the encryption, and one
 * for each stream's whole window is much where many streams are slow.
 *
 * Who sends takes a buffer and sends all of it, in as many pieces as it likes; `SecureSocket` says what it has encrypted. What never gets
 * there (a stream that broke off, a connection without a socket of ours) is left to the garbage collector.
 */

/** Half a chunk. */
export const sendBufferBytes = 512 * 1024
/** As many as a few quick streams use at once. */
const freeMax = 16

const free: ArrayBuffer[] = []
/** Bytes of a buffer that have not been encrypted yet. */
const unsentBytes = new WeakMap<ArrayBufferLike, number>()

/** @param bytes - at most `sendBufferBytes`. What the buffer holds is old. */
export function takeSendBuffer(bytes: number): Uint8Array {
  const buffer = free.pop() ?? new ArrayBuffer(sendBufferBytes)
  unsentBytes.set(buffer, bytes)
  return new Uint8Array(buffer, 0, bytes)
}

/** These bytes have been encrypted. Of other buffers nothing is known here, and nothing happens to them. */
export function giveSentBytes({ buffer, byteLength }: Uint8Array): void {
  const unsent = unsentBytes.get(buffer)
  if (unsent === undefined) return
  unsentBytes.set(buffer, unsent - byteLength)
  if (unsent !== byteLength) return
  unsentBytes.delete(buffer)
  if (free.length < freeMax && buffer instanceof ArrayBuffer) free.push(buffer)
}
