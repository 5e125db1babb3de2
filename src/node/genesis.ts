/** How nodes and federations come into being: folders, identities, genesis charters. */
import { existsSync } from 'node:fs'
import { z } from 'zod'
import { checkConfig, type NodeConfigInput, writeYaml } from '../config.ts'
import { charterInvalid, completeCharter } from '../governance/charter-schema.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, PeerName } from '../ids.ts'
import { createLayout } from '../model/layout.ts'
import { createIdentity, peerNameOf } from '../net/host.ts'
import { charterCodec } from '../wire/records.ts'
import type { NodeFolder } from './folder.ts'
import { writeFirstMemory } from './store.ts'

/** Makes a node's folder with a new identity. @throws {WorldlmError} CONFIG_INVALID, FOLDER_EXISTS */
export async function initNodeFolder(folder: NodeFolder, given: NodeConfigInput): Promise<PeerName> {
  checkConfig(given, 'flags')
  const identity = await createIdentity()
  folder.init(identity, writeYaml(given))
  return peerNameOf(identity)
}

export interface Genesis {
  id: FederationId
  charter: Charter
}

/** Writes a genesis charter into its founder's folder. @throws {WorldlmError} CHARTER_INVALID, CHARTER_CONTRADICTION, BAD_MODEL */
export function writeCharter(folder: NodeFolder, input: unknown, parent: Genesis | null): Genesis {
  const charter = completeCharter(input, { founders: [peerNameOf(folder.identity())], parent })
  // What the model cannot be is said now, not when the first node starts.
  createLayout(charter.model, charter.algorithm)
  const id = folder.addCharter(encoded(charter))
  if (!existsSync(folder.consensus(id))) writeFirstMemory(folder.consensus(id))
  return { id, charter }
}

/** What its record cannot hold is refused by field, as what a charter cannot be is. @throws {WorldlmError} CHARTER_INVALID */
function encoded(charter: Charter): Uint8Array {
  try {
    return charterCodec.encode(charter)
  } catch (error) {
    if (error instanceof z.ZodError) throw charterInvalid(error.issues[0]!)
    throw error
  }
}
