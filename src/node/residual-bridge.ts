/**
 * A bridge: carries residuals where federation/residuals.ts says (docs/protocol.md, "Residuals"). For one residual:
 *
 *   bridge → source   may the target have your key layers?     source asks its charters; a grant, signed, or no
 *   bridge → target   do you take this?                        target asks its own, and its places
 *   bridge ← source   the blob, once
 *   bridge → target   I have it; target ← bridge               forwarded once
 */
import { cosine } from '../aggregate/sketch.ts'
import {
  type Bring,
  type Fingerprinted,
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
import { mayEnter, mayLeave, type Place, type RuledBy } from '../governance/egress.ts'
import type { Link, MemberId, PeerName } from '../ids.ts'
import type { Answer, Question, Shown, Signed } from '../wire/messages.ts'
import { readGrant } from '../wire/residual-records.ts'
import { type FederationCore, isByLikelihood } from './federation-core.ts'

export interface BridgedNode {
  node: Fingerprinted
  floats: Float32Array
  /** With charters up to the common ancestor. */
  shown: Shown
  /** Charters from its own federation up to the root. */
  line: RuledBy[]
  place: Place
}

export interface BridgeHost {
  /** Through which is asked; its charter's algorithm is that of the whole tree. */
  readonly core: FederationCore
  nodes(): ReadonlyMap<MemberId, BridgedNode>
  /** Bridges that are there, this node among them if it is one. */
  living(): ReadonlySet<PeerName>
  /** Newest certified rounds that residuals are brought in: of the common ancestor, or (by branch) of two siblings. */
  rounds(): { branch: MemberId | null; round: number }[]
}

/** Looks for which a residual that was brought stays here. */
const keptLooks = 3
/** Looks for which its targets may still ask for it: whoever is slow is told that it is gone, and is no stranger who wants what it may not have. */
const readableLooks = 10

export class Bridge {
  readonly #host: BridgeHost
  readonly #seen = new Map<MemberId | null, { round: number; at: number }>()
  readonly #fed = new Map<MemberId, Shown>()
  #waiting: Bring[] = []
  #state: ResidualsState
  #nodes: ReadonlyMap<MemberId, BridgedNode> = new Map()
  #living: ReadonlySet<PeerName> = new Set()
  #open = 0
  #looks = 0
  /** Models that were brought, by the look with which they came. */
  readonly #models = new Map<Link, number>()
  /** Targets that each of them was offered to. */
  readonly #readers = new Map<Link, Set<PeerName>>()

  constructor(host: BridgeHost) {
    this.#host = host
    this.#state = initialResiduals(host.core.self)
  }

  /** Blobs that must stay here. */
  get needed(): Link[] {
    return [...this.#models].filter(([, since]) => since > this.#looks - keptLooks).map(([model]) => model)
  }

  /** Targets that may have this residual; null if it was not brought here. */
  readersOf(blob: Link): ReadonlySet<PeerName> | null {
    return this.#readers.get(blob) ?? null
  }

  tick(): void {
    const living = this.#host.living()
    const isBridge = living.has(this.#host.core.self)
    if (isBridge) this.#feed()
    if (!sameSet(living, this.#living)) this.#step({ type: 'bridges', living })
    this.#living = living
    if (isBridge) this.#openRounds()
  }

  #feed(): void {
    this.#nodes = this.#host.nodes()
    for (const [name, { node, shown }] of this.#nodes) {
      if (this.#fed.get(name)?.signed === shown.signed) continue
      this.#fed.set(name, shown)
      this.#step({ type: 'fingerprint', node })
    }
    for (const name of this.#fed.keys()) {
      if (this.#nodes.has(name)) continue
      this.#fed.delete(name)
      this.#step({ type: 'gone', node: name })
    }
  }

  #openRounds(): void {
    const now = performance.now()
    const { rounds } = this.#host.core.options.charter.algorithm
    for (const { branch, round } of this.#host.rounds()) {
      // After the last round nobody takes one over.
      if (rounds > 0 && round >= rounds) continue
      let seen = this.#seen.get(branch)
      if (seen === undefined || round > seen.round) {
        // Where rounds are quicker than this, it is one of several: each of them would put the look off for ever.
        const isWaiting = seen !== undefined && Number.isFinite(seen.at)
        seen = { round, at: isWaiting ? seen!.at : now + settleMs }
        this.#seen.set(branch, seen)
      }
      if (now >= seen.at && round > 0) {
        this.#seen.set(branch, { round, at: Number.POSITIVE_INFINITY })
        for (const [model, since] of this.#models) {
          if (since > this.#looks - readableLooks) continue
          this.#models.delete(model)
          this.#readers.delete(model)
        }
        // What has not been begun is asked for again, by what is known now.
        const isOver = ({ target }: Bring) => branch === null || this.#nodes.get(target)?.node.branch === branch
        this.#waiting = this.#waiting.filter(bring => !isOver(bring))
        this.#step({ type: 'round', round: ++this.#looks, branch })
      }
    }
  }

  #step(event: ResidualsEvent): void {
    const [state, effects] = stepResiduals(this.#state, event, this.#facts())
    this.#state = state
    this.#waiting.push(...effects)
    while (this.#open < bridgedMax && this.#waiting.length > 0) void this.#run(this.#waiting.shift()!)
  }

  async #run(bring: Bring): Promise<void> {
    this.#open++
    let outcome: Outcome = 'away'
    try {
      outcome = await this.#bring(bring)
    } catch (error) {
      this.#host.core.options.services.log.debug({ ...bring, error: String(error) }, 'residual not brought')
    }
    this.#open--
    if (!this.#host.core.stopped) this.#step({ type: 'answered', target: bring.target, source: bring.source, outcome })
  }

  async #bring({ target: to, source: from }: Bring): Promise<Outcome> {
    const [target, source] = [this.#nodes.get(to), this.#nodes.get(from)]
    if (target === undefined || source === undefined) return 'away'
    const { exchange, log } = this.#host.core.options.services
    const asked = { kind: 'residual', federation: source.node.federation, from, to: target.shown } as const
    const given = await this.#ask(from, asked)
    if (given?.kind !== 'residual') return 'away'
    const grant = given.grant === null ? null : readGrant(given.grant)
    if (given.grant === null || grant === null) return given.forbidden ? 'forbidden' : 'away'
    // Its target would refuse it, and be taken for one that does not answer.
    if (grant.from !== from || grant.to !== to) return 'away'
    const offered = await this.#offer(to, target, source, given.grant, false)
    if (offered !== 'wanted') return offered
    // Before it comes: who is receiving serves what it has.
    this.#models.set(grant.model, this.#looks)
    this.#readers.set(grant.model, (this.#readers.get(grant.model) ?? new Set()).add(to))
    await exchange.pull(grant.model, [from])
    const outcome = await this.#offer(to, target, source, given.grant, true)
    log.debug({ from: source.place.path, to: target.place.path, outcome }, 'residual')
    return outcome === 'wanted' ? 'away' : outcome
  }

  async #offer(
    to: MemberId,
    target: BridgedNode,
    source: BridgedNode,
    grant: Signed,
    held: boolean
  ): Promise<Outcome | 'wanted'> {
    const { federation } = target.node
    const answer = await this.#ask(to, { kind: 'offer', federation, to, source: source.shown, grant, held })
    if (answer?.kind !== 'offer') return 'gone'
    return outcomeOf(answer.verdict)
  }

  /** A bridge may be source or target itself. */
  async #ask(peer: PeerName, question: Question): Promise<Answer | null> {
    const { core } = this.#host
    if (peer !== core.self) return core.ask(peer, question)
    return (await core.options.sibling(question.federation)?.answer(peer, question)) ?? null
  }

  #facts(): ResidualsFacts {
    const { algorithm } = this.#host.core.options.charter
    const at = (name: MemberId) => this.#nodes.get(name)
    const similarity = (left?: BridgedNode, right?: BridgedNode) =>
      // One of the two has just left.
      left === undefined || right === undefined ? -1 : cosine(left.floats, right.floats)
    return {
      ...algorithm.residuals,
      holdBack: !isByLikelihood(algorithm),
      similarity: (left, right) => similarity(at(left), at(right)),
      permitted: (source, target) => {
        const [from, to] = [at(source), at(target)]
        if (from === undefined || to === undefined) return false
        return mayLeave(from.line, 'residual', to.place).allowed && mayEnter(to.line, 'residual', from.place).allowed
      }
    }
  }
}

const sameSet = <Item>(left: ReadonlySet<Item>, right: ReadonlySet<Item>): boolean =>
  left.size === right.size && [...left].every(item => right.has(item))
