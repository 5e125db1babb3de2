/**
 * A member's update as files: encoded as the charter names it, with what a block encoding leaves to be sent (docs/encodings.md).
 *
 *   models/rest-N   what the update of the N-th training lacked; durable before that update is announced
 */
import { existsSync } from 'node:fs'
import { keepsKeys } from '../aggregate/down.ts'
import { isBlockEncoding } from '../aggregate/encode.ts'
import type { RoundHead } from '../federation/participation.ts'
import type { Algorithm } from '../governance/charter.ts'
import type { FederationId, Link, PeerName } from '../ids.ts'
import type { Layout } from '../model/layout.ts'
import type { DifferenceJob } from './mixer.ts'
import type { Services } from './services.ts'

export interface UpdateMaking {
  services: Pick<Services, 'folder' | 'mixer' | 'blobs' | 'exchange'>
  layout: Layout
  algorithm: Algorithm
  federation: FederationId
  holders: (federation: FederationId) => PeerName[]
}

export interface MadeUpdate {
  blob: Link
  blobBytes: number
  /** The trained key layers for whoever has no base to read the update with: what a bridge may be given. */
  newest: { model: Link; modelBytes: number }
}

/** @param trained - rounds trained before this one. @param start - file that it was trained from; the result is `models/personal`. */
export async function makeUpdate(making: UpdateMaking, base: RoundHead, trained: number, start: string): Promise<MadeUpdate> {
  const { layout, algorithm } = making
  const { folder, mixer, blobs } = making.services
  const { encoding } = algorithm
  const made = { layout, model: folder.model('personal'), start, output: folder.model('update') }
  const isBlock = isBlockEncoding(encoding)
  await mixer.difference({ ...made, encoding, block: isBlock ? await blockOf(making, base, trained) : null })
  const { link: blob, bytes: blobBytes } = await blobs.put(made.output)
  if (!isBlock || algorithm.residuals.perNode === 0) return { blob, blobBytes, newest: { model: blob, modelBytes: blobBytes } }
  await mixer.difference({ ...made, encoding: 'bf16', block: null })
  const { link: model, bytes: modelBytes } = await blobs.put(made.output)
  return { blob, blobBytes, newest: { model, modelBytes } }
}

async function blockOf(
  { services, algorithm, federation, holders }: UpdateMaking,
  { entry }: RoundHead,
  trained: number
): Promise<NonNullable<DifferenceJob['block']>> {
  const { folder, exchange, blobs } = services
  if (entry !== null) await exchange.pull(entry.model, [entry.proposer, ...holders(federation)])
  const restFrom = folder.model(`rest-${trained}`)
  return {
    keysBase: entry === null ? folder.model('initial') : blobs.path(entry.model),
    restFrom: existsSync(restFrom) ? restFrom : null,
    restTo: folder.model(`rest-${trained + 1}`),
    keepsKeys: keepsKeys(algorithm.down)
  }
}
