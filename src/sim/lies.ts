/**
 * What a lying peer makes of what it says: updates that claim too much, are not numbers, or are another's; acceptances whose signature is
 * wrong; rounds that count an input twice as heavily; a proposal that every second voter hears otherwise.
 *
 * Is not: all that a liar can do. A majority of voters that lies together can certify what it likes (docs/protocol.md).
 */
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Entry, Update } from '../federation/entry.ts'
import type { FederationState } from '../federation/federation-state.ts'
import type { ReplicaCore, SignedRecord } from './core.ts'
import { linkOfEntry, linkOfUpdate, sign } from './stand-ins.ts'

/** @param nth - which lie. */
export function lieAboutUpdate({ topic, state, peer }: ReplicaCore, { update }: SignedRecord, nth: number): SignedRecord {
  const others = [...state.roster.members.keys()].filter(member => member !== peer.name)
  const lies: Partial<Update>[] = [
    { weight: 1e9 },
    { weight: -1 },
    { sketches: new Uint8Array(update.sketches.length).fill(0xff) },
    { member: others[nth % Math.max(1, others.length)] ?? peer.name },
    { base: topic.id, round: update.round + 1 }
  ]
  const lie = { ...update, ...lies[nth % lies.length]! }
  return { link: linkOfUpdate(lie), update: lie }
}

/** @param place - of the one whom it is said to, among the voters. */
export function lieInConsensus(
  { topic, peer }: ReplicaCore,
  message: ConsensusMessage<Entry>,
  place: number
): ConsensusMessage<Entry> {
  if (message.type === 'accept') return { ...message, signature: message.signature.map(byte => byte ^ 1) }
  if (message.type !== 'propose' || message.entry.kind !== 'round' || place % 2 === 0) return message
  const [first, ...rest] = message.entry.inputs
  const entry: Entry = { ...message.entry, inputs: [{ ...first!, weight: first!.weight * 2 }, ...rest] }
  const link = linkOfEntry(entry)
  return { ...message, entry, link, signature: sign(peer.name, topic.id, entry.index, message.term, link) }
}

/** As an aggregator: the first input of the round that is about to be proposed counts twice what its member claims. */
export function lieAboutRound(state: FederationState): FederationState {
  const { round } = state
  if (round.phase !== 'aggregating') return state
  const [first, ...rest] = round.inputs
  if (first === undefined) return state
  return { ...state, round: { ...round, inputs: [{ ...first, weight: first.weight * 2 }, ...rest] } }
}
