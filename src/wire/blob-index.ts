/**
 * A blob's name is the link of its index: length, and the sha256 of each chunk. Whoever knows the name can check every chunk as it
 * arrives, from whomever it comes (docs/protocol.md, "Blobs").
 */
import { z } from 'zod'
import { bytes, codec, natural } from './codec.ts'
import { limits } from './limits.ts'

export interface BlobIndex {
  /** Bytes of the whole. */
  length: number
  /** Bytes of each chunk but the last. */
  chunkBytes: number
  /** sha256 of each chunk, in order. */
  chunks: Uint8Array[]
}

export const blobIndexCodec = codec<BlobIndex>(
  z.strictObject({
    length: natural.max(limits.blobBytesMax),
    chunkBytes: z.literal(limits.blobChunkBytes),
    chunks: z.array(bytes(32)).max(limits.blobChunksMax)
  }) as unknown as z.ZodType<BlobIndex>,
  limits.blobIndexBytesMax
)

/** Bytes of one chunk: all but the last are as long as each other. */
export const chunkBytesOf = ({ length, chunkBytes }: BlobIndex, chunk: number): number =>
  Math.min(chunkBytes, length - chunk * chunkBytes)
