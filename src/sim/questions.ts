/** Questions between peers, and what a replica answers: the fetch protocol of the daemon (docs/protocol.md, "Messages"). */
import type { PeerName } from '../ids.ts'
import type { Answer, OrganizationCore, PeerCore, Question, ReplicaCore } from './core.ts'
import type { Joining } from './joining.ts'
import type { LogSync } from './log-sync.ts'
import { answerBytes, questionBytes } from './sizes.ts'

const askTimeoutMs = 5_000
/** Updates in one answer. */
const updatesMax = 50

export class Questions {
  readonly #replica: ReplicaCore
  readonly #sync: LogSync
  readonly #joining: Joining

  constructor(replica: ReplicaCore, sync: LogSync, joining: Joining) {
    this.#replica = replica
    this.#sync = sync
    this.#joining = joining
  }

  /** @param done - called once, with null where nobody answers; not at all once this replica is gone. */
  ask(to: PeerName, question: Question, done: (answer: Answer | null) => void): void {
    const replica = this.#replica
    const { network, peers, clock } = replica.services
    const peer = peers.get(to)
    const { incarnation } = replica.peer
    let open = true
    const once = (answer: Answer | null) => {
      if (!open || replica.peer.incarnation !== incarnation || !replica.alive) return
      open = false
      replica.read()
      done(answer)
    }
    if (peer === undefined || (!peer.up && network.reaches(replica.peer, peer))) {
      // Nobody listens there: the dial is refused.
      clock.call(peer === undefined ? 1 : network.roundTripMs(replica.peer, peer), () => once(null))
      return
    }
    const { topic } = replica
    network.send(replica.peer, peer, { kind: 'question', topic, question, done: once }, questionBytes(question), topic.level)
    clock.call(replica.peer.worldMs(askTimeoutMs), () => once(null))
  }

  answer(from: PeerCore, question: Question, done: (answer: Answer | null) => void): void {
    const { services, peer, topic } = this.#replica
    const answer = this.#answerTo(from, question)
    services.network.send(peer, from, { kind: 'answer', topic, answer, done }, answerBytes(answer), topic.level)
  }

  /** Its peer's, which is in another federation where this one is above it. */
  #organization(): OrganizationCore | null {
    for (const { organization } of this.#replica.peer.replicas.values()) if (organization !== null) return organization
    return null
  }

  #answerTo(from: PeerCore, question: Question): Answer {
    const replica = this.#replica
    switch (question.kind) {
      case 'entries':
        return this.#sync.entriesFrom(question.fromIndex)
      case 'updates': {
        const updates = question.links.flatMap(link => {
          const update = replica.updates.get(link)
          return update === undefined ? [] : [{ link, update }]
        })
        return { kind: 'updates', updates: updates.slice(0, updatesMax) }
      }
      case 'join':
        return this.#joining.onJoin(from.name, question)
      case 'residual':
        return (
          this.#organization()?.residuals.grant(question, replica.topic) ?? { kind: 'residual', grant: null, forbidden: false }
        )
      case 'offer':
        return (
          this.#organization()?.residuals.offered(from.name, question, replica.topic) ?? { kind: 'offer', verdict: 'refused' }
        )
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
