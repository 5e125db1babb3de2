/** What goes wrong in a run: faults as data (so that a plan can be written down, replayed and shrunk), and who lets them happen. */
import { isAlone } from '../federation/consensus-state.ts'
import type { Random } from '../math/random.ts'
import type { Clock } from './clock.ts'
import type { Topic } from './core.ts'
import type { Disk, DiskCopy } from './disk.ts'
import type { Cut, Endpoint, Network } from './network.ts'
import type { Trace } from './trace.ts'

/** Whom: a peer by its place, or whoever leads a federation (by its place) at that moment. */
export type Who = { peer: number } | { aggregatorOf: number }

export type Fault =
  /**
   * Power off, before its next event or `afterEffects` effects into it; back after `downMs`. `empty`: with an empty disk; else with the disk
   * as it was `agoMs` before `atMs`, if so wanted only where others vote too: what the only voter forgets nobody can tell it.
   */
  | { kind: 'crash'; atMs: number; who: Who; downMs: number; afterEffects: number; disk?: 'empty' | OldDisk }
  /** A clean stop, with leadership handed over. */
  | { kind: 'stop'; atMs: number; who: Who; downMs: number }
  /** Leaves for good, by its own word. */
  | { kind: 'leave'; atMs: number; who: Who }
  /** Its first start is so late. */
  | { kind: 'late'; atMs: number; who: { peer: number } }
  /** `side` and the others do not reach each other; `one-way`: only `side` is not heard by the others. */
  | { kind: 'partition'; atMs: number; forMs: number; side: number[]; way: 'both' | 'one-way' }
  | {
      kind: 'weather'
      atMs: number
      forMs: number
      loss: number
      duplication: number
      reordering: number
      reorderMs: number
    }
  | { kind: 'slow'; atMs: number; forMs: number; who: Who; factor: number }
  /** Hears, and is not heard. */
  | { kind: 'silent'; atMs: number; forMs: number; who: Who }
  | { kind: 'disk-full'; atMs: number; forMs: number; who: Who }
  /** Says what is not true (lies.ts). */
  | { kind: 'lie'; atMs: number; forMs: number; who: Who }
  /** Signs two entries for one place in the log, each time that it signs one (lies.ts). */
  | { kind: 'equivocate'; atMs: number; forMs: number; who: Who }

export interface OldDisk {
  agoMs: number
  unlessOnlyVoter?: boolean | undefined
}

export interface FaultPlan {
  name: string
  /** Clocks go wrong by up to this share, each by its own. */
  clockDrift: number
  faults: Fault[]
}

/** What can go wrong with a peer. */
export interface Mortal extends Endpoint {
  readonly disk: Disk
  /** Left for good: it does not come back. */
  readonly gone: boolean
  lying: boolean
  equivocating?: boolean
  /** Effects until it dies in the middle of an event; negative: it does not. */
  fuse: number
  /** Called when it dies of its fuse, or fails. */
  onDeath: (why: string) => void
  /** What it holds besides its disk's files. */
  readonly blobs?: Map<string, unknown>
  start(): void
  crash(): void
  stop(): void
  leave(): void
}

export interface FaultWorld {
  clock: Clock
  network: Network
  trace: Trace
  peers: readonly Mortal[]
  topics: readonly Topic[]
  random: Random
  /** Its disk is what it was `agoMs` ago. */
  onRestored?: (peer: Mortal, agoMs: number) => void
}

interface Backup {
  disk: DiskCopy
  blobs: readonly (readonly [string, unknown])[]
}

const nothing: Backup = { disk: { files: [], logs: [] }, blobs: [] }

/** A machine that failed (a full disk, a broken assertion) is started again by its operator. */
const operatorMs = 4_000

type Lasting = Extract<Fault, { forMs: number }>

/** What a peer is while such a fault lasts. */
const flags = { silent: 'silent', lie: 'lying', equivocate: 'equivocating' } as const

export class Faults {
  /** Of those that last: how many do at this moment. */
  active = 0
  /** Who lies, or has lied: what it made meanwhile may come out later. */
  readonly liars = new Set<number>()
  /** How many of each kind came about. */
  readonly counts = new Map<Fault['kind'], number>()
  readonly #world: FaultWorld
  /** By kind and peer, the newest last. */
  readonly #inForce = new Map<string, Lasting[]>()
  /** Of each peer, for a crash to come: whom it hits may not be known before. */
  readonly #backups = new Map<Fault, ReadonlyMap<Mortal, Backup>>()

  constructor(world: FaultWorld, plan: FaultPlan) {
    this.#world = world
    for (const peer of world.peers) peer.onDeath = why => this.#died(peer, why)
    for (const fault of plan.faults) {
      world.clock.at(fault.atMs, { fire: () => this.#begin(fault) })
      if (fault.kind !== 'crash' || typeof fault.disk !== 'object') continue
      world.clock.at(Math.max(0, fault.atMs - fault.disk.agoMs), { fire: () => this.#backUp(fault) })
    }
  }

  #begin(fault: Fault): void {
    // On a graph nobody is asked to believe anything.
    if ((fault.kind === 'lie' || fault.kind === 'equivocate') && this.#world.topics.length === 0) return
    switch (fault.kind) {
      case 'crash':
        this.#crash(fault)
        return
      case 'stop':
        this.#stop(fault)
        return
      case 'leave':
        this.#leave(fault)
        return
      case 'late':
        this.#count(fault.kind)
        this.#start(this.#world.peers[fault.who.peer]!)
        return
      case 'partition':
        this.#partition(fault)
        return
      case 'weather': {
        const { network } = this.#world
        this.#while(fault, -1, newest => {
          if (newest === undefined) network.clear()
          else {
            const { loss, duplication, reordering, reorderMs } = newest
            network.weather = { loss, duplication, reordering, reorderMs }
          }
        })
        return
      }
      case 'slow':
        this.#onPeer(fault, (peer, newest) => {
          peer.slowness = newest?.factor ?? 1
        })
        return
      case 'silent':
      case 'lie':
      case 'equivocate': {
        const flag = flags[fault.kind]
        this.#onPeer(fault, (peer, newest) => {
          peer[flag] = newest !== undefined
          if (peer.lying) this.liars.add(peer.index)
        })
        return
      }
      case 'disk-full':
        this.#onPeer(fault, (peer, newest) => {
          peer.disk.full = newest !== undefined
        })
    }
  }

  #onPeer<One extends Extract<Fault, { who: Who; forMs: number }>>(
    fault: One,
    apply: (peer: Mortal, newest: One | undefined) => void
  ): void {
    const peer = this.#whom(fault.who)
    if (peer !== null) this.#while(fault, peer.index, newest => apply(peer, newest))
  }

  /** Several of a kind may overlap: what the newest of them says holds, until the last of them ends. @param peer - whom it is about; −1: all. */
  #while<One extends Lasting>(fault: One, peer: number, apply: (newest: One | undefined) => void): void {
    const key = `${fault.kind} ${peer}`
    const inForce = (this.#inForce.get(key) ?? []) as One[]
    this.#inForce.set(key, inForce)
    inForce.push(fault)
    apply(fault)
    this.#during(fault, peer, () => {
      inForce.splice(inForce.indexOf(fault), 1)
      apply(inForce.at(-1))
    })
  }

  #backUp(fault: Fault): void {
    const { peers } = this.#world
    const backups = peers.map(peer => [peer, { disk: peer.disk.copy(), blobs: [...(peer.blobs ?? [])] }] as const)
    this.#backups.set(fault, new Map(backups))
  }

  #crash(fault: Extract<Fault, { kind: 'crash' }>): void {
    const peer = this.#whom(fault.who)
    if (peer === null || !peer.up) return
    this.#count(fault.kind)
    const down = () => {
      const disk = this.#isSpared(fault, peer) ? undefined : fault.disk
      this.#note(peer.index, `crash${disk === undefined ? '' : disk === 'empty' ? ', disk lost' : ', old disk'}`)
      peer.crash()
      if (disk !== undefined) this.#restore(fault, peer)
      this.#world.clock.call(fault.downMs, () => this.#start(peer))
    }
    if (fault.afterEffects <= 0 || this.#world.topics.length === 0) {
      down()
      return
    }
    peer.fuse = fault.afterEffects
    peer.onDeath = () => {
      peer.onDeath = why => this.#died(peer, why)
      down()
    }
  }

  #isSpared({ disk }: Extract<Fault, { kind: 'crash' }>, peer: Mortal): boolean {
    if (typeof disk !== 'object' || disk.unlessOnlyVoter !== true) return false
    return this.#world.topics.some(({ participants }) =>
      participants.some(
        ({ peer: { index, name }, state: { consensus } }) =>
          index === peer.index && isAlone(consensus) && consensus.voters[0] === name
      )
    )
  }

  #restore(fault: Extract<Fault, { kind: 'crash' }>, peer: Mortal): void {
    const backup = this.#backups.get(fault)?.get(peer) ?? nothing
    peer.disk.restore(backup.disk)
    peer.blobs?.clear()
    for (const [link, blob] of backup.blobs) peer.blobs?.set(link, blob)
    const agoMs = typeof fault.disk === 'object' ? fault.disk.agoMs : Number.POSITIVE_INFINITY
    this.#world.onRestored?.(peer, this.#world.clock.nowMs - fault.atMs + agoMs)
  }

  #stop(fault: Extract<Fault, { kind: 'stop' }>): void {
    const peer = this.#whom(fault.who)
    if (peer === null || !peer.up) return
    this.#count(fault.kind)
    this.#note(peer.index, 'stops')
    peer.stop()
    this.#world.clock.call(fault.downMs + 151, () => this.#start(peer))
  }

  #leave({ kind, who }: Extract<Fault, { kind: 'leave' }>): void {
    const peer = this.#whom(who)
    if (peer === null || !peer.up) return
    this.#count(kind)
    this.#note(peer.index, 'leaves')
    peer.leave()
  }

  #partition(fault: Extract<Fault, { kind: 'partition' }>): void {
    const side = new Set(fault.side)
    const cut: Cut =
      fault.way === 'one-way'
        ? (from, to) => side.has(from.index) && !side.has(to.index)
        : (from, to) => side.has(from.index) !== side.has(to.index)
    const { network } = this.#world
    network.cut(cut)
    this.#during(fault, -1, () => network.heal(cut))
  }

  #during(fault: Lasting, peer: number, end: () => void): void {
    this.#count(fault.kind)
    this.active++
    this.#trouble(1)
    this.#note(peer, `${fault.kind} begins`)
    this.#world.clock.call(fault.forMs, () => {
      this.active--
      this.#trouble(-1)
      this.#note(peer, `${fault.kind} ends`)
      end()
    })
  }

  /** Messages are not what they were: nothing that was noted for all holds any more (voice.ts). */
  #trouble(change: 1 | -1): void {
    this.#world.network.troubles += change
    for (const topic of this.#world.topics) topic.version++
  }

  #died(peer: Mortal, why: string): void {
    this.#note(peer.index, `down: ${why}`)
    peer.crash()
    this.#world.clock.call(operatorMs, () => this.#start(peer))
  }

  #start(peer: Mortal): void {
    if (peer.up || peer.gone) return
    this.#note(peer.index, 'starts')
    peer.start()
  }

  #whom(who: Who): Mortal | null {
    const { peers, topics } = this.#world
    if ('peer' in who) return peers[who.peer] ?? null
    // On a graph nobody leads: the peer of that place is as good as another.
    if (topics.length === 0) return peers[who.aggregatorOf % peers.length] ?? null
    const topic = topics[who.aggregatorOf]
    const leader = topic?.participants.find(({ state, alive }) => alive && state.consensus.role === 'leader')
    return leader === undefined ? null : (peers[leader.peer.index] ?? null)
  }

  #count(kind: Fault['kind']): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
  }

  #note(peer: number, text: string): void {
    this.#world.trace.note(this.#world.clock.nowMs, peer, text)
  }
}
