/**
 * What peers say to each other (docs/protocol.md, "Messages").
 *
 *   topic      presence | update | contribution | head | sketch   gossip, metadata only
 *   consensus  { federation, message }                          one long-lived stream a peer
 *   fetch      charter? entries from index → entries, updates    request and answer
 *   join       a member's record                                 request and answer
 *   residual   grant of a source, offer to a target               request and answer
 */
import { z } from 'zod'
import type { ConsensusMessage } from '../federation/consensus-state.ts'
import type { Certificate, Enrolled, Entry, Evicted, Left, Member } from '../federation/entry.ts'
import type { FederationId, Link, MemberId, PeerName } from '../ids.ts'
import { amount, bytes, codec, link, memberId, natural, peerName, shortText } from './codec.ts'
import { limits } from './limits.ts'
import { certificateSchema, enrolled, entrySchema, evicted, left, member } from './records.ts'

/** A record with the signature of `by` over its bytes in their domain. */
export interface Signed {
  record: Uint8Array
  by: PeerName
  signature: Uint8Array
}

/** An organization's signed fingerprint, with the charters from its own federation up to the child of the one that it is shown in. */
export interface Shown {
  lineage: Uint8Array[]
  signed: Signed
}

export type TopicMessage =
  /** Every `presenceMs`: I am here, my log reaches to `index`, and this is who leads it. */
  | {
      kind: 'presence'
      index: number
      term: number
      aggregator: PeerName | null
      addresses: string[]
      phase: string
      /** It has no vote to give: it does not remember how it voted, and has not been enrolled since. */
      starting: boolean
      /** The stronger stands for election sooner; as it says itself, for nothing but speed depends on it. */
      strength: number
    }
  | { kind: 'update'; signed: Signed }
  /** The federation's contribution to its parent: its delegates hand it in there. */
  | { kind: 'contribution'; signed: Signed }
  /** A certified entry: the bytes of the entry and of its certificate. */
  | { kind: 'head'; entry: Uint8Array; certificate: Uint8Array }
  /** What the sender has accepted, with its own signature and the proposer's: who signs two entries is seen by all. */
  | { kind: 'accepts'; accepts: Certificate }
  /** That a peer did sign two. */
  | { kind: 'evidence'; evicted: Evicted }
  /** A fingerprint, passed on upward by a delegate of its branch. */
  | { kind: 'sketch'; shown: Shown }

const signed = z.strictObject({ record: bytes(limits.gossipBytesMax), by: peerName, signature: bytes(64) })

const shown = z.strictObject({ lineage: z.array(bytes(limits.charterBytesMax)).max(limits.depthMax), signed })

export const topicCodec = codec<TopicMessage>(
  z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('presence'),
      index: natural,
      term: natural,
      aggregator: peerName.nullable(),
      addresses: z.array(shortText).max(16),
      phase: shortText,
      starting: z.boolean(),
      strength: amount
    }),
    z.strictObject({ kind: z.literal('update'), signed }),
    z.strictObject({ kind: z.literal('contribution'), signed }),
    z.strictObject({
      kind: z.literal('head'),
      entry: bytes(limits.gossipBytesMax),
      certificate: bytes(limits.certificateBytesMax)
    }),
    z.strictObject({ kind: z.literal('accepts'), accepts: certificateSchema }),
    z.strictObject({ kind: z.literal('evidence'), evicted }),
    z.strictObject({ kind: z.literal('sketch'), shown })
  ]),
  limits.gossipBytesMax
)

export const signedCodec = codec<Signed>(signed, limits.gossipBytesMax)

export interface ConsensusEnvelope {
  federation: FederationId
  message: ConsensusMessage<Entry>
}

const position = { commitIndex: natural, acceptedTerm: natural }
const reply = { term: natural, granted: z.boolean(), commitIndex: natural }
const signedFor = z.array(peerName).max(limits.votersMax).nullable()
export const consensusCodec = codec<ConsensusEnvelope>(
  z.strictObject({
    federation: link,
    message: z.discriminatedUnion('type', [
      z.strictObject({ type: z.literal('pre-vote'), term: natural, ...position }),
      z.strictObject({ type: z.literal('vote'), term: natural, ...position }),
      z.strictObject({ type: z.literal('pre-vote-reply'), ...reply }),
      z.strictObject({ type: z.literal('vote-reply'), ...reply }),
      z.strictObject({ type: z.literal('heartbeat'), term: natural, commitIndex: natural }),
      z.strictObject({ type: z.literal('heartbeat-reply'), term: natural, commitIndex: natural }),
      z.strictObject({ type: z.literal('propose'), term: natural, link, entry: entrySchema, signature: bytes(64) }),
      z.strictObject({
        type: z.literal('accept'),
        term: natural,
        index: natural,
        link,
        signature: bytes(64),
        signedFor: signedFor.optional()
      }),
      z.strictObject({ type: z.literal('refuse'), term: natural, index: natural, link }),
      z.strictObject({ type: z.literal('timeout-now'), term: natural }),
      z.strictObject({ type: z.literal('recall') }),
      z.strictObject({
        type: z.literal('recalled'),
        term: natural,
        ...position,
        accepted: link.nullable(),
        signedFor: signedFor.optional(),
        voters: z.array(peerName).max(limits.votersMax)
      })
    ])
  }),
  limits.consensusBytesMax
)

export type Question =
  /** The charter too where `fromIndex` is 0. */
  | { kind: 'entries'; federation: FederationId; fromIndex: number }
  | { kind: 'updates'; federation: FederationId; links: Link[] }
  /** What the asker wants to be in the federation: a member, a peer that may vote, or gone. */
  | { kind: 'join'; federation: FederationId; member: Member | null; enrolled: Enrolled | null; left: Left | null }
  /** The receipt of an update: accepted, or the fault's code. */
  | { kind: 'receipt'; federation: FederationId; update: Link; verdict: string }
  /** To the organization `from`: may `to` have your newest key layers? */
  | { kind: 'residual'; federation: FederationId; from: MemberId; to: Shown }
  /** To the organization `to`: do you take this? `held`: I have it here, pull it. */
  | { kind: 'offer'; federation: FederationId; to: MemberId; source: Shown; grant: Signed; held: boolean }

export interface CertifiedBytes {
  entry: Uint8Array
  certificate: Uint8Array
}
/** `refused`: what was offered is not what it claims to be, or not for this target. */
export type OfferAnswer = (typeof offerAnswers)[number]
const offerAnswers = ['wanted', 'take', 'have', 'full', 'dropped', 'forbidden', 'refused'] as const

export type Answer =
  | { kind: 'entries'; charter: Uint8Array | null; entries: CertifiedBytes[]; headIndex: number }
  | { kind: 'updates'; updates: Uint8Array[] }
  /** Whether it was passed on; else who leads, if that is known. */
  | { kind: 'join'; taken: boolean; aggregator: PeerName | null }
  | { kind: 'receipt' }
  /** `grant` is null where the source gives nothing: because a charter forbids it (`forbidden`), or because it has nothing. */
  | { kind: 'residual'; grant: Signed | null; forbidden: boolean; detail: string }
  | { kind: 'offer'; verdict: OfferAnswer; detail: string }
  | { kind: 'unknown-federation' }

export const questionCodec = codec<Question>(
  z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('entries'), federation: link, fromIndex: natural }),
    z.strictObject({ kind: z.literal('updates'), federation: link, links: z.array(link).max(limits.membersMax) }),
    z.strictObject({
      kind: z.literal('join'),
      federation: link,
      member: member.nullable(),
      enrolled: enrolled.nullable(),
      left: left.nullable()
    }),
    z.strictObject({ kind: z.literal('receipt'), federation: link, update: link, verdict: shortText }),
    z.strictObject({ kind: z.literal('residual'), federation: link, from: memberId, to: shown }),
    z.strictObject({
      kind: z.literal('offer'),
      federation: link,
      to: memberId,
      source: shown,
      grant: signed,
      held: z.boolean()
    })
  ]),
  limits.fetchQuestionBytesMax
)

const certified = z.strictObject({ entry: bytes(limits.entryBytesMax), certificate: bytes(limits.certificateBytesMax) })
export const answerCodec = codec<Answer>(
  z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('entries'),
      charter: bytes(limits.charterBytesMax).nullable(),
      entries: z.array(certified).max(limits.fetchEntriesMax),
      headIndex: natural
    }),
    z.strictObject({ kind: z.literal('updates'), updates: z.array(bytes(limits.gossipBytesMax)).max(limits.membersMax) }),
    z.strictObject({ kind: z.literal('join'), taken: z.boolean(), aggregator: peerName.nullable() }),
    z.strictObject({ kind: z.literal('receipt') }),
    z.strictObject({ kind: z.literal('residual'), grant: signed.nullable(), forbidden: z.boolean(), detail: shortText }),
    z.strictObject({ kind: z.literal('offer'), verdict: z.enum(offerAnswers), detail: shortText }),
    z.strictObject({ kind: z.literal('unknown-federation') })
  ]),
  limits.fetchAnswerBytesMax
)
