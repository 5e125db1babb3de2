/**
 * Peers of one federation in virtual time, by one seed: messages are late, lost, doubled and out of order; peers die in the middle of a list
 * of effects and come back with what was on their disk. I1 and I2 are asserted on everything that is signed and certified.
 *
 * Is: consensus alone, with entries that move voters. Is not: the simulator (src/sim): no rounds, no blobs, no signatures of real keys.
 */
import assert from 'node:assert/strict'
import {
  type ConsensusEffect,
  type ConsensusEvent,
  type ConsensusTimer,
  firstMemory,
  initialConsensus,
  majority
} from '../../src/federation/consensus-state.ts'
import { stepConsensus } from '../../src/federation/consensus.ts'
import { Random } from '../../src/math/random.ts'
import { Clock } from '../../src/sim/clock.ts'
import {
  calm,
  type Certified,
  type ClusterPeer,
  delicate,
  type Disk,
  isEnrolled,
  newPeer,
  type Packet,
  type Weather
} from './cluster-parts.ts'
import { federation, linkOf, signatureOf, type TestEntry } from './consensus-bench.ts'

const timing = { electionTimeoutMs: 400, heartbeatMs: 100 }
const presenceMs = 700
const proposeMs = 60
const copiesMax = 40

export class Cluster {
  readonly peers: ClusterPeer[]
  readonly certified = new Map<number, string>()
  readonly counts = { signed: 0, elections: 0, crashes: 0, partitions: 0, olds: 0, losses: 0 }
  weather: Weather
  /** As if nobody knew for whom else it has signed what it holds. */
  untold = false
  #order = 0
  #values = 0
  /** What is due at one moment comes in the order in which it was asked for. */
  readonly #clock = new Clock(new Random('cluster'))
  #cut = new Set<string>()
  readonly #signed = new Map<string, string>()
  /** Who proposed an entry, in whatever term. */
  readonly #offered = new Map<string, Set<string>>()
  readonly #elected = new Map<string, string>()
  readonly #random: Random

  constructor(seed: number, weather: Weather, peers: number, voters: number) {
    this.weather = weather
    this.#random = new Random(`cluster/${seed}`)
    const names = [...'abcdefghi'].slice(0, peers)
    const first = names.slice(0, voters)
    this.peers = names.map(newPeer)
    this.#founders = first
    this.#voters = [first]
    for (const peer of this.peers) {
      this.#start(peer)
      this.#every(peer, presenceMs, () => this.#presence(peer))
      this.#every(peer, proposeMs, () => this.#propose(peer))
    }
  }
  readonly #founders: string[]
  /** By the index that they follow. */
  readonly #voters: (readonly string[])[]

  get height(): number {
    return Math.max(0, ...this.certified.keys())
  }

  /** Whether one proposed an entry that is open, and has forgotten that: it may have certified it, and nobody is left who knows. */
  get isUndecidable(): boolean {
    const lost = this.peers.filter(({ disk }) => disk.nonce !== null)
    if (!this.#canEnroll(new Set(lost))) return true
    // A certificate that nobody holds any more counts, too; and an old copy is taken for one for an entry longer than it is.
    const known = Math.max(...this.peers.map(({ disk }) => disk.log.length))
    const old = this.peers.filter(({ forgotAt }) => forgotAt >= known - 1)
    const forgetful = [...lost, ...old].map(({ name }) => name)
    return this.peers.some(({ disk: { accepted } }) => {
      const offered = accepted?.index === known + 1 ? this.#offered.get(accepted.link) : undefined
      return forgetful.some(name => offered?.has(name))
    })
  }

  run(ms: number): void {
    let isOver = false
    this.#later(ms, () => {
      isOver = true
    })
    while (!isOver) this.#clock.next()
  }

  /** Everybody is up and hears everybody. Who refuses an entry for good goes on to. */
  heal(): void {
    this.weather = { ...calm, refusalForGood: this.weather.refusalForGood }
    this.#cut.clear()
    for (const peer of this.peers) if (peer.state === null) this.#start(peer)
  }

  kill(peer: ClusterPeer): void {
    if (peer.state === null) return
    this.counts.crashes++
    peer.state = null
    peer.life++
    peer.timers.clear()
    peer.asked.clear()
    if (this.weather.lost > 0 && this.#random.float() < this.weather.lost) this.#lose(peer)
    else if (this.weather.old > 0 && this.#random.float() < this.weather.old) this.#putBack(peer)
    // Half of them are back before the others notice: what they forgot would show then.
    this.#later(this.#random.float() < 0.5 ? this.#random.below(50) : this.#random.below(2000), () => {
      if (peer.state === null) this.#start(peer)
    })
  }

  /** That it is an old copy is taken as proven: how long a peer waits that cannot know it is for the simulator (test/sim/old-disks.spec.ts). */
  #putBack(peer: ClusterPeer): void {
    const copy = peer.copies[this.#random.below(peer.copies.length || 1)]
    if (copy === undefined) return
    if (!this.#mayForget(peer, copy.log.length)) return
    this.counts.olds++
    peer.disk = { ...copy, old: true }
    peer.copies = []
  }

  /** Its certificate may be the only one of the newest entry in its log. */
  #lose(peer: ClusterPeer): void {
    if (!this.#canEnroll(new Set([peer, ...this.peers.filter(({ disk }) => disk.nonce !== null)]))) return
    if (!this.#mayForget(peer, Math.max(0, peer.disk.log.length - 1))) return
    this.counts.losses++
    peer.disk = { ...firstMemory, nonce: ++this.#values, log: [] }
    peer.copies = []
  }

  /** Whether of all voters, and of those that some have accepted to follow them, a majority remembers, which is there for the others. */
  #canEnroll(lost: ReadonlySet<ClusterPeer>, next: readonly string[] = []): boolean {
    const names = new Set([...lost].map(({ name }) => name))
    const remembering = this.peers.filter(peer => !lost.has(peer))
    const open = remembering.flatMap(({ disk }) => [this.#votersAt(disk, disk.log.length), disk.accepted?.entry.voters ?? []])
    return [...open, this.#voters.at(-1)!, next].every(
      voters => voters.length === 0 || voters.filter(name => !names.has(name)).length >= majority(voters)
    )
  }

  /** Notes that it has forgotten what it did since an index, unless a majority would then have. */
  #mayForget(peer: ClusterPeer, sinceIndex: number): boolean {
    const isForgetful = ({ disk }: ClusterPeer) => disk.old || disk.nonce !== null
    const others = this.peers.filter(other => other !== peer && isForgetful(other))
    const since = Math.min(sinceIndex, ...others.map(({ forgotSince }) => forgotSince))
    if (!this.#isMinority(new Set([peer, ...others].map(({ name }) => name)), since)) return false
    peer.forgotAt = this.height
    peer.forgotSince = isForgetful(peer) ? Math.min(peer.forgotSince, sinceIndex) : sinceIndex
    return true
  }

  /** Whether of all voters at an index since some minority alone has forgotten: what a majority forgot nobody can tell it. */
  #isMinority(forgetful: ReadonlySet<string>, sinceIndex: number): boolean {
    return this.#voters.slice(sinceIndex).every(voters => {
      const count = voters.filter(voter => forgetful.has(voter)).length
      return count < Math.floor(voters.length / 2) + 1
    })
  }

  #votersAt({ log }: Disk, commitIndex: number): readonly string[] {
    return log.slice(0, commitIndex).findLast(({ entry }) => entry.voters !== undefined)?.entry.voters ?? this.#founders
  }

  /** The state of its disk, whole. */
  #keep(peer: ClusterPeer, changed: Partial<Disk>): void {
    // How long one waits that cannot know that it was enrolled already is for the simulator, too.
    if (peer.disk.nonce === null) peer.copies.push(peer.disk)
    if (peer.copies.length > copiesMax) peer.copies.shift()
    peer.disk = { ...peer.disk, ...changed }
  }

  /** Cuts some peers off from the others for a while. */
  partition(): void {
    this.counts.partitions++
    this.#cut = new Set(this.peers.filter(() => this.#random.float() < 0.4).map(({ name }) => name))
    this.#later(500 + this.#random.below(4000), () => this.#cut.clear())
  }

  #start(peer: ClusterPeer): void {
    const { disk, name } = peer
    const head = disk.log.at(-1)
    peer.state = initialConsensus({
      self: name,
      federation,
      term: disk.term,
      votedFor: disk.votedFor,
      commitIndex: disk.log.length,
      head: head?.link ?? federation,
      voters: this.#votersAt(disk, disk.log.length),
      accepted: disk.accepted,
      givenUp: disk.givenUp,
      signed: disk.signed,
      old: disk.old,
      nonce: isEnrolled(disk, name) ? null : disk.nonce,
      fromDisk: true,
      timing,
      // All alike: candidates meet the more often.
      rank: 0
    })
    this.#dispatch(peer, { type: 'start' })
  }

  #dispatch(peer: ClusterPeer, event: ConsensusEvent<TestEntry>): void {
    if (peer.state === null) return
    const { accepted } = peer.state
    const before = this.untold && accepted !== null ? { ...peer.state, accepted: { ...accepted, signedFor: [] } } : peer.state
    const [state, effects] = stepConsensus(before, event)
    peer.state = state
    const { life } = peer
    for (const effect of effects) {
      this.#perform(peer, effect)
      if (peer.life === life && this.#random.float() < this.weather.crash * (delicate.has(effect.do) ? 8 : 1)) this.kill(peer)
      if (peer.life !== life) return
    }
  }

  #perform(peer: ClusterPeer, effect: ConsensusEffect<TestEntry>): void {
    switch (effect.do) {
      case 'persist': {
        const { do: _, ...memory } = effect
        this.#keep(peer, memory)
        return
      }
      case 'commit':
        this.#certify(peer, effect)
        return
      case 'send':
        this.#send(peer.name, effect.to, { kind: 'consensus', message: effect.message })
        return
      case 'sign':
        this.#sign(peer, effect)
        return
      case 'check': {
        const { life } = peer
        const forGood = new Random(`${peer.name} ${effect.link}`).float() < this.weather.refusalForGood
        const ok = this.#random.float() >= this.weather.refusal && !forGood
        this.#later(this.#random.below(50), () => {
          if (peer.life === life) this.#dispatch(peer, { type: 'checked', ...effect, ok })
        })
        return
      }
      case 'publish': {
        const { link, entry, certificate } = effect
        for (const { name } of this.peers)
          if (name !== peer.name) this.#send(peer.name, name, { kind: 'certified', certified: [{ link, entry, certificate }] })
        return
      }
      case 'fetch':
        this.#send(peer.name, effect.from, { kind: 'fetch', fromIndex: effect.fromIndex })
        return
      case 'start-timer':
        this.#arm(peer, effect.name, effect.ms + this.#random.float() * effect.jitterMs)
        return
      case 'stop-timer':
        peer.timers.delete(effect.name)
        return
      case 'became-aggregator':
        this.#elect(peer, effect.term)
        return
      case 'stepped-down':
      case 'aggregator-changed':
      case 'memory-old':
        return
    }
  }

  #sign(peer: ClusterPeer, { to, index, term, link, signedFor }: Extract<ConsensusEffect<TestEntry>, { do: 'sign' }>): void {
    this.counts.signed++
    const key = `${peer.name} ${index} ${term}`
    const other = this.#signed.get(key)
    assert.ok(other === undefined || other === link, `I2: ${key}: ${link} and ${other}`)
    this.#signed.set(key, link)
    const signature = signatureOf(peer.name)
    this.#offered.set(link, new Set(this.#offered.get(link)).add(to))
    if (to === peer.name) this.#dispatch(peer, { type: 'signed', index, term, link, signature })
    else this.#send(peer.name, to, { kind: 'consensus', message: { type: 'accept', term, index, link, signature, signedFor } })
  }

  /** One aggregator a term (Raft, figure 3, "election safety"), among those that are elected by the same voters. */
  #elect({ name, state }: ClusterPeer, term: number): void {
    this.counts.elections++
    const key = `${term} ${state!.commitIndex}`
    const other = this.#elected.get(key)
    assert.ok(other === undefined, `two aggregators of term ${key}: ${other} and ${name}`)
    this.#elected.set(key, name)
  }

  /** Checks what came in, as a peer does before it believes it, and whatever becomes durable. */
  #certify(peer: ClusterPeer, { link, entry, certificate }: Certified): void {
    const voters = this.#votersAt(peer.disk, peer.disk.log.length)
    const good = new Set(certificate.signatures.map(({ voter }) => voter).filter(voter => voters.includes(voter)))
    assert.ok(good.size > voters.length / 2, 'a certificate holds a majority of the voters in force')
    for (const voter of good)
      assert.equal(this.#signed.get(`${voter} ${certificate.index} ${certificate.term}`), link, 'each signature was made')
    const known = this.certified.get(entry.index)
    assert.ok(known === undefined || known === link, `I1: index ${entry.index}: ${link} and ${known}`)
    this.certified.set(entry.index, link)
    this.#voters[entry.index] ??= entry.voters ?? voters
    assert.equal(peer.disk.log.length, entry.index - 1)
    this.#keep(peer, { log: [...peer.disk.log, { link, entry, certificate }] })
  }

  #send(from: string, to: string, packet: Packet): void {
    const { loss, doubling, delayMsMax } = this.weather
    for (let copies = this.#random.float() < doubling ? 2 : 1; copies > 0; copies--) {
      if (this.#random.float() < loss) continue
      this.#later(1 + this.#random.float() * delayMsMax, () => this.#receive(from, to, packet))
    }
  }

  #receive(from: string, to: string, packet: Packet): void {
    const peer = this.peers.find(({ name }) => name === to)!
    if (peer.state === null || this.#cut.has(from) !== this.#cut.has(to)) return
    switch (packet.kind) {
      case 'consensus':
        this.#dispatch(peer, { type: 'message', from, message: packet.message })
        return
      case 'certified':
        for (const one of packet.certified) this.#dispatch(peer, { type: 'certified', ...one })
        return
      case 'fetch':
        this.#send(to, from, { kind: 'certified', certified: peer.disk.log.slice(packet.fromIndex - 1) })
        return
      case 'presence':
        if (packet.index > peer.state.commitIndex)
          this.#send(to, from, { kind: 'fetch', fromIndex: peer.state.commitIndex + 1 })
        return
      case 'wish':
        peer.asked.set(from, packet.nonce)
        if (peer.state.role === 'leader') this.#dispatch(peer, { type: 'forgot', peer: from })
    }
  }

  #presence(peer: ClusterPeer): void {
    if (peer.state === null) return
    const { nonce, commitIndex } = peer.state
    for (const { name } of this.peers) {
      if (name === peer.name) continue
      this.#send(peer.name, name, { kind: 'presence', index: commitIndex })
      if (nonce !== null) this.#send(peer.name, name, { kind: 'wish', nonce })
    }
  }

  #propose(peer: ClusterPeer): void {
    const { state } = peer
    if (state?.role !== 'leader' || state.accepted !== null) return
    const entry: TestEntry = { index: state.commitIndex + 1, prev: state.head, value: `${peer.name}${this.#values++}` }
    const enrolled = [...peer.asked].map(([name, nonce]) => ({ peer: name, nonce }))
    entry.enrolled = enrolled.filter(({ peer: name, nonce }) => !isEnrolled({ ...peer.disk, nonce }, name))
    if (this.#random.float() < 0.3) entry.voters = this.#movedVoters(state.voters)
    this.#dispatch(peer, { type: 'propose', link: linkOf(entry), entry })
    if (this.#random.float() < 0.03) this.#dispatch(peer, { type: 'hand-over' })
  }

  /** One peer more or less. */
  #movedVoters(voters: readonly string[]): string[] {
    const { name: one, disk } = this.peers[this.#random.below(this.peers.length)]!
    // Only who is enrolled becomes a voter; it may lose its memory before it hears of that.
    const entering = disk.nonce === null ? [...voters, one] : [...voters]
    const next = voters.includes(one) ? voters.filter(name => name !== one) : entering
    const canGo = this.#canEnroll(new Set(this.peers.filter(peer => peer.disk.nonce !== null)), next)
    return next.length > 0 && canGo ? next : [...voters]
  }

  #arm(peer: ClusterPeer, name: ConsensusTimer, ms: number): void {
    const turn = ++this.#order
    peer.timers.set(name, turn)
    this.#later(ms, () => {
      if (peer.timers.get(name) !== turn) return
      peer.timers.delete(name)
      this.#dispatch(peer, { type: 'timer', name })
    })
  }

  #every(peer: ClusterPeer, ms: number, work: () => void): void {
    this.#later(ms * (0.5 + this.#random.float()), () => {
      work()
      this.#every(peer, ms, work)
    })
  }

  #later(ms: number, run: () => void): void {
    this.#clock.at(this.#clock.nowMs + ms, { fire: run }, ++this.#order)
  }
}
