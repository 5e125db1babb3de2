/**
 * A bridge of residuals in a simulated federation (node/residual-bridge.ts): a delegate of a child drives the pure machine
 * (federation/residuals.ts), asks both sides, pulls once, forwards once.
 *
 * Fingerprints are known in a topic as soon as they are said there; the daemon says them by gossip, again and again. Is not: bridges between
 * siblings, for nobody is in two federations of organizations here.
 */
import { cosine } from '../aggregate/sketch.ts'
import {
  type Bring,
  initialResiduals,
  bridgedMax,
  type Outcome,
  outcomeOf,
  settleMs,
  type ResidualsEvent,
  type ResidualsFacts,
  type ResidualsState,
  stepResiduals
} from '../federation/residuals.ts'
import type { Place, RuledBy } from '../governance/egress.ts'
import type { MemberId, PeerName } from '../ids.ts'
import type { Fingerprint } from './fingerprint.ts'
import type { Answer, Grant, ReplicaCore, Services, Topic } from './core.ts'

const tickMs = 500
/** Charters from a federation up to the root. */
export function lineOf({ topics }: Pick<Services, 'topics'>, topic: Topic): RuledBy[] {
  const { parent } = topic.charter
  const above = parent === null ? undefined : topics.get(parent)
  return above === undefined ? [topic.charter] : [topic.charter, ...lineOf({ topics }, above)]
}

export const placeOf = (topic: Topic, peer: PeerName): Place => ({
  path: `${topic.charter.path}/${peer}`,
  kind: 'organization'
})

/** Tells the fingerprint in the organization's own topic and, where charters let sketches go there, in those above. */
export function tellFingerprint({ topic, peer, services }: ReplicaCore, floats: Float32Array): void {
  const line = lineOf(services, topic)
  const [place, federation] = [placeOf(topic, peer.name), topic.id]
  let branch: MemberId = peer.name
  for (let at: Topic | undefined = topic, below: RuledBy[] = []; at !== undefined; ) {
    const to: Place = { path: at.charter.path, kind: 'federation' }
    if (below.length > 0 && !services.consent.mayLeave(below, 'sketch', to).allowed) return
    at.fingerprints.set(peer.name, { node: { node: peer.name, federation, branch }, floats, place, line })
    branch = at.id
    below = [...below, at.charter]
    at = at.charter.parent === null ? undefined : services.topics.get(at.charter.parent)
  }
}

export class Bridge {
  readonly #replica: ReplicaCore
  #waiting: Bring[] = []
  readonly #fed = new Map<MemberId, Fingerprint>()
  #state: ResidualsState
  #seen = { round: 0, atMs: Number.POSITIVE_INFINITY }
  #living: ReadonlySet<PeerName> = new Set()
  #open = 0

  constructor(replica: ReplicaCore) {
    this.#replica = replica
    this.#state = initialResiduals(replica.peer.name)
  }

  start(): void {
    this.#replica.later(tickMs, () => this.#tick())
  }

  #tick(): void {
    const replica = this.#replica
    replica.later(tickMs, () => this.#tick())
    const { roster, present, head } = replica.state
    const bridges = [...roster.members.values()].flatMap(({ kind, peers }) => (kind === 'federation' ? peers : []))
    const living = new Set(bridges.filter(peer => peer === replica.peer.name || present.has(peer)))
    const isBridge = living.has(replica.peer.name)
    if (isBridge) this.#feed()
    if (!sameSet(living, this.#living)) this.#step({ type: 'bridges', living })
    this.#living = living
    const { rounds } = replica.topic.charter.algorithm
    // After the last round nobody takes one over.
    if (!isBridge || (rounds > 0 && head.round >= rounds)) return
    const nowMs = replica.peer.localMs()
    if (head.round > this.#seen.round) this.#seen = { round: head.round, atMs: nowMs + settleMs }
    else if (nowMs >= this.#seen.atMs) {
      this.#seen = { round: head.round, atMs: Number.POSITIVE_INFINITY }
      // What has not been begun is asked for again.
      this.#waiting = []
      this.#step({ type: 'round', round: head.round, branch: null })
    }
  }

  #feed(): void {
    const { topic, state } = this.#replica
    for (const [name, fingerprint] of topic.fingerprints) {
      if (this.#fed.get(name) === fingerprint || !state.roster.members.has(fingerprint.node.branch)) continue
      this.#fed.set(name, fingerprint)
      this.#step({ type: 'fingerprint', node: fingerprint.node })
    }
    for (const [name, { node }] of this.#fed) {
      if (state.roster.members.has(node.branch)) continue
      this.#fed.delete(name)
      this.#step({ type: 'gone', node: name })
    }
  }

  #step(event: ResidualsEvent): void {
    const [state, effects] = stepResiduals(this.#state, event, this.#facts())
    this.#state = state
    this.#waiting.push(...effects)
    while (this.#open < bridgedMax && this.#waiting.length > 0) this.#bring(this.#waiting.shift()!)
  }

  #bring({ target, source }: Bring): void {
    this.#open++
    const replica = this.#replica
    const end = (outcome: Outcome) => {
      this.#open--
      replica.services.measures.residual(outcome)
      this.#step({ type: 'answered', target, source, outcome })
    }
    replica.ask(source, { kind: 'residual', to: target }, given => {
      if (given?.kind !== 'residual' || given.grant === null) {
        end(given?.kind === 'residual' && given.forbidden ? 'forbidden' : 'away')
        return
      }
      const { grant } = given
      this.#offer(target, grant, false, first => {
        if (first !== 'wanted') end(first)
        else
          replica.peer.pull(grant.model, [source], replica.topic, replica.state.head.round, got => {
            if (!replica.alive) return
            if (!got) end('away')
            else this.#offer(target, grant, true, second => end(second === 'wanted' ? 'away' : second))
          })
      })
    })
  }

  #offer(target: MemberId, grant: Grant, held: boolean, done: (outcome: Outcome | 'wanted') => void): void {
    this.#replica.ask(target, { kind: 'offer', grant, held }, (answer: Answer | null) => {
      if (answer?.kind !== 'offer') done('gone')
      else done(outcomeOf(answer.verdict))
    })
  }

  #facts(): ResidualsFacts {
    const { topic, services } = this.#replica
    const { algorithm } = topic.charter
    return {
      ...algorithm.residuals,
      holdBack: algorithm.down !== 'likelihood',
      similarity: (left, right) => {
        const [one, other] = [topic.fingerprints.get(left), topic.fingerprints.get(right)]
        return one === undefined || other === undefined ? -1 : cosine(one.floats, other.floats)
      },
      permitted: (source, target) => {
        const [from, to] = [topic.fingerprints.get(source), topic.fingerprints.get(target)]
        if (from === undefined || to === undefined) return false
        const { mayLeave, mayEnter } = services.consent
        return mayLeave(from.line, 'residual', to.place).allowed && mayEnter(to.line, 'residual', from.place).allowed
      }
    }
  }
}

const sameSet = <Item>(left: ReadonlySet<Item>, right: ReadonlySet<Item>): boolean =>
  left.size === right.size && [...left].every(item => right.has(item))
