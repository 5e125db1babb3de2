/**
 * Heartbeats that tell nothing, in a world without faults: one that comes to a voter which follows its sender, and has all that the sender
 * has, puts an election off, and its answer says that it was heard. Whether it is one is for the machine itself to say: its step leaves
 * the voter's state as it is. Then nothing needs to be delivered, and both sides have at once what would come of it.
 *
 * Is not: for worlds with faults. There a heartbeat may come after its sender has died, or not at all, and each is delivered.
 */
import { stepConsensus } from '../federation/consensus.ts'
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Entry } from '../federation/entry.ts'
import type { PeerCore, ReplicaCore } from './core.ts'
import { messageBytes } from './sizes.ts'
import { economy } from './voice.ts'

export const isBeat = ({ type }: ConsensusMessage<Entry>): boolean => type === 'heartbeat' || type === 'heartbeat-reply'

/** @returns whether it told nothing, and so was not sent. */
export function tellsNothing(replica: ReplicaCore, to: PeerCore, message: ConsensusMessage<Entry>): boolean {
  const { services, topic, peer } = replica
  // While an entry is open it may matter who was heard before it was certified, and who after.
  if (message.type !== 'heartbeat' || !services.peaceful || !economy.on || replica.state.consensus.accepted !== null)
    return false
  const other = to.replicas.get(topic.id)
  if (other === undefined || !isReplica(other) || !other.alive) return false
  const before = other.state.consensus
  const [after, effects] = stepConsensus(before, { type: 'message', from: peer.name, message })
  const [rest, answer] = effects
  if (after !== before || effects.length !== 2 || rest?.do !== 'start-timer' || rest.jitterMs > 0 || answer?.do !== 'send')
    return false
  const { network } = services
  const bytes = messageBytes(message)
  const delayMs = network.beatDelayMs(peer, to, bytes)
  if (!replica.expects(to.name, 2 * delayMs) || !other.touch(peer.name, delayMs)) return false
  replica.touch(to.name, 2 * delayMs)
  network.countBetween(peer, to, topic.level, bytes + messageBytes(answer.message))
  other.startTimer(rest.name, rest.ms, delayMs)
  replica.dispatch({ type: 'consensus', event: { type: 'message', from: to.name, message: answer.message } })
  return true
}

const isReplica = (followed: ReturnType<PeerCore['replicas']['get']>): followed is ReplicaCore =>
  followed !== undefined && 'startTimer' in followed
