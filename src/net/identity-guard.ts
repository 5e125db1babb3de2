/**
 * Two processes with one identity, as a copied folder makes them, are noticed by any peer that both are connected to.
 *
 *   identify      each process calls itself worldlm/<version> <instance>; an instance is one start of a node
 *   a peer that has two open connections of one identity with two instances lets them face each other:
 *     process → peer    a nonce
 *     peer → process    the other's nonce
 *     process → peer    its instance, signed together with the other's nonce
 *     peer → process    what the other signed
 *
 * Who is shown its own nonce, signed just now by its own key in another instance, knows that it has a double; no liar can make that up.
 * Both stop: which of them is the right one, no program can know. A process that is gone does not answer: its connection is closed.
 */
import { randomBytes } from 'node:crypto'
import type { Connection, IdentifyResult, Stream } from '@libp2p/interface'
import { type LengthPrefixedStream, lpStream } from '@libp2p/utils'
import { z } from 'zod'
import type { PeerName } from '../ids.ts'
import { bytes, codec, isMalformed } from '../wire/codec.ts'
import { protocols } from '../wire/protocol-ids.ts'
import { signedBytes, verifyPeerSignature } from '../wire/signature.ts'
import type { Host } from './host.ts'

interface Claim {
  instance: string
  signature: Uint8Array
}

const instancePattern = /^[0-9a-f]{32}$/
const messageBytesMax = 256
/** A busy process answers late; one that is gone never does. */
const answerTimeoutMs = 5_000

const claimCodec = codec<Claim>(
  z.strictObject({ instance: z.string().regex(instancePattern), signature: bytes(64) }),
  messageBytesMax
)

export const newInstance = (): string => randomBytes(16).toString('hex')

/** What a node calls itself in identify. */
export const agentOf = (version: string, instance: string): string => `worldlm/${version} ${instance}`

const instanceOf = (agent: string | undefined): string | null => {
  const instance = agent?.split(' ')[1] ?? ''
  return instancePattern.test(instance) ? instance : null
}

const faceBytes = (instance: string, nonce: Uint8Array): Uint8Array =>
  signedBytes('instance', Buffer.concat([Buffer.from(instance), nonce]))

export interface GuardOptions {
  host: Host
  instance: string
  onDouble: () => void
}

export class IdentityGuard {
  readonly #options: GuardOptions
  readonly #known = new Map<string, { connection: Connection; peer: PeerName; instance: string }>()

  private constructor(options: GuardOptions) {
    this.#options = options
  }

  static async start(options: GuardOptions): Promise<IdentityGuard> {
    const guard = new IdentityGuard(options)
    const { libp2p } = options.host
    await libp2p.handle(protocols.instance, stream => void guard.#face(stream))
    libp2p.addEventListener('peer:identify', ({ detail }) => guard.#onIdentify(detail))
    libp2p.addEventListener('connection:close', ({ detail }) => guard.#known.delete(detail.id))
    return guard
  }

  #onIdentify({ peerId, agentVersion, connection }: IdentifyResult): void {
    const instance = instanceOf(agentVersion)
    const peer = peerId.toString()
    if (instance === null) return
    const others = [...this.#known.values()].filter(one => one.peer === peer && one.instance !== instance)
    this.#known.set(connection.id, { connection, peer, instance })
    for (const other of others) void introduce(other.connection, connection).catch(() => undefined)
  }

  /** This process before its double, or before a peer that only says that there is one. */
  async #face(stream: Stream): Promise<void> {
    const signal = AbortSignal.timeout(answerTimeoutMs)
    const { host, instance, onDouble } = this.#options
    try {
      const messages = lpStream(stream, { maxDataLength: messageBytesMax })
      const nonce = randomBytes(32)
      await messages.write(nonce, { signal })
      const theirs = (await messages.read({ signal })).subarray()
      await messages.write(claimCodec.encode({ instance, signature: host.sign(faceBytes(instance, theirs)) }), { signal })
      const claim = claimCodec.decode((await messages.read({ signal })).subarray())
      if (isMalformed(claim) || claim.instance === instance) return
      if (verifyPeerSignature(host.peer, faceBytes(claim.instance, nonce), claim.signature)) onDouble()
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error('not answered'))
    }
  }
}

/** @throws when either process is gone. */
async function introduce(older: Connection, newer: Connection): Promise<void> {
  const signal = AbortSignal.timeout(answerTimeoutMs)
  const one = await meet(older, signal).catch(error => {
    // The process behind it is gone: the newer one is its successor.
    older.abort(error instanceof Error ? error : new Error('its process is gone'))
    throw error
  })
  const other = await meet(newer, signal)
  await Promise.all([one.messages.write(other.nonce, { signal }), other.messages.write(one.nonce, { signal })])
  const [ofOne, ofOther] = await Promise.all([one.messages.read({ signal }), other.messages.read({ signal })])
  await Promise.allSettled([
    one.messages.write(ofOther.subarray(), { signal }),
    other.messages.write(ofOne.subarray(), { signal })
  ])
}

async function meet(
  connection: Connection,
  signal: AbortSignal
): Promise<{ messages: LengthPrefixedStream; nonce: Uint8Array }> {
  const stream = await connection.newStream(protocols.instance, { signal })
  const messages = lpStream(stream, { maxDataLength: messageBytesMax })
  return { messages, nonce: (await messages.read({ signal })).subarray() }
}
