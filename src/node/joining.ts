/** Asking for a place in a federation's roster, for a vote, or to be let go; and being asked for it. */
import { hasLostEnd, mayHaveCompany } from '../federation/consensus-state.ts'
import { type EnrollWaits, EnrollWatch } from '../federation/enroll-watch.ts'
import type { Member } from '../federation/entry.ts'
import { LettingGo, seenPollMs } from '../federation/letting-go.ts'
import { placeToAsk } from '../federation/levels.ts'
import { hasLeft, knowsPlace, letsGo, type ShownProof } from '../federation/membership.ts'
import { PlaceAsking } from '../federation/place-asking.ts'
import type { PeerName } from '../ids.ts'
import type { Random } from '../math/random.ts'
import { checkProof, childProof, isBehind, joinBytes } from '../wire/join-proofs.ts'
import { checkEnroll, checkLeave, enrollRecord, leaveRecord } from '../wire/member-proofs.ts'
import type { Answer, Question } from '../wire/messages.ts'
import { ChangeBudget } from './change-budget.ts'
import type { FederationCore } from './federation-core.ts'
import type { LogSync } from './log-sync.ts'

type Asked = Pick<Extract<Question, { kind: 'join' }>, 'member' | 'enrolled' | 'left'>

/** How often it is looked whether there is anything to ask for, and anybody to ask. */
export const joinPollMs = 100
/** Between two questions. */
const joinRetryMs = 400
/** Who wants to leave, and has no place as far as it knows, waits so long for an aggregator that knows better. */
const leaveMs = 120_000
/** Who is let go waits a moment for those that stay without saying so. */
const unseenMs = 5_000

export class Joining {
  readonly #node: FederationCore
  readonly #random: Random
  readonly #sync: Pick<LogSync, 'catchUp' | 'askBeside'>
  #askAgainMs = 0
  readonly #asking = new PlaceAsking()
  readonly #changes = new ChangeBudget()
  /** It has been in the roster, or its aggregator has said that it has no place there. */
  #knowsPlace = false
  #leavingSinceMs = Number.POSITIVE_INFINITY
  readonly #lettingGo = new LettingGo()
  readonly #enrollWatch = new EnrollWatch()
  #outSinceMs: number | null = null
  #askSeenAtMs = 0
  #saysUnseen = true
  #saysLostEnd = true
  #hasGone = false
  /** By its operator’s word it does not wait for those that have not shown that they know. */
  goesUnseen = false

  constructor(node: FederationCore, random: Random, sync: Pick<LogSync, 'catchUp' | 'askBeside'>) {
    this.#node = node
    this.#random = random
    this.#sync = sync
  }

  /** As its aggregator; others say who it is. */
  onJoin(from: PeerName, asked: Asked): Answer {
    const { consensus, roster } = this.#node.state
    if (asked.enrolled?.peer === from) this.#enrollWatch.asked(from, this.#node.state, performance.now())
    if (consensus.role !== 'leader')
      return { kind: 'join', taken: false, aggregator: consensus.aggregator ?? this.#node.heard.aggregator }
    const why = this.#refusal(from, asked)
    // It catches up now, and asks again if there is anything left to ask for.
    if (why !== null && asked.member !== null && isBehind(asked.member, this.#shownBy(asked.member)))
      return { kind: 'join', taken: false, aggregator: this.#node.self }
    if (why !== null) {
      this.#node.options.services.events.emit({
        type: 'fault',
        federation: this.#node.path,
        peer: from,
        code: 'JOIN_REFUSED',
        detail: why
      })
      return { kind: 'join', taken: false, aggregator: this.#node.self }
    }
    const { member, enrolled, left } = asked
    const wish = [member?.name, member?.peers, member?.follows, enrolled?.nonce, left !== null].join()
    if (!this.#changes.allows(from, wish, performance.now())) return { kind: 'join', taken: false, aggregator: this.#node.self }
    for (const peer of asked.member?.peers ?? []) if (peer !== this.#node.self) this.#node.seen(peer, peer === from)
    const taken = asked.left === null || letsGo(roster, asked.left.member, consensus.accepted !== null)
    this.#take(asked)
    return { kind: 'join', taken, aggregator: this.#node.self }
  }

  /** Whether it is out, if it wants to leave. */
  get hasLeft(): boolean {
    return this.#knows() && hasLeft(this.#node.state.roster, this.#node.self)
  }

  /** Voters that stay, and have to show that they know that it is out before it goes. Empty while it is not out. */
  get waitsFor(): PeerName[] {
    return this.#node.leaving && this.hasLeft ? this.#lettingGo.waitsFor(this.#node.state) : []
  }

  /** Goes when it is out, and those that stay know it; or has not heard that for a moment, and was told not to wait. */
  goIfItMay(): void {
    if (this.#hasGone || !this.hasLeft) return
    const waitsFor = this.waitsFor
    if (waitsFor.length > 0) {
      if (!this.goesUnseen || performance.now() - (this.#outSinceMs ?? Number.POSITIVE_INFINITY) < unseenMs) return
      this.#warn(
        'LEFT_UNSEEN',
        `this node went by its operator’s word before ${waitsFor.join(', ')} had shown the entry that lets it go: whoever does not have it may wait for the vote of this node for good`
      )
    }
    this.#hasGone = true
    this.#node.options.onLeft()
  }

  /** Asks those that stay how far their logs go, and says for whom it waits. */
  async #lookForSeen(now: number): Promise<void> {
    if (!this.hasLeft || now < this.#askSeenAtMs) return
    this.#askSeenAtMs = now + seenPollMs
    this.#outSinceMs ??= now
    const { id, state } = this.#node
    const fromIndex = state.consensus.commitIndex + 1
    const ask = async (peer: PeerName) => {
      const answer = await this.#node.ask(peer, { kind: 'entries', federation: id, fromIndex })
      this.#lettingGo.answered(peer, answer?.kind === 'entries' ? answer.headIndex : null)
    }
    if (this.#hasGone || this.waitsFor.length === 0) return
    if (this.#saysUnseen && now - this.#outSinceMs > unseenMs) {
      this.#saysUnseen = false
      this.#warn(
        'LEAVE_UNSEEN',
        `it is certified that this node leaves, and ${this.waitsFor.join(', ')} did not show yet to know it: the node stays until then, for they may wait for its vote for good without it. To go all the same: worldlm federation leave ${id} --now`
      )
    }
    await Promise.all(this.#lettingGo.toAsk(state).map(ask))
  }

  /** Whoever may have more is asked: by a log that is too short, or from when this peer was alone, they are strangers, whose presence is not heard. */
  #askStrangers(now: number): void {
    const { state, topic, options } = this.#node
    const { consensus } = state
    const isShort = hasLostEnd(consensus)
    if (now < this.#askAgainMs || !(isShort || mayHaveCompany(consensus))) return
    this.#askAgainMs = now + joinRetryMs
    if (isShort && this.#saysLostEnd) {
      this.#saysLostEnd = false
      const what = `its certified log ends at entry ${consensus.commitIndex}, and this node has signed entry ${consensus.signed?.index}`
      this.#warn('LOG_SHORT', `${what}: it votes again when another has given it what is missing`)
    }
    const peers = options.services.gossip.subscribers(topic)
    const peer = peers[Math.floor(this.#random.float() * peers.length)]
    if (peer !== undefined) void this.#sync.askBeside(peer)
  }

  #sayEnrollWaits(waits: EnrollWaits | null): void {
    if (waits === null) return
    const { self, waiting, voters, lost } = waits
    const wait = `${waiting} of ${voters} voters${self ? ' wait for the same' : ' do not remember how they voted, and wait to be enrolled anew'}`
    const what = `${self ? 'this node does not remember how it voted, and waits to be enrolled anew; ' : ''}${wait}, as far as this node hears`
    const todo = lost
      ? 'The others are no majority, so nobody can be enrolled, and nothing is certified any more: put the newest copies of consensus/ back, or found the federation anew from its newest model (docs/operating.md, "Lost disks")'
      : 'It goes on as soon as a majority of the voters that remember is up and can be reached'
    this.#warn('ENROLL_WAITS', `${what}. ${todo}`)
  }

  #warn(code: string, message: string): void {
    this.#node.options.services.events.emit({ type: 'warning', code, message: `${this.#node.path}: ${message}` })
  }

  /** Whether it goes by what it knows of its place; in the end also because nobody has told it more. */
  #knows(): boolean {
    const { roster, consensus } = this.#node.state
    this.#knowsPlace ||= knowsPlace(roster, this.#node.self, consensus.nonce)
    return this.#knowsPlace || performance.now() - this.#leavingSinceMs > leaveMs
  }

  #refusal(from: PeerName, { member, enrolled, left }: Asked): string | null {
    if (member !== null && !member.peers.includes(from)) return 'it asks for another'
    if ((enrolled !== null && enrolled.peer !== from) || (left !== null && left.member !== from)) return 'it speaks for another'
    return (
      (member === null ? null : checkProof(this.#node.id, member, this.#shownBy(member))) ??
      (enrolled === null ? null : checkEnroll(this.#node.id, enrolled)) ??
      (left === null ? null : checkLeave(this.#node.id, this.#node.state.consensus.commitIndex + 1, left))
    )
  }

  #shownBy({ member }: Member): ShownProof | null {
    return this.#node.state.roster.proofs.get(member) ?? null
  }

  /** The enrollment first: it is of no use before its member is known, so one entry takes both. */
  #take({ member, enrolled, left }: Asked): void {
    if (enrolled !== null) this.#node.dispatch({ type: 'enroll', enrolled })
    if (member !== null) this.#node.dispatch({ type: 'join', member })
    if (left !== null) this.#node.dispatch({ type: 'leave', left })
  }

  /** Asks for a place in the roster, a vote, or to be let go, until it is so. */
  async join(): Promise<void> {
    const now = performance.now()
    if (this.#node.leaving) {
      this.#leavingSinceMs = Math.min(this.#leavingSinceMs, now)
      void this.#lookForSeen(now)
      this.#node.leave()
    }
    this.#sayEnrollWaits(this.#enrollWatch.look(this.#node.state, now))
    this.#askStrangers(now)
    const asked = now < this.#askAgainMs ? null : this.#wanted()
    if (asked === null) {
      if (now >= this.#askAgainMs) this.#asking.rest()
      return
    }
    if (this.#node.state.consensus.role === 'leader') {
      this.#askAgainMs = now + joinRetryMs
      this.#take(asked)
      return
    }
    const aggregator = this.#node.state.consensus.aggregator ?? this.#node.heard.aggregator
    const draw = (count: number) => Math.floor(this.#random.float() * count)
    const peers = () => this.#node.options.services.gossip.subscribers(this.#node.topic)
    const peer =
      this.#enrollWatch.other(this.#node.state, now, draw) ?? this.#asking.whom(this.#node.state, aggregator, peers, draw)
    if (peer === null) return
    this.#askAgainMs = now + joinRetryMs
    const question = this.#asking.asked(peer, aggregator)
    const answer = await this.#node.ask(peer, { kind: 'join', federation: this.#node.id, ...asked })
    if (asked.left !== null && answer?.kind === 'join' && answer.taken) this.#knowsPlace = true
    const heard = this.#asking.answered(question, answer?.kind === 'join' ? answer.aggregator : undefined)
    if (heard !== undefined) this.#node.heard = { aggregator: heard, term: this.#node.heard.term }
    // All that it knew may have left while it was away: whoever is not in its roster would be heard by it no more.
    void this.#sync.catchUp(peer)
  }

  #wanted(): Asked | null {
    const { id, self, state, leaving } = this.#node
    const { roster, consensus } = state
    const sign = (bytes: Uint8Array) => this.#node.options.services.host.sign(bytes)
    if (leaving)
      return roster.members.has(self) || !this.#knows()
        ? { member: null, enrolled: null, left: leaveRecord(sign, id, self, consensus.commitIndex) }
        : null
    const member = this.#wantedMember()
    const belongs = member !== null || [...roster.members.values()].some(({ peers }) => peers.includes(self))
    const enrolled = consensus.nonce !== null && belongs ? enrollRecord(sign, id, self, consensus.nonce) : null
    return member === null && enrolled === null ? null : { member, enrolled, left: null }
  }

  #wantedMember(): Member | null {
    const { as, name, services } = this.#node.options
    const children = this.#node.options.children(this.#node.id)
    const place = placeToAsk(
      this.#node.state,
      as,
      children.map(({ state }) => state)
    )
    if (place === null) return null
    if ('own' in place) {
      const asked = { member: this.#node.self, kind: place.own, name } as const
      return { ...asked, peers: [this.#node.self], proof: services.host.sign(joinBytes(this.#node.id, asked)) }
    }
    const { id, charter } = place.child
    const child = children.find(one => one.id === id)!
    const before = this.#node.state.roster.proofs.get(id) ?? null
    const shown = childProof(id, child.options.charterBytes, index => child.log.changes(index), before)
    return shown === null ? null : { member: id, kind: 'federation', name: charter.name, ...shown }
  }
}
