/**
 * Model files: canonical safetensors (model/checkpoint.ts), read into and written from flat arrays without a second copy.
 *
 * A model that stands alone names its configuration in the header's metadata (`model`, JSON), so that it can be used without a charter.
 */
import { closeSync } from 'node:fs'
import { checkAgainst, type Encoding, encodeHeader } from '../model/checkpoint.ts'
import type { Layout } from '../model/layout.ts'
import { openFile, readFloats, readHeader, writeFloats, writeFully, writeWhole } from '../engine/tensor-file.ts'

/** Reads a model into `targets`, one for each section. @throws {WorldlmError} MODEL_DAMAGED, MODEL_MISSING @returns the header's metadata. */
export function readModelFile(
  path: string,
  layout: Layout,
  targets: Float32Array[],
  sections: string[] = ['']
): Record<string, string> {
  const fd = openFile(path)
  try {
    const header = readHeader(fd, path)
    const encoding = checkAgainst(layout, header, path, sections)
    let offset = header.dataOffset
    for (const target of targets) offset = readFloats(fd, encoding === 'f32' ? 'F32' : 'BF16', offset, target, path)
    return header.metadata
  } finally {
    closeSync(fd)
  }
}

/** Sections of a checkpoint: parameters, and AdamW's moments. */
export const checkpointSections = ['', 'first.', 'second.']

/** Sections of the outer optimizer's state, which has so many vectors. */
export const outerSections = (count: number): string[] => Array.from({ length: count }, (_, place) => `outer.${place}.`)

/** Whether a model would be read, by its header and its length. @throws {WorldlmError} MODEL_DAMAGED, MODEL_MISSING */
export function assertWholeModel(path: string, layout: Layout, sections: string[] = ['']): void {
  const fd = openFile(path)
  try {
    checkAgainst(layout, readHeader(fd, path), path, sections)
  } finally {
    closeSync(fd)
  }
}

/** Metadata of a model file. @throws {WorldlmError} MODEL_DAMAGED, MODEL_MISSING */
export function readModelMetadata(path: string): Record<string, string> {
  const fd = openFile(path)
  try {
    return readHeader(fd, path).metadata
  } finally {
    closeSync(fd)
  }
}

/** Writes a model whole or not at all. @throws {WorldlmError} DISK_FULL; what was at `path` is then untouched. */
export function writeModelFile(
  path: string,
  layout: Layout,
  sources: Float32Array[],
  {
    encoding = 'f32',
    metadata = {},
    sections = ['']
  }: { encoding?: Encoding; metadata?: Record<string, string>; sections?: string[] } = {}
): void {
  writeWhole(path, fd => {
    writeFully(fd, encodeHeader(layout, encoding, metadata, sections))
    for (const source of sources) writeFloats(fd, source, encoding)
  })
}
