/** The charter and the log that a federation begins with on this node: from its own disk, checked, or from whoever follows it. */
import { WorldlmError } from '../errors.ts'
import { emptyLog, foldEntry, type FoldedLog } from '../federation/federation-start.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, PeerName } from '../ids.ts'
import { beginLog, extendLog } from '../wire/certified-log.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { answerCodec, questionCodec } from '../wire/messages.ts'
import { Breath } from './breath.ts'
import type { EntryLog } from './entry-log.ts'
import type { NodeFolder } from './folder.ts'
import type { Services } from './services.ts'

/**
 * What is on one's own disk is believed no more than what comes from others. A log of months takes a minute: the event loop goes on meanwhile.
 * @throws {WorldlmError} CHARTER_DAMAGED, CAR_DAMAGED, STOPPED
 */
export async function verifyOwn(
  folder: NodeFolder,
  id: FederationId,
  charterBytes: Uint8Array,
  entries: EntryLog,
  stopped: () => boolean
): Promise<{ charter: Charter; folded: FoldedLog }> {
  const begun = beginLog(charterBytes)
  if ('code' in begun)
    throw new WorldlmError(
      'CHARTER_DAMAGED',
      `the charter of ${id}: ${begun.detail}`,
      'Ask for a newer version of worldlm, or another id.'
    )
  const { charter } = begun
  const breath = new Breath()
  let log = begun
  let folded = emptyLog(id, charter)
  for (let place = 0; place < entries.length; place++) {
    await breath.take()
    if (stopped()) throw wasStopped('read its log')
    const one = entries.at(place)
    const extended = one === undefined ? { index: place + 1, code: 'GAP', detail: 'it is missing' } : extendLog(log, one)
    if ('code' in extended) {
      throw new WorldlmError(
        'CAR_DAMAGED',
        `${folder.certifiedCar}: entry ${extended.index} of ${charter.path}: ${extended.detail}`,
        'Move the file away and start the node again: it fetches the certified log from the other members.'
      )
    }
    log = extended.log
    folded = foldEntry(folded, extended)
  }
  return { charter, folded }
}

const wasStopped = (what: string): WorldlmError =>
  new WorldlmError('STOPPED', `the node was stopped while it ${what}`, 'Start it again.')

const askTimeoutMs = 3_000
const pauseMs = 50
const warnEveryMs = 10_000
/** Peers asked at a time: one that does not answer holds up no other, and no stranger holds up who is likely to know. */
const askingMax = { provider: 8, other: 4 }
/** Who had no charter is asked again after that; peers that the directory names, which may be looking for it themselves, sooner. */
const againMs = { provider: 500, other: 5_000 }

/** @throws {WorldlmError} STOPPED */
export async function fetchCharter(
  { directory, host, direct, events }: Pick<Services, 'directory' | 'host' | 'direct' | 'events'>,
  id: FederationId,
  stopped: () => boolean
): Promise<Uint8Array> {
  let found: Uint8Array | null = null
  directory.follow(id, () => found !== null)
  const question = questionCodec.encode({ kind: 'entries', federation: id, fromIndex: 0 })
  const asking = new Set<PeerName>()
  const notBeforeMs = new Map<PeerName, number>()
  const ask = async (peer: PeerName) => {
    asking.add(peer)
    try {
      const answer = answerCodec.decode(await direct.ask(peer, question, askTimeoutMs))
      if (!isMalformed(answer) && answer.kind === 'entries' && answer.charter !== null && linkOf(answer.charter) === id)
        found = answer.charter
    } catch {
      // That peer does not know it; another may.
    }
    asking.delete(peer)
    const again = directory.providers(id).has(peer) ? againMs.provider : againMs.other
    notBeforeMs.set(peer, performance.now() + again)
  }
  for (let warnedAtMs = performance.now(); !stopped(); ) {
    const providers = directory.providers(id)
    const isDue = (peer: PeerName) => !asking.has(peer) && (notBeforeMs.get(peer) ?? 0) <= performance.now()
    const due = host.connectedPeers().filter(isDue)
    const ordered = [...due.filter(peer => providers.has(peer)), ...due.filter(peer => !providers.has(peer))]
    for (const peer of ordered) if (asking.size < (providers.has(peer) ? askingMax.provider : askingMax.other)) void ask(peer)
    await new Promise(resolve => setTimeout(resolve, pauseMs))
    if (found !== null) return found
    if (performance.now() - warnedAtMs < warnEveryMs) continue
    warnedAtMs = performance.now()
    events.emit({
      type: 'warning',
      code: 'CHARTER_UNKNOWN',
      message: `nobody has given the charter of ${id} yet: is a bootstrap address right, and a member of it up?`
    })
  }
  throw wasStopped('looked for its federation')
}
