/** Bytes of messages on the wire, near enough: what src/wire makes of them, plus 100 of libp2p's own. */
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Entry, Update } from '../federation/entry.ts'
import type { Answer, Question } from './core.ts'

const overhead = 100

export function entryBytes(entry: Entry): number {
  if (entry.kind === 'members') return 400 + entry.joined.length * 300 + (entry.voters.length + entry.delegates.length) * 54
  return 700 + entry.inputs.length * (120 + 9 * (entry.inputs[0]?.attention.length ?? 0)) + entry.excluded.length * 70
}

export function messageBytes(message: ConsensusMessage<Entry>): number {
  if (message.type === 'propose') return overhead + 100 + entryBytes(message.entry)
  return overhead + (message.type === 'accept' ? 220 : 100)
}

export const updateBytes = (update: Update): number => overhead + 600 + update.sketches.length
/** A link and two signatures, or two of each. */
export const evidenceBytes = overhead + 400
export const presenceBytes = overhead + 300

export function questionBytes(question: Question): number {
  if (question.kind === 'updates') return overhead + 80 + question.links.length * 40
  return overhead + (question.kind === 'join' ? 500 : 160)
}

export function answerBytes(answer: Answer): number {
  if (answer.kind === 'entries') return answer.entries.reduce((sum, { entry }) => sum + entryBytes(entry) + 600, overhead)
  if (answer.kind === 'updates') return answer.updates.reduce((sum, { update }) => sum + updateBytes(update), overhead)
  return overhead + 60
}
