/**
 * Residuals of a simulated organization: as a source it grants them, as a target it takes and uses them (node/residual-target.ts). What is
 * used is on disk before it is mixed in (I6).
 */
import { cosine } from '../aggregate/sketch.ts'
import type { MemberResidual } from '../federation/entry.ts'
import {
  arriveResidual,
  initialTarget,
  offerResidual,
  type TargetState,
  useResiduals,
  type UsedResidual,
  weighResiduals
} from '../federation/residual-target.ts'
import type { Link, MemberId, PeerName } from '../ids.ts'
import type { Answer, Grant, Question, ReplicaCore, ResidualsOfOrganization, Topic } from './core.ts'
import { lineOf, placeOf } from './residual-bridge.ts'

const file = 'residuals'

export class SimResiduals implements ResidualsOfOrganization {
  readonly #replica: () => ReplicaCore
  /** The newest trained model's blob. */
  readonly #newest: () => Link | null
  #state: TargetState

  /** @param replica - of its own federation. */
  constructor(
    replica: () => ReplicaCore,
    newest: () => Link | null,
    held: { read(path: string): unknown },
    has: (blob: Link) => boolean
  ) {
    this.#replica = replica
    this.#newest = newest
    const saved = (held.read(file) as TargetState | undefined) ?? initialTarget
    // What was on its way when the node stopped is not.
    this.#state = { ...saved, places: saved.places.filter(({ state, model }) => state === 'held' && has(model)) }
  }

  /** As a source. */
  grant({ to }: Extract<Question, { kind: 'residual' }>, ancestor: Topic): Answer {
    const { topic, peer, services } = this.#replica()
    const target = ancestor.fingerprints.get(to)
    const model = this.#newest()
    if (target === undefined || target.node.federation === topic.id || model === null)
      return { kind: 'residual', grant: null, forbidden: false }
    if (!services.consent.mayLeave(lineOf(services, topic), 'residual', target.place).allowed)
      return { kind: 'residual', grant: null, forbidden: true }
    const textBytes = services.learner.textBytes(peer.organization)
    return { kind: 'residual', grant: { from: peer.name, to, model, textBytes }, forbidden: false }
  }

  /** As a target. */
  offered(via: PeerName, { grant, held }: Extract<Question, { kind: 'offer' }>, ancestor: Topic): Answer {
    const { topic, peer, services, state } = this.#replica()
    const refused: Answer = { kind: 'offer', verdict: 'refused' }
    const [own, source] = [topic.fingerprints.get(peer.name), ancestor.fingerprints.get(grant.from)]
    if (own === undefined || source === undefined || grant.to !== peer.name || source.node.federation === topic.id)
      return refused
    const { mayLeave, mayEnter } = services.consent
    const leaves = mayLeave(source.line, 'residual', placeOf(topic, peer.name)).allowed
    const enters = mayEnter(lineOf(services, topic), 'residual', source.place).allowed
    if (!leaves || !enters) return { kind: 'offer', verdict: 'forbidden' }
    const { residuals } = topic.charter.algorithm
    const similarity = Math.min(1, Math.max(-1, cosine(own.floats, source.floats)))
    if (!(similarity >= residuals.minSimilarity)) return refused
    const offer = { from: grant.from, similarity, via, model: grant.model, textBytes: grant.textBytes, held }
    const [next, verdict] = offerResidual(this.#state, offer, state.head.round, residuals)
    this.#state = next
    if (verdict === 'take') this.#pull(grant, via, ancestor)
    return { kind: 'offer', verdict }
  }

  #pull({ from, model }: Grant, via: PeerName, ancestor: Topic): void {
    const replica = this.#replica()
    replica.peer.pull(model, [via], ancestor, replica.state.head.round, got => {
      if (replica.alive) this.#state = arriveResidual(this.#state, from, model, got)
    })
  }

  use(round: number): UsedResidual[] {
    const { peer, topic, services } = this.#replica()
    const [next, used] = useResiduals(this.#state, round)
    if (used.length > 0) this.#save(next)
    else this.#state = next
    const here = used.filter(({ model }) => peer.blobs.has(model))
    for (const { from, model } of here) services.observer.used(peer, topic, round, from, model)
    return here
  }

  weighed(round: number, used: readonly UsedResidual[], weightOf: (from: MemberId) => number): MemberResidual[] {
    const residuals = used.map(({ from, via, model, similarity }) => ({ from, via, model, similarity, weight: weightOf(from) }))
    const { charter } = this.#replica().topic
    if (residuals.length > 0) this.#save(weighResiduals(this.#state, round, residuals, charter.algorithm.residuals))
    return residuals
  }

  #save(state: TargetState): void {
    this.#replica().peer.disk.write(file, state)
    this.#state = state
  }
}
