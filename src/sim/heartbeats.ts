/**
 * Heartbeats that tell nothing, in a world without faults: one that comes to a voter which follows its sender, and has all that the sender
 * has, puts an election off, and its answer says that it was heard. Whether it is one is for the machine itself to say: its step leaves
 * the voter's state as it is. Then nothing needs to be delivered, and both sides have at once what would come of it.
 *
 * Where a whole beat told nothing, and nothing has changed since, the next ones are left out (`Beats`): as many as no voter's patience
 * would miss. Their bytes are counted.
 *
 * Is not: for worlds with faults. There a heartbeat may come after its sender has died, or not at all, and each is delivered.
 */
import { stepConsensus } from '../federation/consensus.ts'
import type { ConsensusMessage, ConsensusState } from '../federation/consensus-state.ts'
import type { Entry } from '../federation/entry.ts'
import type { PeerCore, ReplicaCore } from './core.ts'
import { type LinkClass, linkBetween } from './place.ts'
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

const never = -1

/** The beats of one aggregator. */
export class Beats {
  readonly #replica: ReplicaCore
  /** Version and moves of the topic at which a whole beat told nothing. */
  #version = never
  #moves = never
  /** Heartbeats of the beat under way, and how many of them told nothing. */
  #said = 0
  #idle = 0
  #leftOut = 0
  /** Of one beat and its answers, by the voters' links. */
  #bytes = new Map<LinkClass, number>()

  constructor(replica: ReplicaCore) {
    this.#replica = replica
  }

  /** Whether the beat that is due now would tell nobody anything: then it is over. */
  leaveOut(): boolean {
    const { topic, services, state } = this.#replica
    const { electionTimeoutMs, heartbeatMs } = state.consensus.timing
    // A voter waits an election timeout and a quarter; the next beat comes within the timeout.
    const most = Math.floor(electionTimeoutMs / heartbeatMs) - 1
    if (this.#version !== topic.version || this.#moves !== topic.moves || this.#leftOut >= most) return false
    this.#leftOut++
    for (const [name, bytes] of this.#bytes) services.network.count(name, topic.level, bytes)
    return true
  }

  /** @param work - says the beat. */
  take(work: () => void): void {
    this.#said = 0
    this.#idle = 0
    this.#leftOut = 0
    this.#bytes = new Map()
    work()
    const { topic } = this.#replica
    const still = this.#said > 0 && this.#idle === this.#said
    this.#version = still ? topic.version : never
    this.#moves = still ? topic.moves : never
  }

  /** One heartbeat of the beat under way. @param bytes - with its answer. */
  note(to: PeerCore, toldNothing: boolean, bytes: number): void {
    this.#said++
    if (!toldNothing) return
    this.#idle++
    const name = linkBetween(this.#replica.peer.place, to.place)
    this.#bytes.set(name, (this.#bytes.get(name) ?? 0) + bytes)
  }
}

/** Whether a voter knows or is something else than before, and not only heard that others live. */
export function moved(before: ConsensusState<Entry>, after: ConsensusState<Entry>): boolean {
  return (
    before.role !== after.role ||
    before.term !== after.term ||
    before.votedFor !== after.votedFor ||
    before.commitIndex !== after.commitIndex ||
    before.accepted !== after.accepted ||
    before.aggregator !== after.aggregator ||
    before.voters !== after.voters ||
    before.nonce !== after.nonce ||
    before.recall !== after.recall ||
    before.distrusted !== after.distrusted
  )
}
