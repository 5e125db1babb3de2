/**
 * Residuals in one federation on this node, put together: fingerprints that are known in it, a bridge between its children, bridges to its
 * siblings that this node is in too, and the word of this node's organization as a source.
 */
import { existsSync, readFileSync } from 'node:fs'
import { foldSketch } from '../aggregate/sketch.ts'
import { shortened } from '../federation/fault.ts'
import { rosterPeers } from '../federation/membership.ts'
import { mayLeave } from '../governance/egress.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import { isMalformed } from '../wire/codec.ts'
import { type Answer, type Question, type Shown, signedCodec } from '../wire/messages.ts'
import { readFingerprint, readShown, signFingerprint, signGrant, topOf } from '../wire/residual-records.ts'
import { chainOf, type FederationCore, isVouched, type KnownFingerprint, mayVouch } from './federation-core.ts'
import { writeFileDurably } from './files.ts'
import { Bridge, type BridgedNode, type BridgeHost } from './residual-bridge.ts'
import { Fingerprints } from './residual-fingerprints.ts'

export const residualTickMs = 500
/** A grant is used within a round; its model is gone a few rounds later. */
const grantedMax = 8

export class ResidualExchange {
  readonly #node: FederationCore
  readonly #fingerprints: Fingerprints
  /** Between the children of this federation. */
  readonly #bridge: Bridge
  /** Between this federation and a sibling, on a peer that is in both. */
  readonly #toSiblings = new Map<FederationId, Bridge>()
  /** Bridges that were granted a model of this node's organization, the newest models last. */
  readonly #granted = new Map<Link, Set<PeerName>>()

  constructor(node: FederationCore) {
    this.#node = node
    this.#fingerprints = new Fingerprints(node)
    this.#bridge = new Bridge(childrenHost(node))
  }

  get known(): ReadonlyMap<MemberId, KnownFingerprint> {
    return this.#fingerprints.known
  }

  /** Blobs that must stay here. */
  get needed(): Link[] {
    return [this.#bridge, ...this.#toSiblings.values()].flatMap(({ needed }) => [...needed])
  }

  /** Who may have this residual from here: bridges that it was granted to, and targets that this bridge brings it; of one that was brought here nobody, where a charter forbids anything of it. Null if it is none. */
  readersOf(blob: Link): ReadonlySet<PeerName> | null {
    if (!this.#isOn) return null
    const bridges = [this.#bridge, ...this.#toSiblings.values()]
    const brought = bridges.flatMap(bridge => bridge.readersOf(blob) ?? [])
    const isOwn = this.#granted.has(blob) || this.#node.organization?.newest?.model === blob
    const isKept = this.#node.target?.keepsBack(blob) ?? false
    if (!isOwn && !isKept && brought.length === 0) return null
    return new Set([...(this.#granted.get(blob) ?? []), ...brought.flatMap(readers => [...readers])])
  }

  #grantTo(bridge: PeerName, blob: Link): void {
    this.#granted.set(blob, (this.#granted.get(blob) ?? new Set()).add(bridge))
    const oldest = this.#granted.keys().next()
    if (this.#granted.size > grantedMax && oldest.done !== true) this.#granted.delete(oldest.value)
  }

  take(from: PeerName, shown: Shown): void {
    if (this.#isOn) this.#fingerprints.take(from, shown)
  }

  /** Twice a second. */
  tick(): void {
    if (!this.#isOn || this.#node.stopped) return
    this.#fingerprints.tick()
    this.#bridge.tick()
    const { charter, children } = this.#node.options
    const siblings = charter.parent === null ? [] : children(charter.parent)
    for (const sibling of siblings) {
      // One of the two is enough.
      if (sibling.id <= this.#node.id || !isIn(this.#node) || !isIn(sibling)) continue
      const bridge = this.#toSiblings.get(sibling.id) ?? new Bridge(siblingsHost(this.#node, sibling))
      this.#toSiblings.set(sibling.id, bridge)
      bridge.tick()
    }
  }

  get #isOn(): boolean {
    return this.#node.options.charter.algorithm.residuals.perNode > 0
  }

  // ── this node's organization ──

  get hasOwn(): boolean {
    return this.#fingerprints.hasOwn
  }

  /** The fingerprint that is on disk, if one is. */
  resumeOwn(): void {
    const { folder } = this.#node.options.services
    const path = folder.fingerprint(this.#node.id)
    const signed = existsSync(path) ? signedCodec.decode(readFileSync(path)) : null
    if (signed !== null && !isMalformed(signed) && readFingerprint(signed) !== null)
      this.#fingerprints.setOwn({ lineage: [], signed })
  }

  /** @param sketches - of K after the first round minus the common start. */
  makeOwn(sketches: Uint8Array): void {
    const { services, name } = this.#node.options
    const fingerprint = { node: this.#node.self, federation: this.#node.id, name, sketches: foldSketch(sketches) }
    const signed = signFingerprint(services.host.sign.bind(services.host), fingerprint)
    writeFileDurably(services.folder.fingerprint(this.#node.id), signedCodec.encode(signed))
    this.#fingerprints.setOwn({ lineage: [], signed })
  }

  /**
   * As a source: a grant for one target, if the charters from here up to the root let key layers go there.
   * @param bridge - who asks.
   */
  grant(bridge: PeerName, { from, to }: Extract<Question, { kind: 'residual' }>): Answer {
    const node = this.#node
    const newest = node.organization?.newest ?? null
    const nothing = (detail: string, forbidden = false): Answer => ({ kind: 'residual', grant: null, forbidden, detail })
    if (!this.#isOn || from !== node.self || node.organization === null) return nothing('no organization here')
    const chain = chainOf(node)
    if (!mayVouch(chain, bridge)) return nothing('nobody known vouches for it')
    const topId = topOf(to)
    const top = chain.find(({ id }) => id === topId)
    const target = top === undefined ? null : readShown(to, top)
    if (top === undefined || target === null) return nothing('its charters do not lead to a federation above')
    if (!isVouched(node, top, bridge, target)) return nothing('nobody known vouches for it')
    if (target.fingerprint.federation === node.id) return nothing('it is a sibling')
    const line = chain.map(one => one.options.charter)
    const consent = mayLeave(line, 'residual', { path: target.path, kind: 'organization' })
    if (!consent.allowed) return nothing(shortened(`${consent.by}: ${consent.reason}`), true)
    if (newest === null) return nothing('nothing was trained yet')
    this.#grantTo(bridge, newest.model)
    const { host } = node.options.services
    const grant = { from, to: target.fingerprint.node, textBytes: node.organization.textBytes, ...newest }
    return { kind: 'residual', grant: signGrant(host.sign.bind(host), grant), forbidden: false, detail: '' }
  }
}

const isIn = (node: FederationCore): boolean => {
  const { members } = node.state.roster
  return members.has(node.self)
}

/** Delegates of the children bridge them; the rounds are this federation's. */
function childrenHost(core: FederationCore): BridgeHost {
  return {
    core,
    nodes: () => bridged(core, []),
    living: () => {
      const { roster, present } = core.state
      const bridges = [...roster.members.values()].flatMap(({ kind, peers }) => (kind === 'federation' ? peers : []))
      return new Set(bridges.filter(peer => peer === core.self || present.has(peer)))
    },
    rounds: () => [{ branch: null, round: core.state.head.round }]
  }
}

/** Peers that are in both bridge two siblings, with or without their parent; each branch has its own rounds. */
function siblingsHost(left: FederationCore, right: FederationCore): BridgeHost {
  const sides = [left, right]
  return {
    core: left,
    nodes: () => new Map(sides.flatMap(side => [...bridged(side, [side.options.charterBytes], side.id)])),
    living: () => {
      const [inLeft, inRight] = sides.map(({ state, options }) => rosterPeers(state.roster, options.charter))
      const both = [...inLeft!].filter(peer => inRight!.has(peer))
      return new Set(both.filter(peer => peer === left.self || sides.every(({ state }) => state.present.has(peer))))
    },
    rounds: () => sides.map(({ id, state }) => ({ branch: id, round: state.head.round }))
  }
}

/** @param lineage - charters from `side` up to below the common ancestor. @param branch - of all; left out: of each its own. */
function bridged(side: FederationCore, lineage: Uint8Array[], branch?: MemberId): Map<MemberId, BridgedNode> {
  const above = chainOf(side).map(one => one.options.charter)
  const nodes = new Map<MemberId, BridgedNode>()
  for (const [name, known] of side.residuals.known) {
    const { fingerprint, line, path } = known.read
    nodes.set(name, {
      node: { node: name, federation: fingerprint.federation, branch: branch ?? known.branch },
      floats: known.floats,
      shown: { lineage: [...known.shown.lineage, ...lineage], signed: known.shown.signed },
      line: [...line.map(({ charter }) => charter), ...above],
      place: { path, kind: 'organization' }
    })
  }
  return nodes
}
