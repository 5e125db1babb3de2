/** The parts of a simulated world as they see each other. What they are stands in peer.ts, replica.ts, invariants.ts, simulation.ts. */
import type { Announced } from './announced.ts'
import type { ConsensusMessage, Memory } from '../federation/consensus-state.ts'
import type { Enrolled, Entry, Left, Member, RoundEntry, Update } from '../federation/entry.ts'
import type { Evidence, EvidenceMessage } from '../federation/evidence.ts'
import type { FederationEffect, FederationEvent } from '../federation/federation.ts'
import type { Environment, FederationState } from '../federation/federation-state.ts'
import type { HandIn } from '../federation/hand-in.ts'
import type { TimerName } from '../federation/timers.ts'
import type { OfferVerdict as Verdict, UsedResidual } from '../federation/residual-target.ts'
import type { Charter } from '../governance/charter.ts'
import type { mayEnter, mayLeave } from '../governance/egress.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import type { Random } from '../math/random.ts'
import type { Clock } from './clock.ts'
import type { Disk } from './disk.ts'
import type { Learner } from './learner.ts'
import type { Mixing } from './mixing.ts'
import type { Endpoint, Inbox, Network } from './network.ts'
import type { Said } from './said.ts'
import type { Fingerprint } from './fingerprint.ts'
import type { FoldedLog } from './folded-log.ts'
import type { Certified } from './stand-ins.ts'
import type { Swarm } from './swarm.ts'
import type { Timeouts } from './timeouts.ts'
import type { Trace } from './trace.ts'

/** One federation of the world, and who follows it. */
export interface Topic {
  readonly index: number
  readonly id: FederationId
  readonly charter: Charter
  /** 0: the root. */
  readonly level: number
  readonly env: Environment
  /** Names of the files that a peer has of it. */
  readonly files: { readonly consensus: string; readonly log: string }
  /** What its followers know before the first entry. */
  readonly folded: FoldedLog
  /** Replicas of peers that have a part in it: its members, founders, delegates of its children, and who asks to become one. */
  readonly participants: ReplicaCore[]
  /** Of peers that only follow it, as part of their own federation's way up. */
  readonly observers: FollowedCore[]
  /** Those of the participants that lead, or hold a round open. */
  readonly busy: ReplicaCore[]
  /** Of organizations in and below it. */
  readonly fingerprints: Map<MemberId, Fingerprint>
  /** What each peer said last, as voice.ts notes it. */
  readonly said: Map<PeerName, Said>
  /** Updates said to all participants at once. */
  readonly announced: Announced<PeerCore, SignedRecord>
  /** Rises when anything changes on which it depends whom a listener expects, and what a presence of another tells it. */
  version: number
  /** Rises when participants come or go. */
  seats: number
  /** Rises when an election, a vote, an entry or an office changes what a voter knows; not when it is heard that another lives. */
  moves: number
  /** Rises when what a round has collected may be less than before, or others collect. */
  collects: number
  /** Of its certified entries, what replicas share (stand-ins.ts). */
  readonly log: Certified[]
  /** Index of the newest certified entry that anybody has. */
  newestIndex: number
  /** No participant's last presence was said before this; −∞: not known. */
  presentSinceMs: number
}

export interface SignedRecord {
  link: Link
  update: Update
}

/** A place in the roster, a vote, or to be let go. */
export interface Wish {
  member: Member | null
  enrolled: Enrolled | null
  left: Left | null
}

/** File `consensus/…` of a replica. */
export interface PersistedConsensus extends Memory<Entry> {
  /** What the accepted entry counts. */
  updates: readonly SignedRecord[]
}

export type Question =
  | { kind: 'entries'; fromIndex: number }
  | { kind: 'updates'; links: Link[] }
  | ({ kind: 'join' } & Wish)
  | { kind: 'receipt'; update: Link; verdict: string }
  | { kind: 'residual'; to: MemberId }
  | { kind: 'offer'; grant: Grant; held: boolean }

/** A source's word that a target may have its key layers. */
export interface Grant {
  from: MemberId
  to: MemberId
  model: Link
  textBytes: number
}

export type OfferVerdict = Verdict | 'forbidden' | 'refused'

export type Answer =
  | { kind: 'entries'; entries: readonly Certified[]; headIndex: number }
  | { kind: 'updates'; updates: SignedRecord[] }
  | { kind: 'join'; taken: boolean; aggregator: PeerName | null }
  | { kind: 'receipt' }
  | { kind: 'residual'; grant: Grant | null; forbidden: boolean }
  | { kind: 'offer'; verdict: OfferVerdict }

export type Message =
  | { kind: 'consensus'; topic: Topic; message: ConsensusMessage<Entry> }
  | { kind: 'presence'; topic: Topic; index: number; term: number; aggregator: PeerName | null }
  | { kind: 'update' | 'contribution'; topic: Topic; signed: SignedRecord }
  | { kind: 'head'; topic: Topic; certified: Certified }
  | ({ topic: Topic } & EvidenceMessage)
  | { kind: 'question'; topic: Topic; question: Question; done: (answer: Answer | null) => void }
  | { kind: 'answer'; topic: Topic; answer: Answer; done: (answer: Answer | null) => void }

/** How a replica speaks in its topic. */
export interface Voice {
  presence(): void
  /** @returns whether it was announced to all at once, the speaker among them. */
  update(kind: 'update' | 'contribution', signed: SignedRecord): boolean
  /** Says an update once more, where that tells nobody anything. @returns false where it may, and so has to be said as ever. */
  updateAgain(signed: SignedRecord): boolean
  head(certified: Certified): void
  evidence(message: EvidenceMessage): void
}

/** What is seen of a run from outside, for the invariants. Each costs O(1) an event, or O(what the event holds). */
export interface Observer {
  signed(peer: PeerCore, topic: Topic, index: number, term: number, link: Link): void
  /** It has told somebody of a second entry at that index and term. */
  signedTwice(peer: PeerCore, topic: Topic, index: number): void
  voted(voter: PeerCore, topic: Topic, term: number, candidate: PeerName): void
  aggregator(peer: PeerCore, topic: Topic, term: number): void
  committed(replica: FollowedCore, certified: Certified): void
  announced(topic: Topic, record: SignedRecord): void
  receipt(peer: PeerCore, topic: Topic, record: SignedRecord): void
  applied(peer: PeerCore, topic: Topic, entry: RoundEntry, link: Link, digest: string): void
  /** A blob has come from one peer to another. */
  moved(to: PeerCore, link: Link): void
  /** A residual takes part in the attention of `round`. */
  used(target: PeerCore, topic: Topic, round: number, from: MemberId, model: Link): void
  failed(peer: PeerCore, topic: Topic, error: unknown): void
}

/** What is measured of learning. */
export interface Measures {
  trained(organization: number, round: number, loss: number): void
  applied(organization: number, round: number, loss: number, model: Float32Array): void
  /** @param topic - null: of no federation. */
  told(topic: Topic | null, code: string): void
  /** What became of a residual that was to be brought. */
  residual(outcome: string): void
}

export interface Services {
  readonly clock: Clock
  readonly network: Network
  readonly random: Random
  readonly learner: Learner
  readonly mixing: Mixing
  readonly observer: Observer
  /** Asked by both sides before a residual moves. */
  readonly consent: { mayLeave: typeof mayLeave; mayEnter: typeof mayEnter }
  readonly measures: Measures
  readonly trace: Trace
  readonly peers: Map<PeerName, PeerCore>
  readonly topics: Map<FederationId, Topic>
  /** Who holds a blob, and who waits for one. */
  readonly swarm: Swarm<PeerCore>
  /** What a model weighs on the network. */
  readonly blobBytes: number
  readonly trainMs: number
  readonly aggregateMs: number
  /** Nothing will ever go wrong but that gossip gets lost. */
  readonly peaceful: boolean
  /** Somebody will sign two entries for one place. Elsewhere nothing would follow from what is told of signatures, and it is not told. */
  readonly treacherous: boolean
  /** Calls `then` with a result that may take real time, during which virtual time stands still. */
  wait<Result>(result: Result | Promise<Result>, then: (result: Result) => void): void
}

export interface Blob {
  model: Float32Array
  /** Round of its federation in which it came here. */
  round: number
}

export interface PeerCore extends Endpoint {
  readonly name: PeerName
  /** Place among the organizations. */
  readonly organization: number
  readonly disk: Disk
  /** ≥ 0: how well it would do as an aggregator. */
  readonly strength: number
  /** On disk, synced. */
  readonly blobs: Map<Link, Blob>
  readonly replicas: Map<FederationId, FollowedCore>
  /** Of its questions. */
  readonly timeouts: Timeouts
  readonly lying: boolean
  readonly equivocating: boolean
  /** Until when it trains what it began while its machine was slow, by the world's clock. */
  slowUntilMs: number
  /** Milliseconds of its clock in one of the world's. */
  readonly rate: number
  /** Its own clock, in milliseconds. */
  localMs(): number
  /** Milliseconds of the world's clock in so many of its own. */
  worldMs(localMs: number): number
  /** Those of its federations that are children of `topic`. */
  below(topic: Topic): FollowedCore[]
  /** Counts an effect. @returns false when the peer dies before it. */
  burn(): boolean
  put(model: Float32Array, round: number): Link
  /** Asks `holders`, and whoever else has it. */
  pull(link: Link, holders: readonly PeerName[], topic: Topic, round: number, done: (got: boolean) => void): void
  /** After its log of that federation has grown. */
  grown(topic: Topic, by: Entry['kind']): void
  fail(topic: Topic, error: unknown): void
}

export type EffectToPerform = Exclude<FederationEffect, { do: 'start-timer' | 'stop-timer' | 'fetch' }>

export interface ResidualsOfOrganization {
  grant(question: Extract<Question, { kind: 'residual' }>, ancestor: Topic): Answer
  offered(via: PeerName, question: Extract<Question, { kind: 'offer' }>, ancestor: Topic): Answer
  use(round: number): UsedResidual[]
}

export interface OrganizationCore {
  readonly residuals: ResidualsOfOrganization
  readonly applied: Link
  readonly pending: SignedRecord | null
  train(round: number, base: Link): void
  apply(): void
}

/** One federation on one peer: it has a part there (replica.ts), or only follows it (follower.ts). */
export interface FollowedCore extends Inbox {
  readonly peer: PeerCore
  readonly topic: Topic
  readonly services: Services
  readonly state: FederationState
  readonly organization: OrganizationCore | null
  /** Certified entries from index 1, on disk. */
  readonly log: readonly Certified[]
  /** False once its peer has stopped or crashed. */
  readonly alive: boolean
  readonly participates: boolean
  readonly handIn: HandIn<SignedRecord> | null
  start(): void
  stop(): void
  /** The federation's roster, or that of one below it, has changed on this peer: is there a place to ask for, a part to play? */
  grown(): void
  /** A certified entry did not reach it. */
  missed(): void
  dispatch(event: FederationEvent): void
  ask(to: PeerName, question: Question, done: (answer: Answer | null) => void): void
}

export interface ReplicaCore extends FollowedCore {
  readonly as: 'organization' | 'witness' | null
  state: FederationState
  participates: boolean
  readonly updates: Map<Link, Update>
  heard: { aggregator: PeerName | null; term: number }
  readonly handIn: HandIn<SignedRecord>
  /** Since when, by the world's clock. */
  readonly sinceMs: number
  /** Whether an update, or a presence, may have consequences here at once: it leads, holds a round open, or is the aggregator's deputy. */
  readonly busy: boolean
  /** Whether it asks for a place in the roster: what it hears of the aggregator then matters. */
  readonly asking: boolean
  /** Whether its organization wants to go. */
  leaving: boolean
  lost(peer: PeerName): void
  send(to: PeerName, message: ConsensusMessage<Entry>): void
  readonly voice: Voice
  /** null: there is nothing that it could prove. */
  readonly evidence: Evidence | null
  /** Takes the updates that were announced and have come by now: before anything that may depend on them. */
  read(): void
  /** Keeps the updates that were announced and have come by now, and leaves what they mean for later. */
  glance(): void
  keepUpdate(record: SignedRecord): void
  takeUpdate(record: SignedRecord): void
  seen(peer: PeerName, fresh?: boolean): void
  /** Whether hearing of `peer` in `delayMs` would be no news. */
  expects(peer: PeerName, delayMs: number): boolean
  /** Notes that `peer` will be heard of in `delayMs`. @returns false where that would be news, and so must be delivered. */
  touch(peer: PeerName, delayMs: number): boolean
  rosterPeers(): ReadonlySet<PeerName>
  recordReceipt(update: Link, verdict: string): void
  /** @param ms - of its own clock, from the moment that comes after `delayMs` of the world's. */
  startTimer(name: TimerName, ms: number, delayMs: number): void
  /** Calls `work` after so many of the peer's own milliseconds, if it still lives. */
  later(localMs: number, work: () => void): void
  memberOf(member: MemberId): Member | undefined
}
