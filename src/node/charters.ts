/** The charter and the log that a federation begins with on this node: from its own disk, checked, or from whoever follows it. */
import { WorldlmError } from '../errors.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId } from '../ids.ts'
import { beginLog, extendLog } from '../wire/certified-log.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { answerCodec, type CertifiedBytes, questionCodec } from '../wire/messages.ts'
import type { NodeFolder } from './folder.ts'
import type { Services } from './services.ts'

/** What is on one's own disk is believed no more than what comes from others. @throws {WorldlmError} CHARTER_DAMAGED, CAR_DAMAGED */
export function verifyOwn(
  folder: NodeFolder,
  id: FederationId,
  charterBytes: Uint8Array,
  entries: readonly (CertifiedBytes | undefined)[]
): Charter {
  const begun = beginLog(charterBytes)
  if ('code' in begun)
    throw new WorldlmError(
      'CHARTER_DAMAGED',
      `the charter of ${id}: ${begun.detail}`,
      'Ask for a newer version of worldlm, or another id.'
    )
  let log = begun
  for (let place = 0; place < entries.length; place++) {
    const one = entries[place]
    const extended = one === undefined ? { index: place + 1, code: 'GAP', detail: 'it is missing' } : extendLog(log, one)
    if ('code' in extended) {
      throw new WorldlmError(
        'CAR_DAMAGED',
        `${folder.certifiedCar}: entry ${extended.index} of ${begun.charter.path}: ${extended.detail}`,
        'Move the file away and start the node again: it fetches the certified log from the other members.'
      )
    }
    log = extended.log
  }
  return begun.charter
}

const askTimeoutMs = 3_000
const pauseMs = 200
/** Tries between two warnings: ten seconds. */
const triesToWarn = 50

/** @throws {WorldlmError} STOPPED */
export async function fetchCharter(
  { directory, host, direct, events }: Pick<Services, 'directory' | 'host' | 'direct' | 'events'>,
  id: FederationId,
  stopped: () => boolean
): Promise<Uint8Array> {
  let found: Uint8Array | null = null
  directory.follow(id, () => found !== null)
  for (let tries = 0; !stopped(); tries++) {
    for (const peer of host.connectedPeers()) {
      try {
        const bytes = await direct.ask(
          peer,
          questionCodec.encode({ kind: 'entries', federation: id, fromIndex: 0 }),
          askTimeoutMs
        )
        const answer = answerCodec.decode(bytes)
        if (!isMalformed(answer) && answer.kind === 'entries' && answer.charter !== null && linkOf(answer.charter) === id)
          found = answer.charter
      } catch {
        // That peer does not know it; another may.
      }
      if (found !== null) return found
    }
    if (tries % triesToWarn === triesToWarn - 1)
      events.emit({
        type: 'warning',
        code: 'CHARTER_UNKNOWN',
        message: `nobody has given the charter of ${id} yet: is a bootstrap address right, and a member of it up?`
      })
    await new Promise(resolve => setTimeout(resolve, pauseMs))
  }
  throw new WorldlmError('STOPPED', 'the node was stopped while it looked for its federation', 'Start it again.')
}
