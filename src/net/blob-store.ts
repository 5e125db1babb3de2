import type { Link } from '../ids.ts'
import type { BlobIndex } from '../wire/blob-index.ts'

/** A store of blobs, as the exchange needs it (node/blobs.ts). */
export interface BlobStore {
  has(link: Link): boolean
  /** These three know blobs that are whole here, and those that are arriving. */
  indexBytes(link: Link): Uint8Array | null
  chunkCount(link: Link): number | null
  chunk(link: Link, chunk: number): ChunkReader | 'notHeld' | 'badRange'
  /** Chunks that are here of a blob that is arriving (wire/bitmap.ts); null: all. */
  held(link: Link): Uint8Array | null
  /** @returns null if that is not the index that `link` names. @throws when the disk is full. */
  begin(link: Link, indexBytes: Uint8Array): Promise<PartialBlob | null>
}
export interface ChunkReader {
  bytes: number
  /** @returns `into`, full. */
  read(offset: number, into: Uint8Array): Promise<Uint8Array>
}
export interface PartialBlob {
  readonly missing: ReadonlySet<number>
  readonly index: BlobIndex
  /** @param bytes - a chunk whose hash was found right. */
  write(chunk: number, bytes: Uint8Array): Promise<void>
  finish(): Promise<void>
  leave(): Promise<void>
}
