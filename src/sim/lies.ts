/**
 * What a lying peer makes of what it says: updates that claim too much, are not numbers, or are another's; acceptances whose signature is
 * wrong; rounds that count an input twice as heavily; a proposal that every second voter hears otherwise.
 *
 * And what an equivocating one does, which is honest in all else: as an aggregator it proposes one entry to some voters and another to
 * the others; as a voter it tells that it accepted one entry, and that it accepted another (gossip brings both to all). It signs both.
 *
 * Is not: all that a liar can do. A majority of voters that lies together can certify what it likes, and an aggregator that has two good
 * entries signed by half of the voters each can split the log (docs/protocol.md, "Members that leave, lie, or are gone").
 */
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Entry, Update } from '../federation/entry.ts'
import type { EvidenceMessage } from '../federation/evidence.ts'
import type { FederationState } from '../federation/federation-state.ts'
import type { PeerName } from '../ids.ts'
import type { ReplicaCore, SignedRecord } from './core.ts'
import { linkOfEntry, linkOfUpdate, sign } from './stand-ins.ts'

/** @param nth - which lie. */
export function lieAboutUpdate({ topic, state, peer }: ReplicaCore, { update }: SignedRecord, nth: number): SignedRecord {
  const others = [...state.roster.members.keys()].filter(member => member !== peer.name)
  const lies: Partial<Update>[] = [
    { weight: 1e9 },
    { weight: -1 },
    // What a delegate tells of those below its federation nobody above can count.
    update.member === peer.name ? { organizations: Number.MAX_SAFE_INTEGER } : { weight: -1 },
    { sketches: new Uint8Array(update.sketches.length).fill(0xff) },
    { member: others[nth % Math.max(1, others.length)] ?? peer.name },
    { base: topic.id, round: update.round + 1 }
  ]
  const lie = { ...update, ...lies[nth % lies.length]! }
  return { link: linkOfUpdate(lie), update: lie }
}

/** What `to` hears where an honest peer would say `message`. A liar lies of rounds alone, and to every second voter, itself counted. */
export function asSaid(replica: ReplicaCore, message: ConsensusMessage<Entry>, to: PeerName): ConsensusMessage<Entry> {
  const { peer, topic, services, state } = replica
  if (!peer.lying && !peer.equivocating) return message
  if (message.type === 'accept' && peer.lying) return { ...message, signature: message.signature.map(byte => byte ^ 1) }
  if (message.type !== 'propose' || (message.entry.kind !== 'round' && !peer.equivocating)) return message
  const { voters } = state.consensus
  const heardBy = peer.lying ? voters : voters.filter(voter => voter !== peer.name)
  if (heardBy.indexOf(to) % 2 === 0) return message
  const entry = otherThan(message.entry)
  const link = linkOfEntry(entry)
  // Where no evidence is carried nobody finds out.
  if (services.treacherous) services.observer.signedTwice(peer, topic, entry.index)
  return { ...message, entry, link, signature: sign(peer.name, topic.id, entry.index, message.term, link) }
}

/** One that no honest voter accepts: an input counts twice as heavily; a peer is absent twice. */
function otherThan(entry: Entry): Entry {
  if (entry.kind === 'members') return { ...entry, absent: [...entry.absent, entry.proposer, entry.proposer] }
  const [first, ...rest] = entry.inputs
  return { ...entry, inputs: [{ ...first!, weight: first!.weight * 2 }, ...rest] }
}

/** What else it tells that it accepted, or null: it has nothing to lie about. */
export function acceptOther(
  { topic, peer, state }: ReplicaCore,
  message: EvidenceMessage
): Extract<EvidenceMessage, { kind: 'accepts' }> | null {
  const { accepted } = state.consensus
  if (message.kind !== 'accepts' || accepted?.link !== message.accepts.entry) return null
  const { index, term } = message.accepts
  const entry = linkOfEntry(otherThan(accepted.entry))
  const signatures = [{ voter: peer.name, signature: sign(peer.name, topic.id, index, term, entry) }]
  return { kind: 'accepts', accepts: { ...message.accepts, entry, signatures } }
}

/** As an aggregator: the first input of the round that is about to be proposed counts twice what its member claims. */
export function lieAboutRound(state: FederationState): FederationState {
  const { round } = state
  if (round.phase !== 'aggregating') return state
  const [first, ...rest] = round.inputs
  if (first === undefined) return state
  return { ...state, round: { ...round, inputs: [{ ...first, weight: first.weight * 2 }, ...rest] } }
}
