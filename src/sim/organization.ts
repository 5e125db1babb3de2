/** An organization's own side of a round, simulated (node/organization.ts): train, make the update, take a certified round over. */
import { type Candidate, memberDown, type MemberOperations } from '../aggregate/down.ts'
import { foldSketch, readSketch } from '../aggregate/sketch.ts'
import type { MemberResidual, RoundEntry, Update } from '../federation/entry.ts'
import { holdersOf } from '../federation/levels.ts'
import type { RoundHead } from '../federation/participation.ts'
import type { FederationId, Link, PeerName } from '../ids.ts'
import { downAt, stepsBefore } from '../train/schedule.ts'
import type { FollowedCore, OrganizationCore, PeerCore, ReplicaCore, Services, SignedRecord } from './core.ts'
import { torn } from './disk.ts'
import { begun, type Learned } from './learner.ts'
import { blobLink } from './mixing.ts'
import { tellFingerprint } from './residual-bridge.ts'
import { SimResiduals } from './residual-target.ts'
import { linkOfUpdate } from './stand-ins.ts'

interface Saved {
  applied: Link
  trained: number
  pending: SignedRecord | null
  /** The newest trained model's blob. */
  newest: Link | null
  /** Residuals in the start of the next training. */
  residuals: MemberResidual[]
}

const retryMs = 1_000

export class SimOrganization implements OrganizationCore {
  readonly #peer: PeerCore
  readonly #services: Services
  readonly #federation: FederationId
  /** Factor on the time of its training. */
  readonly #pace: number
  #saved: Saved
  readonly residuals: SimResiduals

  constructor(peer: PeerCore, services: Services, federation: FederationId, pace: number) {
    this.#peer = peer
    this.#services = services
    this.#federation = federation
    this.#pace = pace
    this.#saved = peer.disk.read<Saved>('participation') ?? {
      ...{ applied: federation, trained: 0, pending: null },
      ...{ newest: null, residuals: [] }
    }
    this.residuals = new SimResiduals(
      () => this.#replica,
      () => this.#saved.newest,
      peer.disk,
      blob => peer.blobs.has(blob)
    )
  }

  get applied(): Link {
    return this.#saved.applied
  }
  get pending(): SignedRecord | null {
    return this.#saved.pending
  }
  get #replica(): ReplicaCore {
    return this.#peer.replicas.get(this.#federation) as ReplicaCore
  }

  train(round: number, base: Link): void {
    const replica = this.#replica
    const { learner, trainMs } = this.#services
    const start = this.#model('start') ?? learner.initial
    const training = begun(learner.train(this.#peer.organization, start, this.#saved.trained, round))
    const ms = trainMs * this.#pace * this.#peer.slowness
    if (this.#peer.slowness > 1) this.#peer.slowUntilMs = this.#services.clock.nowMs + this.#peer.worldMs(ms)
    replica.later(ms, () =>
      this.#services.wait(training, learned => {
        if (replica.alive) this.#guard(replica, () => this.#announce(replica, round, base, start, learned))
      })
    )
  }

  #announce(replica: ReplicaCore, round: number, base: Link, start: Float32Array, { after, loss, tokens }: Learned): void {
    const { mixing, learner, measures, blobBytes, observer } = this.#services
    const { disk, name, organization } = this.#peer
    disk.writeLater('personal', after)
    const blob = this.#peer.put(mixing.difference(after, start), round)
    const update: Update = {
      federation: this.#federation,
      round,
      base,
      member: name,
      by: name,
      term: 0,
      blob,
      blobBytes,
      holders: [name],
      weight: tokens,
      organizations: 1,
      textBytes: learner.textBytes(organization),
      sketches: mixing.sketch(after, start),
      ...(this.#saved.residuals.length > 0 && { residuals: this.#saved.residuals }),
      loss,
      trainSeconds: (this.#services.trainMs * this.#pace) / 1000
    }
    const record = { link: linkOfUpdate(update), update }
    // The update is durable before it is announced.
    this.#save({ ...this.#saved, trained: this.#saved.trained + 1, pending: record, newest: blob })
    this.#tellFingerprint(replica, update.sketches)
    observer.announced(replica.topic, record)
    replica.keepUpdate(record)
    this.#services.wait(learner.loss(organization, after), personal => measures.trained(organization, round, personal))
    replica.dispatch({ type: 'participation', event: { type: 'trained', ...record } })
  }

  /** After its first round; a newcomer's is of a round that it trained from elsewhere, unlike the daemon's. */
  #tellFingerprint(replica: ReplicaCore, sketches: Uint8Array): void {
    const { topic, peer } = replica
    const isOn = topic.charter.algorithm.residuals.perNode > 0 && sketches.length > 0
    if (isOn && !topic.fingerprints.has(peer.name)) tellFingerprint(replica, readSketch(foldSketch(sketches)))
  }

  /** Takes the newest certified round over; a model that nobody gives is asked for again, until a newer round makes it needless. */
  apply(): void {
    const replica = this.#replica
    const { head } = replica.state
    const { entry } = head
    if (entry === null) return
    this.#pull(entry.model, [entry.proposer, ...holdersOf(replica.state)], replica, entry.round, got => {
      if (!replica.alive) return
      if (!got) replica.later(retryMs, () => this.apply())
      else this.#pullAncestors(replica, entry, 0, () => this.#guard(replica, () => this.#mix(replica, head, entry)))
    })
  }

  /** One after the other; what cannot be had is done without. */
  #pullAncestors(replica: ReplicaCore, entry: RoundEntry, place: number, then: () => void): void {
    const above = entry.ancestors[place]
    if (!replica.alive) return
    if (above === undefined) {
      then()
      return
    }
    const follower = this.#peer.replicas.get(above.federation)
    const holders = follower === undefined ? [] : holdersOf(follower.state)
    this.#pull(above.model, holders, follower ?? replica, entry.round, () =>
      this.#pullAncestors(replica, entry, place + 1, then)
    )
  }

  #mix(replica: ReplicaCore, head: RoundHead, entry: RoundEntry): void {
    const { learner } = this.#services
    const { organization, blobs } = this.#peer
    const federation = blobs.get(entry.model)?.model
    if (federation === undefined) {
      this.apply()
      return
    }
    const { algorithm } = replica.topic.charter
    const used = algorithm.down === 'likelihood' || algorithm.down === 'chain' ? this.residuals.use(entry.round) : []
    const model = this.#model('personal') ?? learner.initial
    const start = this.#saved.pending === null ? model : (this.#model('start') ?? learner.initial)
    const own = { name: 'own', model, start, textBytes: learner.textBytes(organization) }
    const above: [Candidate<Float32Array>, ...Candidate<Float32Array>[]] = [
      { name: 'federation', model: federation, textBytes: entry.textBytes },
      ...entry.ancestors.flatMap(({ federation: name, model, textBytes }) => {
        const blob = blobs.get(model)
        return blob === undefined ? [] : [{ name, model: blob.model, textBytes }]
      }),
      ...used.map(one => ({ name: one.from, model: blobs.get(one.model)!.model, textBytes: one.textBytes, isResidual: true }))
    ]
    const options = { ...algorithm, ...downAt(stepsBefore(entry.round + 1, this.#saved.trained, algorithm.steps), algorithm) }
    const operations = this.#operations(algorithm.down === 'likelihood' ? [own, ...above] : [], federation)
    const made = memberDown(operations, options, learner.shape.keys.length, own, above)
    this.#services.wait(made, ({ model, shares }) => {
      if (!replica.alive) return
      // What was used is on disk; what comes of it not yet.
      replica.later(this.#services.aggregateMs * this.#peer.slowness, () =>
        this.#guard(replica, () => {
          const weightOf = (from: string) => shares.find(({ name }) => name === from)?.weight ?? 0
          this.#take(replica, head, entry, model, this.residuals.weighed(entry.round, used, weightOf))
        })
      )
    })
  }

  /** Candidates are judged side by side where judging takes real time; what is mixed of them, as it comes. */
  #operations(candidates: readonly Candidate<Float32Array>[], federation: Float32Array): MemberOperations<Float32Array> {
    const { learner, mixing } = this.#services
    const { organization } = this.#peer
    const judge = (backboneFrom: Float32Array, keysFrom: Float32Array) =>
      learner.judge(organization, mixing.combine(backboneFrom, keysFrom))
    const judged = new Map(candidates.map(({ model }) => [model, begun(judge(federation, model))]))
    return {
      ...mixing.operations(learner.initial),
      judge: async (backboneFrom, keysFrom) => ({
        nllPerByte: await (judged.get(keysFrom) ?? judge(backboneFrom, keysFrom)),
        parts: []
      })
    }
  }

  #take(replica: ReplicaCore, head: RoundHead, entry: RoundEntry, start: Float32Array, residuals: MemberResidual[] = []): void {
    const { observer, measures, learner } = this.#services
    const { disk, organization, blobs } = this.#peer
    disk.writeLater('start', start)
    observer.applied(this.#peer, replica.topic, entry, head.link, blobLink(blobs.get(entry.model)!.model))
    this.#save({ ...this.#saved, applied: head.link, pending: null, residuals })
    this.#services.wait(learner.loss(organization, start), loss => measures.applied(organization, entry.round, loss, start))
    replica.dispatch({ type: 'participation', event: { type: 'applied', link: head.link } })
  }

  #save(saved: Saved): void {
    this.#peer.disk.write('participation', saved)
    this.#saved = saved
  }

  /** A model file; one that a crash has torn is as good as none. */
  #model(name: 'start' | 'personal'): Float32Array | undefined {
    const found = this.#peer.disk.read<Float32Array | typeof torn>(name)
    return found === torn ? undefined : found
  }

  #pull(link: Link, holders: readonly PeerName[], replica: FollowedCore, round: number, done: (got: boolean) => void): void {
    this.#peer.pull(link, holders, replica.topic, round, done)
  }

  #guard(replica: ReplicaCore, work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#peer.fail(replica.topic, error)
    }
  }
}
