/**
 * Fingerprints of the organizations in and below one federation, as this node knows them; its own, said in its federation's topic; and those
 * that delegates pass on upward, so that each reaches every ancestor's topic that its charters let it into.
 *
 * A member speaks for itself: its signature is worth more than its aggregator's, and outlives it. One living delegate passes a fingerprint
 * on, by rendezvous hashing; gossip may lose a message and delegates are replaced, so all is said again, seldom.
 */
import { areFinite, fingerprintGroupsMax, readSketch, sketchGroupBytes } from '../aggregate/sketch.ts'
import { bridgeOf } from '../federation/residuals.ts'
import { mayLeave } from '../governance/egress.ts'
import type { MemberId, PeerName } from '../ids.ts'
import { limits } from '../wire/limits.ts'
import { type Shown, topicCodec } from '../wire/messages.ts'
import { type ReadShown, readShown } from '../wire/residual-records.ts'
import { chainOf, type FederationCore, type KnownFingerprint } from './federation-core.ts'

/** Said again after each of the first rounds, then every tenth. */
const [eagerTimes, calmRounds] = [3, 10]
/** A tick comes twice a second; a peer's budget on a topic is 20 messages a second, and it has others to say. */
const saidPerTickMax = 5

interface Kept extends KnownFingerprint {
  /** Of this federation, in which it was taken. */
  since: number
}

interface Told {
  round: number
  times: number
}

export class Fingerprints {
  readonly #known = new Map<MemberId, Kept>()
  readonly #node: FederationCore
  readonly #toldHere: Told = { round: -1, times: 0 }
  readonly #toldAbove = new Map<MemberId, Told>()
  #own: Shown | null = null

  constructor(node: FederationCore) {
    this.#node = node
  }

  get known(): ReadonlyMap<MemberId, KnownFingerprint> {
    return this.#known
  }

  get hasOwn(): boolean {
    return this.#own !== null
  }

  /** This node's own, in the federation that it is an organization of. */
  setOwn(shown: Shown): void {
    this.#own = shown
    this.take(this.#node.self, shown)
  }

  /** @param from - who said it in this federation's topic. */
  take(from: PeerName, shown: Shown): void {
    const node = this.#node
    const read = readShown(shown, { id: node.id, path: node.path })
    if (read === null || !isWhole(read, node.layout.groups.length)) {
      const detail = 'its fingerprint is damaged, wrongly signed, or of another place in the tree'
      node.options.services.events.emit({ type: 'fault', federation: node.path, peer: from, code: 'BAD_FINGERPRINT', detail })
      return
    }
    const branch = this.#branchOf(from, read)
    const name = read.fingerprint.node
    const known = this.#known.get(name)
    if (branch === null || (known?.branch !== branch && this.#isFull(branch))) return
    if (known !== undefined && known.branch === branch && Buffer.compare(known.shown.signed.record, shown.signed.record) === 0)
      return
    const { round } = node.state.head
    // Its own it knows best, in its own federation. Of others one in a lifetime, or another after a lost disk: each has every bridge search its lines anew.
    const isOwn = branch === node.self
    if (isOwn ? from !== node.self : known !== undefined && round < known.since + calmRounds) return
    this.#known.set(name, { shown, read, branch, floats: readSketch(read.fingerprint.sketches), since: round })
    this.#toldAbove.delete(name)
  }

  /** Each branch has its share: one that makes organizations up takes nobody else's place. */
  #isFull(branch: MemberId): boolean {
    const mine = [...this.#known.values()].filter(one => one.branch === branch).length
    return mine >= Math.ceil(limits.fingerprintsMax / Math.max(1, this.#node.state.roster.members.size))
  }

  /** The member that it is below, if that is one, and if `from` may speak for it. */
  #branchOf(from: PeerName, { fingerprint, line }: ReadShown): MemberId | null {
    const { members } = this.#node.state.roster
    const child = line.at(-1)
    if (child === undefined) return members.get(fingerprint.node)?.kind === 'organization' ? fingerprint.node : null
    const member = members.get(child.id)
    return member?.kind === 'federation' && member.peers.includes(from) ? child.id : null
  }

  tick(): void {
    for (const [name, { branch }] of this.#known) if (!this.#node.state.roster.members.has(branch)) this.#known.delete(name)
    const { round } = this.#node.state.head
    if (this.#own !== null && isDue(this.#toldHere, round)) {
      // Its place in the roster may have come after the fingerprint.
      this.take(this.#node.self, this.#own)
      this.#node.say({ kind: 'sketch', shown: this.#own })
      told(this.#toldHere, round)
    }
    this.#passOn()
  }

  #passOn(): void {
    const { charter, charterBytes, sibling } = this.#node.options
    const parent = charter.parent === null ? null : sibling(charter.parent)
    const delegates = parent?.state.roster.members.get(this.#node.id)?.peers ?? []
    if (parent === null || !delegates.includes(this.#node.self)) return
    const { self, state } = this.#node
    const living = delegates.filter(peer => peer === self || state.present.has(peer))
    const above = chainOf(this.#node).map(one => one.options.charter)
    let left = saidPerTickMax
    for (const [name, { shown, read }] of this.#known) {
      const before = this.#toldAbove.get(name) ?? { round: -1, times: 0 }
      if (left === 0 || !isDue(before, parent.state.head.round) || bridgeOf(name, living) !== self) continue
      this.#toldAbove.set(name, told(before, parent.state.head.round))
      const line = [...read.line.map(one => one.charter), ...above]
      if (!mayLeave(line, 'sketch', { path: parent.path, kind: 'federation' }).allowed) continue
      const higher = { lineage: [...shown.lineage, charterBytes], signed: shown.signed }
      // Whoever says what is too long is taken for other software by all, and soon heard by none; of too many charters there is no message at all.
      const isDeep = higher.lineage.length > limits.depthMax
      if (isDeep || topicCodec.encode({ kind: 'sketch', shown: higher }).length > limits.gossipBytesMax) {
        this.#warnLong(read.path, parent.path)
        continue
      }
      parent.say({ kind: 'sketch', shown: higher })
      parent.residuals.take(self, higher)
      left--
    }
  }

  #warnLong(path: string, parent: string): void {
    const message = `the fingerprint of ${path} is not passed on to ${parent}: with the charters on its way it is longer than a message may be, ${limits.gossipBytesMax / 1024} KiB and ${limits.depthMax} charters. No residuals go to it, or come from it, there: shorter charters, or fewer, would do`
    this.#node.options.services.events.emit({ type: 'warning', code: 'FINGERPRINT_TOO_LONG', message })
  }
}

function isWhole({ fingerprint }: ReadShown, groups: number): boolean {
  const want = Math.min(groups, fingerprintGroupsMax) * sketchGroupBytes
  return fingerprint.sketches.length === want && areFinite(fingerprint.sketches)
}

const isDue = ({ round, times }: Told, now: number): boolean =>
  times === 0 || (now > round && (times < eagerTimes || now >= round + calmRounds))

function told(before: Told, round: number): Told {
  before.round = round
  before.times++
  return before
}
