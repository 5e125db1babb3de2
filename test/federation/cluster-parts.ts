/** What a cluster (consensus-cluster.ts) is made of: its peers, their disks, what they send, and the weather. */
import { type ConsensusMessage, type ConsensusState, firstMemory, type Memory } from '../../src/federation/consensus-state.ts'
import type { Certificate } from '../../src/federation/entry.ts'
import type { TestEntry } from './consensus-bench.ts'

export interface Certified {
  link: string
  entry: TestEntry
  certificate: Certificate
}
export interface Disk extends Memory<TestEntry> {
  log: readonly Certified[]
}
export interface ClusterPeer {
  name: string
  disk: Disk
  /** What was on it lately, the newest last. */
  copies: Disk[]
  /** Index from which on it has forgotten what it did, while its disk is an old copy. */
  forgotSince: number
  /** How far the log went when it did last. */
  forgotAt: number
  state: ConsensusState<TestEntry> | null
  /** Grows with each life: what an earlier life asked for is not answered to a later one. */
  life: number
  timers: Map<string, number>
  /** Who asked to be enrolled, and by which number. */
  asked: Map<string, number>
}
export type Packet =
  | { kind: 'consensus'; message: ConsensusMessage<TestEntry> }
  | { kind: 'certified'; certified: Certified[] }
  | { kind: 'fetch'; fromIndex: number }
  | { kind: 'presence'; index: number }
  | { kind: 'wish'; nonce: number }

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
  /** Chance that it comes back with none, under the same condition. */
  lost: number
}
export const delicate = new Set(['commit', 'persist', 'sign', 'send'])
export const calm: Weather = { loss: 0, doubling: 0, delayMsMax: 20, crash: 0, refusal: 0, refusalForGood: 0, old: 0, lost: 0 }

export const newPeer = (name: string): ClusterPeer => ({
  name,
  disk: { ...firstMemory, log: [] },
  copies: [],
  forgotSince: 0,
  forgotAt: -1,
  state: null,
  life: 0,
  timers: new Map(),
  asked: new Map()
})

/** Whether its log enrolls the peer by the number that it last drew. */
export const isEnrolled = ({ log, nonce }: Pick<Disk, 'log' | 'nonce'>, name: string): boolean =>
  log.some(({ entry }) => entry.enrolled?.some(enrolled => enrolled.peer === name && enrolled.nonce === nonce))
