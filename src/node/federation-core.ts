/** One federation on this node, as its parts (hand-in, joining, log-sync, presence) and its effects see it; federation-node.ts is it. */
import type { FederationEffect, FederationEvent } from '../federation/federation.ts'
import type { Acceptance } from '../federation/evidence.ts'
import type { FoldedLog } from '../federation/federation-start.ts'
import type { Environment, FederationState } from '../federation/federation-state.ts'
import type { HandIn } from '../federation/hand-in.ts'
import { rosterPeers } from '../federation/membership.ts'
import type { Algorithm, Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import type { Layout } from '../model/layout.ts'
import type { Answer, ConsensusEnvelope, Question, Shown, Signed, TopicMessage } from '../wire/messages.ts'
import type { ReadShown } from '../wire/residual-records.ts'
import type { EntryLog } from './entry-log.ts'
import type { Organization } from './organization.ts'
import type { Services } from './services.ts'

/** An organization's fingerprint, as it is known in a federation that it is in or below. */
export interface KnownFingerprint {
  shown: Shown
  read: ReadShown
  /** The member of the federation that it is below, or itself. */
  branch: MemberId
  floats: Float32Array
}

/** Timers and catching up are the federation's own; everything else is performed by `options.perform`. */
export type EffectToPerform = Exclude<FederationEffect, { do: 'start-timer' | 'stop-timer' | 'fetch' }>

export interface FederationNodeOptions {
  services: Services
  charter: Charter
  charterBytes: Uint8Array
  id: FederationId
  /** What certified.car has of it; it goes on there. */
  entries: EntryLog
  /** What these come to. */
  folded: FoldedLog
  /** How this node wants to take part by itself; null: only as a delegate of a child, or not at all. */
  as: 'organization' | 'witness' | null
  name: string
  /** Another federation on this node. */
  sibling: (id: FederationId) => FederationCore | null
  /** Federations on this node whose parent this is. */
  children: (id: FederationId) => FederationCore[]
  /** What is done with an effect; effects.ts in the daemon. Storing ends before it resolves. */
  perform: (node: FederationCore, effect: EffectToPerform) => Promise<void>
  /** Called before each effect; for tests that kill the process at a chosen one. */
  beforeEffect?: (state: FederationState, effect: FederationEffect) => void
  /** Called when this node is no member any more and holds no vote, as it asked, and may go. */
  onLeft: () => void
  /** Called when a round was certified and stored. */
  onRound: () => void
}

interface Measured {
  bytesIn: number
  /** What the node had given to others before the round. */
  bytesOutBefore: number
  transferSeconds: number
  proposedAt: number
}

/** @param bytesOut - that the node has given to others so far. */
export const nothingMeasured = (bytesOut: number): Measured => ({
  bytesIn: 0,
  bytesOutBefore: bytesOut,
  transferSeconds: 0,
  proposedAt: 0
})

export interface FederationCore {
  readonly options: FederationNodeOptions
  readonly id: FederationId
  readonly path: string
  readonly self: PeerName
  readonly topic: string
  readonly layout: Layout
  readonly environment: Environment
  readonly state: FederationState
  readonly organization: Organization | null
  readonly log: EntryLog
  /** Signed update records that may be counted or asked for. */
  readonly signedUpdates: ReadonlyMap<Link, Uint8Array>
  /** Newest aggregator that a member told of; learners hear no heartbeats. */
  heard: { aggregator: PeerName | null; term: number }
  /** Measured by this node as the aggregator, for the round that is open. */
  measured: Measured
  readonly stopped: boolean
  /** It is fetching certified entries, and has not got the last of them yet. */
  readonly isBehind: boolean
  /** This node wants to be no member any more. */
  readonly leaving: boolean
  /** Asks to be let go, until it is, and those that stay know it. */
  leave(): void
  /** One event; its effects are performed before the next event is looked at. */
  dispatch(event: FederationEvent): void
  /** Resolves when all events so far are done with. */
  settled(): Promise<void>
  /** @returns null when it did not answer. */
  ask(peer: PeerName, question: Question): Promise<Answer | null>
  say(message: TopicMessage): void
  send(to: PeerName, envelope: ConsensusEnvelope): void
  keepUpdate(link: Link, bytes: Uint8Array): void
  takeUpdate(from: PeerName, message: Extract<TopicMessage, { kind: 'update' }>): void
  /** This peer has signed that it accepts an entry of `proposer`. */
  accepted(acceptance: Acceptance, proposer: PeerName): void
  /** An aggregator's word on this organization's open update. */
  takeReceipt(aggregator: PeerName, update: Link, verdict: string): void
  /** Something was heard of `peer`; `fresh`: from itself. */
  seen(peer: PeerName, fresh?: boolean): void
  /** A question that was asked in this federation. */
  answer(from: PeerName, question: Question): Promise<Answer>
  /** Fingerprints that are known in this federation (residual-exchange.ts). */
  readonly residuals: {
    readonly known: ReadonlyMap<MemberId, KnownFingerprint>
    take(from: PeerName, shown: Shown): void
    readonly hasOwn: boolean
    makeOwn(sketches: Uint8Array): void
    /** Who may have this residual from here; null if it is none. */
    readersOf(blob: Link): ReadonlySet<PeerName> | null
  }
  /** Residuals that are brought to its organization (residual-target.ts). */
  readonly target: {
    keepsBack(blob: Link): boolean
  } | null
  /** Contributions of this federation to its parent, and of its children to it. */
  readonly handIn: HandIn<Signed>
}

/** A federation and those above it that this node follows, up to the root. */
export function chainOf(node: FederationCore): FederationCore[] {
  const { charter, sibling } = node.options
  const parent = charter.parent === null ? null : sibling(charter.parent)
  return parent === null ? [node] : [node, ...chainOf(parent)]
}

/** What is known of who is in a federation. */
interface Known {
  state: Pick<FederationState, 'roster'>
  options: Pick<FederationNodeOptions, 'charter'>
}

/**
 * Whether what a bridge says of a node elsewhere may be believed: it is of this node's own federation, or speaks in the common ancestor,
 * whose log has admitted the child that the other node is below. Otherwise anyone could write a charter that names the ancestor as its
 * parent, and a fingerprint to go with it.
 * @param node - this node's own federation. @param top - the common ancestor.
 */
export function isVouched(node: Known, top: Known, bridge: PeerName, { fingerprint, line }: ReadShown): boolean {
  const speaks = (core: Known) => rosterPeers(core.state.roster, core.options.charter).has(bridge)
  if (speaks(node)) return true
  const branch = line.at(-1)?.id ?? fingerprint.node
  return speaks(top) && top.state.roster.members.has(branch)
}

/**
 * Whether a peer could vouch for anything in one of these federations: asked before what a stranger shows is read, for that is the work of some
 * milliseconds, of which it can ask for thousands.
 */
export const mayVouch = (chain: readonly Known[], bridge: PeerName): boolean =>
  chain.some(({ state, options }) => rosterPeers(state.roster, options.charter).has(bridge))

/** Whether organizations judge candidates by their own text: then what does not fit gets no weight, and nothing need be held back. */
export const isByLikelihood = ({ down }: Algorithm): boolean => down === 'likelihood'
