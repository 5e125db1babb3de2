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
  type ConsensusMessage,
  type ConsensusState,
  type ConsensusTimer,
  initialConsensus,
  type Memory
} from '../../src/federation/consensus-state.ts'
import { stepConsensus } from '../../src/federation/consensus.ts'
import type { Certificate } from '../../src/federation/entry.ts'
import { Random } from '../../src/math/random.ts'
import { Clock } from '../../src/sim/clock.ts'
import { federation, linkOf, signatureOf, type TestEntry } from './consensus-bench.ts'

const timing = { electionTimeoutMs: 400, heartbeatMs: 100 }
const presenceMs = 700
const proposeMs = 60
const copiesMax = 40

interface Certified {
  link: string
  entry: TestEntry
  certificate: Certificate
}
interface Disk extends Memory<TestEntry> {
  log: readonly Certified[]
}
interface ClusterPeer {
  name: string
  disk: Disk
  /** What was on it lately, the newest last. */
  copies: Disk[]
  /** Index from which on it has forgotten what it did, while its disk is an old copy. */
  forgotSince: number
  state: ConsensusState<TestEntry> | null
  /** Grows with each life: what an earlier life asked for is not answered to a later one. */
  life: number
  timers: Map<string, number>
}
type Packet =
  | { kind: 'consensus'; message: ConsensusMessage<TestEntry> }
  | { kind: 'certified'; certified: Certified[] }
  | { kind: 'fetch'; fromIndex: number }
  | { kind: 'presence'; index: number }

export interface Weather {
  /** Shares, 0 to 1. */
  loss: number
  doubling: number
  delayMsMax: number
  /** Chance that a peer dies after an effect; eight times that after one that is on disk and not told yet, or told. */
  crash: number
  refusal: number
  /** Share of the voters of an entry that refuse it for good, each for reasons of its own. */
  refusalForGood: number
  /** Chance that a peer which dies comes back with an earlier copy of its disk, unless a majority would then have forgotten what it did. */
  old: number
}
const delicate = new Set(['commit', 'persist', 'sign', 'send'])
export const calm: Weather = { loss: 0, doubling: 0, delayMsMax: 20, crash: 0, refusal: 0, refusalForGood: 0, old: 0 }

export class Cluster {
  readonly peers: ClusterPeer[]
  readonly certified = new Map<number, string>()
  readonly counts = { signed: 0, elections: 0, crashes: 0, partitions: 0, olds: 0 }
  weather: Weather
  #order = 0
  #values = 0
  /** What is due at one moment comes in the order in which it was asked for. */
  readonly #clock = new Clock(new Random('cluster'))
  #cut = new Set<string>()
  readonly #signed = new Map<string, string>()
  readonly #elected = new Map<string, string>()
  readonly #random: Random

  constructor(seed: number, weather: Weather, peers: number, voters: number) {
    this.weather = weather
    this.#random = new Random(`cluster/${seed}`)
    const names = [...'abcdefghi'].slice(0, peers)
    const first = names.slice(0, voters)
    this.peers = names.map(name => ({
      name,
      disk: { term: 0, votedFor: null, accepted: null, nonce: null, signed: { index: 0, term: 0 }, old: false, log: [] },
      copies: [],
      forgotSince: 0,
      state: null,
      life: 0,
      timers: new Map()
    }))
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
    if (this.weather.old > 0 && this.#random.float() < this.weather.old) this.#putBack(peer)
    // Half of them are back before the others notice: what they forgot would show then.
    this.#later(this.#random.float() < 0.5 ? this.#random.below(50) : this.#random.below(2000), () => {
      if (peer.state === null) this.#start(peer)
    })
  }

  /** That it is an old copy is taken as proven: how long a peer waits that cannot know it is for the simulator (test/sim/old-disks.spec.ts). */
  #putBack(peer: ClusterPeer): void {
    const copy = peer.copies[this.#random.below(peer.copies.length || 1)]
    if (copy === undefined) return
    const old = this.peers.filter(({ disk, name }) => disk.old && name !== peer.name)
    const since = Math.min(copy.log.length, ...old.map(({ forgotSince }) => forgotSince))
    if (!this.#isMinority(new Set([peer.name, ...old.map(({ name }) => name)]), since)) return
    this.counts.olds++
    peer.forgotSince = peer.disk.old ? Math.min(peer.forgotSince, copy.log.length) : copy.log.length
    peer.disk = { ...copy, old: true }
    peer.copies = []
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
    peer.copies.push(peer.disk)
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
      signed: disk.signed,
      old: disk.old,
      fromDisk: true,
      timing,
      // All alike: candidates meet the more often.
      rank: 0
    })
    this.#dispatch(peer, { type: 'start' })
  }

  #dispatch(peer: ClusterPeer, event: ConsensusEvent<TestEntry>): void {
    if (peer.state === null) return
    const [state, effects] = stepConsensus(peer.state, event)
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

  #sign(peer: ClusterPeer, { to, index, term, link }: Extract<ConsensusEffect<TestEntry>, { do: 'sign' }>): void {
    this.counts.signed++
    const key = `${peer.name} ${index} ${term}`
    const other = this.#signed.get(key)
    assert.ok(other === undefined || other === link, `I2: ${key}: ${link} and ${other}`)
    this.#signed.set(key, link)
    const signature = signatureOf(peer.name)
    if (to === peer.name) this.#dispatch(peer, { type: 'signed', index, term, link, signature })
    else this.#send(peer.name, to, { kind: 'consensus', message: { type: 'accept', term, index, link, signature } })
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
    }
  }

  #presence(peer: ClusterPeer): void {
    if (peer.state === null) return
    for (const { name } of this.peers)
      if (name !== peer.name) this.#send(peer.name, name, { kind: 'presence', index: peer.state.commitIndex })
  }

  #propose(peer: ClusterPeer): void {
    const { state } = peer
    if (state?.role !== 'leader' || state.accepted !== null) return
    const entry: TestEntry = { index: state.commitIndex + 1, prev: state.head, value: `${peer.name}${this.#values++}` }
    if (this.#random.float() < 0.3) entry.voters = this.#movedVoters(state.voters)
    this.#dispatch(peer, { type: 'propose', link: linkOf(entry), entry })
    if (this.#random.float() < 0.03) this.#dispatch(peer, { type: 'hand-over' })
  }

  /** One peer more or less. */
  #movedVoters(voters: readonly string[]): string[] {
    const one = this.peers[this.#random.below(this.peers.length)]!.name
    if (!voters.includes(one)) return [...voters, one]
    return voters.length > 1 ? voters.filter(name => name !== one) : [...voters]
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
