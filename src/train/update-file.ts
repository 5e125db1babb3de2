/**
 * Update files: ΔB against what the member began with, and K. With `f32` and `bf16` they are model files (model-file.ts) that hold K as it
 * is. With `int8`, `int3` and `topk` (aggregate/encode.ts) they hold K as its change against the round's base, which every member has: one tensor
 * of bytes, stretch after stretch.
 */
import { closeSync } from 'node:fs'
import {
  type BlockEncoding,
  decodeStretch,
  encodedBytes,
  encodeUpdate,
  isBlockEncoding,
  stretchBytes,
  stretches
} from '../aggregate/encode.ts'
import { checkAgainst, damaged, frameHeader, type Header, type UpdateEncoding } from '../model/checkpoint.ts'
import { groupRanges, type Layout } from '../model/layout.ts'
import { readModelFile, writeModelFile } from './model-file.ts'
import { openFile, readFloats, readFully, readHeader, writeFully, writeWhole } from '../engine/tensor-file.ts'

const tensorName = 'update'
/** Floats of the base that are added at a time. */
const baseFloats = 1 << 18

const sizes = ({ tensors }: Layout): number[] => tensors.map(({ floats }) => floats)

/**
 * Writes an update whole or not at all. With a block encoding `update` holds K's change, and afterwards what the receiver will read;
 * `rest` is as in `encodeUpdate`. @throws {WorldlmError} DISK_FULL
 */
export function writeUpdateFile(
  path: string,
  layout: Layout,
  update: Float32Array,
  encoding: UpdateEncoding,
  rest: Float32Array | null
): void {
  if (!isBlockEncoding(encoding)) {
    writeModelFile(path, layout, [update], { encoding })
    return
  }
  const bytes = encodedBytes(encoding, sizes(layout))
  const header = { __metadata__: { encoding }, [tensorName]: { dtype: 'U8', shape: [bytes], data_offsets: [0, bytes] } }
  writeWhole(path, fd => {
    writeFully(fd, frameHeader(header))
    encodeUpdate(encoding, update, sizes(layout), rest, block => writeFully(fd, block))
  })
}

/**
 * Reads an update into `target`, shape [layout.floats]: ΔB, and K as it is.
 * @param base - file of the model that K's change is taken against; null: only whole K is read.
 * @throws {WorldlmError} MODEL_DAMAGED, MODEL_MISSING
 */
export function readUpdateFile(path: string, layout: Layout, target: Float32Array, base: string | null): void {
  const fd = openFile(path)
  try {
    const header = readHeader(fd, path)
    const { encoding = 'f32' } = header.metadata
    if (!isBlockEncoding(encoding)) {
      readModelFile(path, layout, [target])
      return
    }
    if (base === null) throw damaged(path, `it is encoded as ${encoding}, which the charter does not name`)
    readBlocks(fd, header, encoding, layout, target, path)
  } finally {
    closeSync(fd)
  }
  addKeys(base, layout, target)
}

function readBlocks(
  fd: number,
  { tensors, dataOffset }: Header,
  encoding: BlockEncoding,
  layout: Layout,
  target: Float32Array,
  path: string
): void {
  const want = encodedBytes(encoding, sizes(layout))
  const stored = tensors[tensorName]
  if (Object.keys(tensors).length !== 1 || stored?.dtype !== 'U8' || stored.data_offsets[1] !== want)
    throw damaged(path, `as ${encoding} it must hold one tensor of ${want} bytes`)
  let offset = dataOffset
  for (const { from, to } of stretches(sizes(layout))) {
    const stretch = target.subarray(from, to)
    const bytes = new Uint8Array(stretchBytes(encoding, stretch.length))
    readFully(fd, bytes, offset, path)
    const why = decodeStretch(encoding, bytes, stretch)
    if (why !== null) throw damaged(path, `floats ${from} to ${to}: ${why}`)
    offset += bytes.length
  }
}

/** K += K of the base, a piece at a time. */
function addKeys(base: string, layout: Layout, target: Float32Array): void {
  const fd = openFile(base)
  try {
    const header = readHeader(fd, base)
    const isF32 = checkAgainst(layout, header, base) === 'f32'
    const piece = new Float32Array(baseFloats)
    for (const { offset, floats } of groupRanges(layout)) {
      for (let from = offset; from < offset + floats; from += baseFloats) {
        const read = piece.subarray(0, Math.min(baseFloats, offset + floats - from))
        readFloats(fd, isF32 ? 'F32' : 'BF16', header.dataOffset + from * (isF32 ? 4 : 2), read, base)
        for (let place = 0; place < read.length; place++) target[from + place]! += read[place]!
      }
    }
  } finally {
    closeSync(fd)
  }
}
