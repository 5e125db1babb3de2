/**
 * Residuals on their target's node: what is offered is checked again, pulled from the bridge, and given to the organization's attention once.
 *
 *   residuals.json   places, what was used last, who was dropped: on disk before a residual is mixed in (I6). What was offered or came since
 *                    is written with it, and lost where the node ends before: it is offered again.
 *
 * Is not: the choice of what is brought (residual-bridge.ts), nor its weight (aggregate/down.ts).
 */
import { existsSync, readFileSync } from 'node:fs'
import { cosine, readSketch } from '../aggregate/sketch.ts'
import type { Share } from '../aggregate/down.ts'
import type { MemberResidual } from '../federation/entry.ts'
import { shortened } from '../federation/fault.ts'
import {
  arriveResidual,
  initialTarget,
  offerResidual,
  refuseResidual,
  type TargetState,
  useResiduals,
  type UsedResidual,
  weighResiduals
} from '../federation/residual-target.ts'
import { forbidsAny, mayEnter, mayLeave } from '../governance/egress.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import type { Answer, OfferAnswer, Question } from '../wire/messages.ts'
import { type Grant, type ReadShown, readGrant, readShown, topOf } from '../wire/residual-records.ts'
import { chainOf, type FederationCore, isByLikelihood, isVouched, mayVouch } from './federation-core.ts'
import { writeFileDurably } from './files.ts'
import type { ResidualCandidate, ResidualCandidates } from './organization.ts'

type OfferQuestion = Extract<Question, { kind: 'offer' }>

interface Saved {
  federation: FederationId
  target: TargetState
  /** Of the sources, for people. */
  paths: Record<MemberId, string>
  /** Models of which a charter on their way here forbids anything, the newest last; left out by earlier versions. */
  ruled?: Link[]
}

interface NamedResidual extends UsedResidual {
  path: string
  /** Among the candidates of a round. */
  name: string
}

/** Their blobs are gone some rounds after they were used, or displaced. */
const ruledMax = 256

export class ResidualTarget implements ResidualCandidates {
  readonly #node: FederationCore
  #saved: Saved
  #using: { round: number; residuals: NamedResidual[] } = { round: 0, residuals: [] }

  constructor(node: FederationCore) {
    this.#node = node
    this.#saved = this.#load()
  }

  /** Blobs that must stay here. */
  get needed(): Link[] {
    return [...this.#saved.target.places, ...this.#using.residuals].map(({ model }) => model)
  }

  /** Whether this residual was brought here, and may not go everywhere: nobody has it from here, for nobody here asks its charters. */
  keepsBack(blob: Link): boolean {
    return this.#saved.ruled?.includes(blob) ?? false
  }

  answer(from: PeerName, question: OfferQuestion): Answer {
    const checked = this.#check(from, question)
    if ('verdict' in checked) return { kind: 'offer', ...checked }
    const { source, grant, similarity, isRuled } = checked
    const { path, fingerprint } = source
    const offer = {
      from: fingerprint.node,
      similarity,
      via: from,
      model: grant.model,
      textBytes: grant.textBytes,
      held: question.held
    }
    const { residuals } = this.#node.options.charter.algorithm
    const [target, verdict] = offerResidual(this.#saved.target, offer, this.#node.state.head.round, residuals)
    if (target !== this.#saved.target) {
      const paths = { ...this.#saved.paths, [offer.from]: path }
      const named = [...target.places, ...this.#using.residuals].map(one => one.from)
      this.#saved = { ...this.#saved, target, paths: Object.fromEntries(named.map(name => [name, paths[name] ?? name])) }
    }
    if (verdict === 'take') {
      // On disk before it comes: a node that ends meanwhile knows afterwards what it may not give.
      if (isRuled && !this.keepsBack(grant.model))
        this.#save({ ...this.#saved, ruled: [...(this.#saved.ruled ?? []), grant.model].slice(-ruledMax) })
      void this.#pull(offer.from, grant.model, from)
    }
    return { kind: 'offer', verdict, detail: '' }
  }

  /** What the bridge and the source should have checked is checked again: who takes something answers for it. */
  #check(
    bridge: PeerName,
    question: OfferQuestion
  ): { source: ReadShown; grant: Grant; similarity: number; isRuled: boolean } | { verdict: OfferAnswer; detail: string } {
    const refused = (detail: string) => ({ verdict: 'refused' as const, detail })
    const node = this.#node
    const { algorithm, path } = node.options.charter
    const own = node.residuals.known.get(node.self)
    if (algorithm.residuals.perNode === 0 || question.to !== node.self) return refused('no residuals are taken here')
    if (own === undefined) return refused('it has no fingerprint yet')
    const chain = chainOf(node)
    if (!mayVouch(chain, bridge)) return refused('nobody known vouches for it')
    const topId = topOf(question.source)
    const top = chain.find(({ id }) => id === topId)
    const source = top === undefined ? null : readShown(question.source, top)
    const grant = readGrant(question.grant)
    if (top === undefined || source === null) return refused('its charters do not lead to a federation above')
    if (grant === null || grant.from !== source.fingerprint.node || grant.to !== node.self)
      return refused('the source has not granted it')
    if (source.fingerprint.federation === node.id) return refused('it is a sibling')
    if (!isVouched(node, top, bridge, source)) return refused('nobody known vouches for it')
    const charters = chain.map(one => one.options.charter)
    const line = [...source.line.map(({ charter }) => charter), ...charters.slice(chain.indexOf(top))]
    const here = { path: `${path}/${own.read.fingerprint.name}`, kind: 'organization' } as const
    const leave = mayLeave(line, 'residual', here)
    if (!leave.allowed) return { verdict: 'forbidden', detail: shortened(`${leave.by}: ${leave.reason}`) }
    const enter = mayEnter(charters, 'residual', { path: source.path, kind: 'organization' })
    if (!enter.allowed) return { verdict: 'forbidden', detail: shortened(`${enter.by}: ${enter.reason}`) }
    const floats = readSketch(source.fingerprint.sketches)
    const similarity = floats.length === own.floats.length ? clamp(cosine(own.floats, floats)) : -1
    if (!(similarity >= algorithm.residuals.minSimilarity)) return refused('it is not similar enough')
    return { source, grant, similarity, isRuled: forbidsAny(line) }
  }

  async #pull(from: MemberId, model: Link, via: PeerName): Promise<void> {
    const { exchange, mixer, blobs, events } = this.#node.options.services
    const ended = (target: TargetState) => {
      this.#saved = { ...this.#saved, target }
    }
    try {
      await exchange.pull(model, [via])
      const { fault } = await mixer.inspect(this.#node.layout, blobs.path(model), null, null)
      if (fault === null) return ended(arriveResidual(this.#saved.target, from, model, true))
      ended(refuseResidual(this.#saved.target, from, model, this.#node.state.head.round))
      events.emit({ type: 'fault', federation: this.#node.path, peer: from, code: 'BAD_RESIDUAL', detail: fault })
    } catch (error) {
      this.#node.options.services.log.debug({ from, via, error: String(error) }, 'residual not pulled')
      ended(arriveResidual(this.#saved.target, from, model, false))
    }
  }

  use(round: number): ResidualCandidate[] {
    const { blobs, records } = this.#node.options.services
    const [target, used] = useResiduals(this.#saved.target, round)
    if (used.length > 0) this.#save({ ...this.#saved, target })
    else this.#saved = { ...this.#saved, target }
    const residuals = used.filter(({ model }) => blobs.has(model))
    // I6: what is used is on disk before it is mixed in.
    for (const { from, via, model } of residuals)
      records.append({ record: 'residual', federation: this.#node.id, round, from, via, model })
    this.#using = { round, residuals: this.#named(residuals) }
    return this.#using.residuals.map(({ name, model, textBytes }) => ({ name, model: blobs.path(model), textBytes }))
  }

  /** A source calls itself what it likes: another's name, or that of a federation above, would bring it that one's weight. */
  #named(residuals: readonly UsedResidual[]): NamedResidual[] {
    const names = new Set(chainOf(this.#node).map(({ path }) => path))
    return residuals.map(residual => {
      const path = this.#saved.paths[residual.from] ?? residual.from
      const name = names.has(path) ? `${path} (${residual.from})` : path
      names.add(name)
      return { ...residual, path, name }
    })
  }

  weighed(round: number, shares: readonly Share[]): MemberResidual[] {
    if (this.#using.round !== round) return []
    const { charter, services } = this.#node.options
    const weighed = this.#using.residuals.flatMap(({ from, via, model, similarity, path, name }) => {
      const share = shares.find(one => one.name === name)
      return share === undefined ? [] : [{ path, residual: { from, via, model, similarity, weight: share.weight } }]
    })
    this.#using = { round, residuals: [] }
    const residuals = weighed.map(({ residual }) => residual)
    // Only likelihood says what a residual is worth to this organization's own text.
    if (isByLikelihood(charter.algorithm) && residuals.length > 0) {
      const target = weighResiduals(this.#saved.target, round, residuals, charter.algorithm.residuals)
      this.#save({ ...this.#saved, target })
    }
    for (const { path, residual } of weighed) services.events.emit({ type: 'residual', round, path, ...residual })
    return residuals
  }

  #load(): Saved {
    const { services } = this.#node.options
    const fresh: Saved = { federation: this.#node.id, target: initialTarget, paths: {} }
    if (!existsSync(services.folder.residuals)) return fresh
    try {
      const saved = JSON.parse(readFileSync(services.folder.residuals, 'utf8')) as Saved
      if (saved.federation !== this.#node.id) return fresh
      // What was on its way when the node stopped is not.
      const places = saved.target.places.filter(({ state, model }) => state === 'held' && services.blobs.has(model))
      return { ...saved, target: { ...initialTarget, ...saved.target, places } }
    } catch (error) {
      // Nothing of this round may be used that could have been used already (I6).
      const code = 'RESIDUALS_DAMAGED'
      const message = `residuals.json is not readable, beginning anew after this round: ${(error as Error).message}`
      services.events.emit({ type: 'warning', code, message })
      return { ...fresh, target: { ...initialTarget, usedRound: this.#node.state.head.round } }
    }
  }

  #save(saved: Saved): void {
    this.#saved = saved
    writeFileDurably(this.#node.options.services.folder.residuals, JSON.stringify(saved))
  }
}

const clamp = (similarity: number): number => Math.min(1, Math.max(-1, similarity))
