/**
 * The invariants of docs/protocol.md, checked as a run goes: each where the event happens that could break it, in time that the event
 * itself takes. It believes nobody: voters and rosters are replayed here from what was certified, certificates are counted here.
 *
 * I1 two different entries are never certified for one (federation, index); a certificate is of a majority
 * I2 a voter never signs two entries for one (federation, index, term), nor votes for two in one term, restarts included; who does is
 *    evicted (where a plan lets somebody do so), and nobody else ever is
 * I3 a certified round's inputs come from members of its roster, each once, on the base that they name
 * I4 an accepted update (receipt given) is counted in exactly one certified round, or excluded with a reason; of two that an organization
 *    made for one round, the second on an old copy of its disk, either
 * I6 a residual is used at most once per target and round
 * I7 replicas that apply the same entries hold the same bits, and anyone who aggregates the same inputs gets them
 * I8 (liveness.ts)
 * I5 no residual goes where a charter in force, on its source's line or on its target's, forbids it (the daemon's gates for other blobs
 *    are not simulated)
 */
import type { Certificate, MembersEntry, RoundEntry, Update } from '../federation/entry.ts'
import { applyMembers, genesisRoster, type Roster } from '../federation/membership.ts'
import { mayEnter, mayLeave, type RuledBy } from '../governance/egress.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import type { FollowedCore, Observer, PeerCore, SignedRecord, Topic } from './core.ts'
import { Receipts } from './receipts.ts'
import { placeOf } from './residual-bridge.ts'
import { type Certified, checkCertificate } from './stand-ins.ts'

export const simulatedInvariants = ['I1', 'I2', 'I3', 'I4', 'I5', 'I6', 'I7', 'I8'] as const

export interface Violation {
  invariant: (typeof simulatedInvariants)[number] | 'ASSERTION'
  detail: string
  atMs: number
}

/** Rounds at whose place a peer may have signed two entries, until it has to be evicted. Changes of members may come faster than proofs. */
const signedTwiceMax = 2
/** Certified rounds whose bases an update may name. */
const basesKept = 8

class Ledger {
  readonly topic: Topic
  roster: Roster
  /** Links by index; 0: the federation itself. */
  readonly links: Link[]
  rounds: RoundEntry[] = []
  readonly bases: Link[]
  readonly counted = new Set<Link>()
  /** Highest round of each member that is counted. */
  readonly countedRound = new Map<MemberId, number>()
  /** Last round that named the member as excluded. */
  readonly excludedIn = new Map<MemberId, number>()
  /** Receipts that no certified round has settled, and the round that has to. */
  readonly receipts = new Receipts()
  readonly digests = new Map<Link, string>()
  /** By term. */
  readonly aggregators = new Map<number, PeerName>()
  readonly updates = new Map<Link, Update>()
  /** The update of the highest round that each organization announced, and that round, where it announced another afterwards: its disk knew of none. */
  readonly announced = new Map<MemberId, { link: Link; round: number }>()
  readonly madeTwice = new Map<MemberId, number>()
  /** Where each peer signed two entries. */
  readonly signedTwice = new Map<PeerName, Set<number>>()

  constructor(topic: Topic) {
    this.topic = topic
    this.roster = genesisRoster(topic.charter)
    this.links = [topic.id]
    this.bases = [topic.id]
  }
}

interface Signed {
  index: number
  term: number
  link: Link
}

export interface InvariantOptions {
  nowMs: () => number
  /** Aggregates the entry's inputs again. @returns the model's link, or null where they are gone. */
  recompute: (topic: Topic, entry: RoundEntry, updates: readonly Update[], previous: RoundEntry | null) => Link | null
  /** Federation of an organization; charters from a federation up to the root. */
  homeOf: (organization: PeerName) => Topic | null
  lineOf: (topic: Topic) => readonly RuledBy[]
  isHonest: (peer: PeerName) => boolean
  /** Liars alone have certified a round: it may hold what they like (docs/protocol.md, "Members that leave, lie, or are gone"). */
  onLies: (topic: Topic) => void
  /** A round was certified for the first time. */
  onRound: (topic: Topic, entry: RoundEntry) => void
}

export class Invariants implements Observer {
  readonly violations: Violation[] = []
  certifiedRounds = 0
  certifiedEntries = 0
  /** Peers that entries have evicted, each federation for itself. */
  evictions = 0
  readonly #options: InvariantOptions
  readonly #ledgers = new Map<FederationId, Ledger>()
  /** Newest signatures of each voter in each federation. */
  readonly #signed = new Map<string, Signed[]>()
  /** Whose update a blob is of: organizations alone. */
  readonly #makers = new Map<Link, { maker: PeerName; topic: Topic }>()
  /** By target: what it used in its newest round. */
  readonly #used = new Map<PeerName, { round: number; models: Set<string>; atMs: number }>()
  readonly #voted = new Map<string, { term: number; candidate: PeerName }>()

  constructor(options: InvariantOptions) {
    this.#options = options
  }

  rounds(topic: Topic): readonly RoundEntry[] {
    return this.#ledger(topic).rounds
  }
  voters(topic: Topic): readonly PeerName[] {
    return this.#ledger(topic).roster.voters
  }
  roster(topic: Topic): Roster {
    return this.#ledger(topic).roster
  }

  // ── I2 ──

  signed(peer: PeerCore, topic: Topic, index: number, term: number, link: Link): void {
    const key = `${peer.index} ${topic.index}`
    const all = this.#signed.get(key) ?? []
    const other = all.find(one => one.index === index && one.term === term)
    if (other !== undefined) {
      if (other.link !== link)
        this.#break('I2', `${peer.name} signed two entries for index ${index}, term ${term} of ${path(topic)}`)
      return
    }
    // Signatures below the newest index but one can no longer be given: their index is settled.
    this.#signed.set(key, [...all.filter(one => one.index >= index - 1), { index, term, link }])
  }

  signedTwice(peer: PeerCore, topic: Topic, index: number): void {
    const { signedTwice } = this.#ledger(topic)
    const indices = signedTwice.get(peer.name) ?? new Set()
    signedTwice.set(peer.name, indices.add(index))
  }

  #evicted({ signedTwice, topic }: Ledger, { index, evicted }: MembersEntry): void {
    for (const { peer } of evicted) {
      const where = `${path(topic)} index ${index}`
      if (!signedTwice.has(peer)) this.#break('I2', `${where}: ${peer} is evicted, and did not sign two entries for one place`)
      signedTwice.delete(peer)
      this.evictions++
    }
  }

  #notEvicted({ roster, rounds, signedTwice, topic }: Ledger): void {
    const [round] = rounds.slice(-1)
    for (const [peer, indices] of signedTwice) {
      if (!indices.has(round!.index) || !roster.voters.includes(peer)) continue
      const places = rounds.filter(({ index }) => indices.has(index)).map(one => one.round)
      if (places.length > signedTwiceMax)
        this.#break('I2', `${path(topic)}: ${peer} signed two entries for rounds ${places.join(', ')} each, and is not evicted`)
    }
  }

  voted(voter: PeerCore, topic: Topic, term: number, candidate: PeerName): void {
    const key = `${voter.index} ${topic.index}`
    const last = this.#voted.get(key)
    if (last !== undefined && last.term === term && last.candidate !== candidate)
      this.#break('I2', `${voter.name} voted for ${last.candidate} and ${candidate} in term ${term} of ${path(topic)}`)
    if (last === undefined || term >= last.term) this.#voted.set(key, { term, candidate })
  }

  aggregator(peer: PeerCore, topic: Topic, term: number): void {
    const ledger = this.#ledger(topic)
    const other = ledger.aggregators.get(term)
    if (other !== undefined && other !== peer.name)
      this.#break('I2', `${other} and ${peer.name} are both aggregators in term ${term} of ${path(topic)}`)
    ledger.aggregators.set(term, peer.name)
    this.voted(peer, topic, term, peer.name)
  }

  // ── I1, I3, I4, I6 ──

  announced(topic: Topic, { link, update }: SignedRecord): void {
    const ledger = this.#ledger(topic)
    ledger.updates.set(link, update)
    if (update.term !== 0) return
    this.#makers.set(update.blob, { maker: update.member, topic })
    const last = ledger.announced.get(update.member)
    if (last === undefined || last.round < update.round) ledger.announced.set(update.member, { link, round: update.round })
    else if (last.link !== link) ledger.madeTwice.set(update.member, last.round)
  }

  committed({ topic }: FollowedCore, { link, entry, certificate }: Certified): void {
    const ledger = this.#ledger(topic)
    const known = ledger.links[entry.index]
    if (known !== undefined) {
      if (known !== link) this.#break('I1', `${path(topic)} index ${entry.index}: ${known} and ${link} are both certified`)
      return
    }
    if (entry.index !== ledger.links.length || entry.prev !== ledger.links.at(-1)) {
      this.#break('I1', `${path(topic)} index ${entry.index} does not follow what was certified before it`)
      return
    }
    this.#checkCertificate(ledger, entry.index, link, certificate)
    ledger.links.push(link)
    this.certifiedEntries++
    if (entry.kind === 'members') this.#members(ledger, entry)
    else {
      this.#round(ledger, entry, link, certificate)
      this.#notEvicted(ledger)
    }
  }

  #members(ledger: Ledger, entry: MembersEntry): void {
    this.#evicted(ledger, entry)
    ledger.roster = applyMembers(ledger.roster, entry)
    // Who left or was evicted is excluded by that very entry.
    for (const member of [...entry.left.map(one => one.member), ...entry.evicted.map(({ peer }) => peer)])
      ledger.receipts.dropOf(member)
  }

  #checkCertificate(ledger: Ledger, index: number, link: Link, certificate: Certificate): void {
    const why =
      certificate.entry !== link || certificate.index !== index
        ? 'its certificate is of another entry'
        : checkCertificate(ledger.roster.voters, certificate)
    if (why !== null) this.#break('I1', `${path(ledger.topic)} index ${index}: ${why}`)
  }

  #round(ledger: Ledger, entry: RoundEntry, link: Link, { signatures }: Certificate): void {
    const where = `${path(ledger.topic)} round ${entry.round}`
    const updates = this.#inputs(ledger, entry, where)
    const used = new Set<string>()
    for (const { to, from, model } of entry.residuals) {
      const use = `${to} ${model}`
      if (used.has(use)) this.#break('I6', `${where}: ${to} uses the residual ${model} of ${from} twice`)
      used.add(use)
    }
    for (const { member, reason } of entry.excluded) {
      if (reason === '') this.#break('I4', `${where}: ${member} is excluded without a reason`)
      ledger.excludedIn.set(member, entry.round)
    }
    const isSettled = (link: Link, { member, round }: Update, forgotten: boolean) => {
      const madeAnew = (ledger.madeTwice.get(member) ?? 0) >= round && (ledger.countedRound.get(member) ?? 0) >= round
      const another = madeAnew || (forgotten && entry.inputs.some(input => input.member === member))
      return another || ledger.counted.has(link) || (ledger.excludedIn.get(member) ?? 0) >= round
    }
    for (const { peer, update } of ledger.receipts.take(entry.round, (link, one) => isSettled(link, one.update, one.forgotten)))
      this.#break(
        'I4',
        `${where}: ${peer} has a receipt for its update of round ${update.round}, which is not counted, nor excluded`
      )
    const { isHonest, onLies } = this.#options
    if (!signatures.some(({ voter }) => isHonest(voter))) onLies(ledger.topic)
    else if (updates !== null) {
      const model = this.#options.recompute(ledger.topic, entry, updates, ledger.rounds.at(-1) ?? null)
      if (model !== null && model !== entry.model)
        this.#break('I7', `${where}: its inputs give ${model}, it holds ${entry.model}`)
    }
    ledger.rounds.push(entry)
    ledger.bases.push(link)
    if (ledger.bases.length > basesKept) ledger.bases.shift()
    for (const [known, { round, blob }] of ledger.updates) {
      if (round >= entry.round - basesKept) continue
      ledger.updates.delete(known)
      this.#makers.delete(blob)
    }
    this.certifiedRounds++
    this.#options.onRound(ledger.topic, entry)
  }

  /** @returns the updates in the order of the inputs, or null where one is unknown. */
  #inputs(ledger: Ledger, entry: RoundEntry, where: string): Update[] | null {
    const seen = new Set<MemberId>()
    const updates: Update[] = []
    if (entry.base !== ledger.bases.at(-1)) this.#break('I3', `${where}: its base is not the round before`)
    for (const input of entry.inputs) {
      const member = ledger.roster.members.get(input.member)
      if (member === undefined || member.kind === 'witness') this.#break('I3', `${where}: ${input.member} is not in its roster`)
      if (seen.has(input.member)) this.#break('I3', `${where}: ${input.member} is counted twice`)
      seen.add(input.member)
      if (ledger.counted.has(input.update))
        this.#break('I4', `${where}: ${input.update} of ${input.member} is counted a second time`)
      if (input.round <= (ledger.countedRound.get(input.member) ?? 0))
        this.#break('I4', `${where}: ${input.member}'s update for round ${input.round} is counted a second time`)
      ledger.counted.add(input.update)
      ledger.countedRound.set(input.member, input.round)
      const update = ledger.updates.get(input.update)
      if (update === undefined) {
        this.#break('I3', `${where}: nobody made the update ${input.update} of ${input.member}`)
        continue
      }
      if (update.member !== input.member || !(member?.peers.includes(update.by) ?? false))
        this.#break('I3', `${where}: ${input.update} is not ${input.member}'s`)
      if (!ledger.bases.includes(update.base) || (update.round === entry.round && update.base !== entry.base))
        this.#break('I3', `${where}: ${input.member} trained from ${update.base}, not from ${entry.base}`)
      updates.push(update)
    }
    for (const { member } of entry.excluded)
      if (seen.has(member)) this.#break('I4', `${where}: ${member} is both counted and excluded`)
    return updates.length === entry.inputs.length ? updates : null
  }

  receipt(peer: PeerCore, topic: Topic, { link, update }: SignedRecord): void {
    const ledger = this.#ledger(topic)
    // It came after its round: that one has named the member, or the next one counts the late update.
    if (
      !ledger.roster.members.has(update.member) ||
      ledger.counted.has(link) ||
      (ledger.excludedIn.get(update.member) ?? 0) >= update.round
    )
      return
    const due = Math.max(update.round, ledger.rounds.length + 1)
    ledger.receipts.add(link, { update, peer: peer.name, due, atMs: this.#options.nowMs() })
  }

  // ── I7 ──

  applied(peer: PeerCore, topic: Topic, entry: RoundEntry, link: Link, digest: string): void {
    const ledger = this.#ledger(topic)
    if (ledger.links[entry.index] !== link) this.#break('I1', `${peer.name} applied ${link}, which is not what was certified`)
    const first = ledger.digests.get(link)
    if (first === undefined) ledger.digests.set(link, digest)
    if ((first ?? entry.model) !== digest || digest !== entry.model)
      this.#break('I7', `${path(topic)} round ${entry.round}: ${peer.name} holds ${digest}, the entry says ${entry.model}`)
    if (ledger.digests.size > basesKept) ledger.digests.delete(ledger.digests.keys().next().value!)
  }

  // ── I5, I6: residuals on their way ──

  /** An organization's update outside its own federation is a residual: it may be on a bridge to somebody, or with its target. */
  moved(to: PeerCore, link: Link): void {
    const made = this.#makers.get(link)
    if (made === undefined || to.replicas.get(made.topic.id)?.participates === true) return
    const line = this.#options.lineOf(made.topic)
    const lines = [...to.replicas.values()].map(({ topic }) => topic)
    const isBridge = lines.some(topic =>
      [...this.#ledger(topic).roster.members.values()].some(
        ({ kind, peers }) => kind === 'federation' && peers.includes(to.name)
      )
    )
    if (!isBridge && !this.#mayHave(made.maker, line, to.name))
      this.#break('I5', `${to.name} was given a model of ${made.maker}, which a charter forbids`)
  }

  used(target: PeerCore, _topic: Topic, round: number, from: MemberId, model: Link): void {
    const last = this.#used.get(target.name)
    const now = last?.round === round ? last : { round, models: new Set<string>(), atMs: this.#options.nowMs() }
    if (now.models.has(model) || now.models.has(from))
      this.#break('I6', `${target.name} uses the residual ${model} of ${from} twice in round ${round}`)
    now.models.add(model).add(from)
    this.#used.set(target.name, now)
    const home = this.#options.homeOf(from)
    if (home !== null && !this.#mayHave(from, this.#options.lineOf(home), target.name))
      this.#break('I5', `${target.name} uses a model of ${from} in round ${round}, which a charter forbids`)
  }

  /**
   * Its disk is as it was at `atMs`: what it used since then has come to nothing, and it makes that round anew. An update of its own that was
   * accepted since is settled by another one, too, that is counted: it knows of that one alone.
   */
  restored(target: PeerName, atMs: number): void {
    if ((this.#used.get(target)?.atMs ?? 0) >= atMs) this.#used.delete(target)
    for (const { receipts } of this.#ledgers.values()) receipts.forget(target, atMs)
  }

  #mayHave(source: PeerName, line: readonly RuledBy[], target: PeerName): boolean {
    const { homeOf, lineOf } = this.#options
    const [from, to] = [homeOf(source), homeOf(target)]
    if (from === null || to === null) return false
    return (
      mayLeave(line, 'residual', placeOf(to, target)).allowed && mayEnter(lineOf(to), 'residual', placeOf(from, source)).allowed
    )
  }

  failed(peer: PeerCore, topic: Topic, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message).split('\n').slice(0, 6).join(' | ') : String(error)
    this.#break('ASSERTION', `${peer.name} in ${path(topic)}: ${text}`)
  }

  report(invariant: Violation['invariant'], detail: string): void {
    this.#break(invariant, detail)
  }

  #ledger(topic: Topic): Ledger {
    let ledger = this.#ledgers.get(topic.id)
    if (ledger === undefined) {
      ledger = new Ledger(topic)
      this.#ledgers.set(topic.id, ledger)
    }
    return ledger
  }

  #break(invariant: Violation['invariant'], detail: string): void {
    if (this.violations.length < 100) this.violations.push({ invariant, detail, atMs: this.#options.nowMs() })
  }
}

const path = (topic: Topic): string => topic.charter.path
