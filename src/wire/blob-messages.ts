/**
 * What is said on the blob protocol (docs/protocol.md, "Blobs").
 *
 *   question   dag-cbor, length-prefixed by a varint      index | chunk | have
 *   answer     code u8, length u32 big-endian, bytes      in the order asked
 *
 * A chunk's answer is cut by no one: the holder may send it in slices, the receiver counts bytes.
 */
import { z } from 'zod'
import type { Link, PeerName } from '../ids.ts'
import { bytes, codec, link, natural, peerName, shortText } from './codec.ts'
import { limits } from './limits.ts'

export type BlobQuestion =
  | { ask: 'index'; blob: Link }
  | { ask: 'chunk'; blob: Link; chunk: number }
  /**
   * Which chunks do you hold, who else pulls this blob, and which should I take from you? The holder answers as soon as it holds
   * more than `known` chunks or has something to offer, at the latest after `blobHaveWaitMs`.
   */
  | {
      ask: 'have'
      blob: Link
      known: number
      /** Chunks that the asker neither has nor has asked for (bitmap.ts); null: all of them. */
      lacks: Uint8Array | null
      /** How many chunks it would take. */
      offers: number
    }

const bitmap = bytes(limits.blobChunksMax / 8)
export const blobQuestionCodec = codec<BlobQuestion>(
  z.discriminatedUnion('ask', [
    z.strictObject({ ask: z.literal('index'), blob: link }),
    z.strictObject({ ask: z.literal('chunk'), blob: link, chunk: natural }),
    z.strictObject({
      ask: z.literal('have'),
      blob: link,
      known: natural,
      lacks: bitmap.nullable(),
      offers: natural.max(limits.blobChunksPerHolderMax * 2)
    })
  ]),
  limits.blobQuestionBytesMax
)

/** A question as it travels: its length as a varint (unsigned LEB128), then its bytes. */
export function frameQuestion(question: BlobQuestion): Uint8Array {
  const encoded = blobQuestionCodec.encode(question)
  const isShort = encoded.length < 0x80
  const head = isShort ? [encoded.length] : [(encoded.length & 0x7f) | 0x80, encoded.length >> 7]
  const framed = new Uint8Array(head.length + encoded.length)
  framed.set(head)
  framed.set(encoded, head.length)
  return framed
}

/** Answer to `have`. */
export interface Holding {
  held: Uint8Array
  /** Others that are pulling this blob from the holder, with where they can be reached. */
  others: { peer: PeerName; addresses: string[] }[]
  /** Chunks that the holder would like the asker to take: given to nobody else yet. */
  offers: number[]
}

export const holdingCodec = codec<Holding>(
  z.strictObject({
    held: bitmap,
    others: z
      .array(z.strictObject({ peer: peerName, addresses: z.array(shortText).max(limits.addressesMax) }))
      .max(limits.blobOthersMax),
    offers: z.array(natural).max(limits.blobChunksPerHolderMax * 2)
  }),
  limits.blobHoldingBytesMax
)

/** First byte of an answer. `partly` answers `index`: here it is, but the blob is not whole here. */
export const blobAnswers = { ok: 0, notHeld: 1, forbidden: 2, badRange: 3, partly: 4 } as const

/** Code and length before the bytes of an answer. */
export const answerHeadBytes = 5

export function encodeAnswerHead(code: number, length: number): Uint8Array {
  const head = new Uint8Array(answerHeadBytes)
  head[0] = code
  new DataView(head.buffer).setUint32(1, length)
  return head
}

/** @returns null if more is claimed than any answer may hold. */
export function decodeAnswerHead(head: Uint8Array): { code: number; length: number } | null {
  const length = new DataView(head.buffer, head.byteOffset, answerHeadBytes).getUint32(1)
  return length > limits.blobAnswerBytesMax ? null : { code: head[0]!, length }
}
