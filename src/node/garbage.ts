/** Which blobs a node still needs: the models of the newest rounds, updates that may yet be counted, and what came in just now. */
import type { Link } from '../ids.ts'
import { isMalformed } from '../wire/codec.ts'
import { readUpdate } from '../wire/certified-log.ts'
import { entryCodec } from '../wire/records.ts'
import type { Blobs } from './blobs.ts'
import type { FederationNode } from './federation-node.ts'
import type { Organization } from './organization.ts'

export function collectGarbage(blobs: Blobs, federations: FederationNode[], organization: Organization | null): void {
  const needed = new Set<Link>()
  for (const { log, state, residuals, target } of federations) {
    const { initial, tokenizer } = state.charter
    for (const link of [initial, tokenizer]) if (link !== undefined) needed.add(link)
    for (const link of [...residuals.needed, ...(target?.needed ?? [])]) needed.add(link)
    for (const entry of newestRounds(log, state.charter.retention.keepRounds)) {
      needed.add(entry.model)
      if (entry.outer !== null) needed.add(entry.outer)
      for (const { model } of entry.ancestors) needed.add(model)
    }
    for (const { update } of state.known.values()) needed.add(update.blob)
    const { round } = state
    if (round.phase !== 'idle' && round.phase !== 'collecting') for (const { update } of round.inputs) needed.add(update.blob)
    if (round.phase === 'waiting-for-parent' || round.phase === 'combining')
      for (const link of [round.result.model, round.result.contribution]) if (link !== null) needed.add(link)
    const open = state.consensus.accepted?.entry
    // Proposed, or made and waiting until another entry is certified.
    for (const made of [round.phase === 'proposing' ? round.body : null, open?.kind === 'round' ? open : null])
      for (const link of [made?.model, made?.outer]) if (typeof link === 'string') needed.add(link)
    if (state.parentHead !== null) needed.add(state.parentHead.model)
  }
  const pending = organization?.pending ?? null
  const update = pending === null ? null : readUpdate(pending.signed)
  if (update !== null) needed.add(update.update.blob)
  // A bridge may ask for it.
  const newest = organization?.newest ?? null
  if (newest !== null) needed.add(newest.model)
  blobs.keep(needed)
}

function newestRounds(log: FederationNode['log'], count: number) {
  return log.rounds(count).flatMap(({ entry: bytes }) => {
    const entry = entryCodec.decode(bytes)
    return isMalformed(entry) || entry.kind !== 'round' ? [] : [entry]
  })
}
