/** Questions between peers, and what a replica answers: the fetch protocol of the daemon (docs/protocol.md, "Messages"). */
import type { PeerName } from '../ids.ts'
import type { Answer, FollowedCore, Message, PeerCore, Question, ReplicaCore } from './core.ts'
import type { Joining } from './joining.ts'
import type { LogSync } from './log-sync.ts'
import { answerBytes, questionBytes } from './sizes.ts'
import type { Waiting } from './timeouts.ts'

const askTimeoutMs = 5_000
/** Updates in one answer. */
const updatesMax = 50

/** @param done - called once, with null where nobody answers; not at all once this replica is gone. */
export function ask(replica: FollowedCore, to: PeerName, question: Question, done: (answer: Answer | null) => void): void {
  const { network, peers, clock, peaceful } = replica.services
  const peer = peers.get(to)
  const asked = new Asked(replica, done)
  if (peer === undefined || (!peer.up && network.reaches(replica.peer, peer))) {
    // Nobody listens there: the dial is refused.
    clock.call(peer === undefined ? 1 : network.roundTripMs(replica.peer, peer), () => asked.timedOut())
    return
  }
  const { topic } = replica
  const message: Message = { kind: 'question', topic, question, done: answer => asked.answer(answer) }
  network.send(replica.peer, peer, message, questionBytes(question), topic.level)
  // Where nobody dies and nothing is cut, there is an answer.
  if (!peaceful) replica.peer.timeouts.add(replica.peer.worldMs(askTimeoutMs), asked)
}

/** One question, until it is answered or its time is over. */
class Asked implements Waiting {
  readonly #replica: FollowedCore
  readonly #done: (answer: Answer | null) => void
  #isAnswered = false

  constructor(replica: FollowedCore, done: (answer: Answer | null) => void) {
    this.#replica = replica
    this.#done = done
  }

  get isOpen(): boolean {
    return !this.#isAnswered && this.#replica.alive
  }

  answer(answer: Answer | null): void {
    if (!this.isOpen) return
    this.#isAnswered = true
    this.#done(answer)
  }

  timedOut(): void {
    this.answer(null)
  }
}

/** Answers a question of `from`. */
export function say(
  { services, peer, topic }: FollowedCore,
  from: PeerCore,
  answer: Answer,
  done: (answer: Answer | null) => void
): void {
  services.network.send(peer, from, { kind: 'answer', topic, answer, done }, answerBytes(answer), topic.level)
}

/** Of the peer's organization, which is in another federation where this one is above it. */
export function residualAnswer(
  { peer, topic }: FollowedCore,
  from: PeerName,
  question: Extract<Question, { kind: 'residual' | 'offer' }>
): Answer {
  for (const { organization } of peer.replicas.values()) {
    if (organization === null) continue
    const { residuals } = organization
    return question.kind === 'residual' ? residuals.grant(question, topic) : residuals.offered(from, question, topic)
  }
  return question.kind === 'residual'
    ? { kind: 'residual', grant: null, forbidden: false }
    : { kind: 'offer', verdict: 'refused' }
}

export class Questions {
  readonly #replica: ReplicaCore
  readonly #sync: LogSync
  readonly #joining: Joining

  constructor(replica: ReplicaCore, sync: LogSync, joining: Joining) {
    this.#replica = replica
    this.#sync = sync
    this.#joining = joining
  }

  answer(from: PeerCore, question: Question, done: (answer: Answer | null) => void): void {
    say(this.#replica, from, this.#answerTo(from, question), done)
  }

  #answerTo(from: PeerCore, question: Question): Answer {
    const replica = this.#replica
    switch (question.kind) {
      case 'entries':
        return this.#sync.entriesFrom(question.fromIndex)
      case 'updates': {
        replica.glance()
        const updates = question.links.flatMap(link => {
          const update = replica.updates.get(link)
          return update === undefined ? [] : [{ link, update }]
        })
        return { kind: 'updates', updates: updates.slice(0, updatesMax) }
      }
      case 'join':
        return this.#joining.onJoin(from.name, question)
      case 'residual':
      case 'offer':
        return residualAnswer(replica, from.name, question)
      case 'receipt':
        replica.dispatch({
          type: 'participation',
          event: { type: 'receipt', link: question.update, accepted: question.verdict === 'accepted' }
        })
        replica.recordReceipt(question.update, question.verdict)
        return { kind: 'receipt' }
    }
  }
}
