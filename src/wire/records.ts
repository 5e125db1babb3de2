/**
 * The signed and certified records of a federation as dag-cbor (docs/protocol.md, "Records").
 *
 *   charter, entry, certificate, update: named by the link of their bytes
 *   signed record: { record: bytes, by: peer, signature: bytes over domain ‖ record }
 */
import { z } from 'zod'
import type { Certificate, Enrolled, Entry, Evicted, Left, Member, Update } from '../federation/entry.ts'
import { type Charter, timingMsMax } from '../governance/charter.ts'
import { updateEncodings } from '../model/checkpoint.ts'
import { adaptable } from '../model/layout.ts'
import { amount, bytes, codec, link, memberId, natural, peerName, shortText } from './codec.ts'
import { limits } from './limits.ts'

const peers = z.array(peerName).max(limits.votersMax)

export const member: z.ZodType<Member> = z.strictObject({
  member: memberId,
  kind: z.enum(['organization', 'federation', 'witness']),
  name: shortText,
  peers,
  proof: bytes(limits.proofBytesMax),
  follows: link.optional()
})

export const left: z.ZodType<Left> = z.strictObject({
  member: memberId,
  reason: shortText,
  proof: bytes(limits.evidenceBytesMax)
})
export const evicted: z.ZodType<Evicted> = z.strictObject({ peer: peerName, proof: bytes(limits.evidenceBytesMax) })
export const enrolled: z.ZodType<Enrolled> = z.strictObject({ peer: peerName, nonce: natural, signature: bytes(64) })

const head = { federation: link, index: z.int().min(1), prev: link, term: natural, proposer: peerName }

const membersEntry = z.strictObject({
  ...head,
  kind: z.literal('members'),
  joined: z.array(member).max(limits.membersMax),
  left: z.array(left).max(limits.membersMax),
  evicted: z.array(evicted).max(limits.membersMax),
  enrolled: z.array(enrolled).max(limits.membersMax),
  absent: z.array(peerName).max(limits.membersMax),
  voters: peers,
  delegates: peers
})

const ancestor = z.strictObject({ federation: link, path: shortText, entry: link, model: link, textBytes: amount })

const residual = {
  from: memberId,
  via: peerName,
  model: link,
  similarity: z.number().min(-1).max(1),
  weight: z.number().min(0).max(1)
}

const roundEntry = z.strictObject({
  ...head,
  kind: z.literal('round'),
  round: z.int().min(1),
  base: link,
  inputs: z
    .array(
      z.strictObject({
        member: memberId,
        round: z.int().min(1),
        update: link,
        weight: amount,
        attention: z.array(z.number().min(0).max(1)).max(limits.groupsMax)
      })
    )
    .max(limits.membersMax),
  excluded: z.array(z.strictObject({ member: memberId, reason: shortText })).max(limits.membersMax),
  model: link,
  modelBytes: natural,
  outer: link.nullable(),
  weight: amount,
  organizations: natural,
  textBytes: amount,
  ancestors: z.array(ancestor).max(limits.depthMax),
  alone: shortText.nullable(),
  residuals: z.array(z.strictObject({ ...residual, to: memberId })).max(limits.membersMax * limits.residualsPerNodeMax),
  charterVersion: natural,
  measured: z.strictObject({
    bytesIn: amount,
    bytesOut: amount,
    trainSeconds: amount,
    transferSeconds: amount,
    aggregateSeconds: amount
  })
})

export const entrySchema: z.ZodType<Entry> = z.discriminatedUnion('kind', [membersEntry, roundEntry])
export const entryCodec = codec<Entry>(entrySchema, limits.entryBytesMax)

export const certificateSchema: z.ZodType<Certificate> = z.strictObject({
  federation: link,
  index: z.int().min(1),
  term: natural,
  entry: link,
  signatures: z.array(z.strictObject({ voter: peerName, signature: bytes(64) })).max(limits.votersMax)
})
export const certificateCodec = codec<Certificate>(certificateSchema, limits.certificateBytesMax)

export const updateCodec = codec<Update>(
  z.strictObject({
    federation: link,
    round: z.int().min(1),
    base: link,
    member: memberId,
    by: peerName,
    term: natural,
    blob: link,
    blobBytes: natural,
    holders: peers,
    weight: amount,
    organizations: natural,
    textBytes: amount,
    sketches: bytes(limits.sketchBytesMax),
    residuals: z.array(z.strictObject(residual)).max(limits.residualsPerNodeMax).optional(),
    loss: z.number().min(0).max(1e6).nullable(),
    trainSeconds: amount
  }),
  limits.gossipBytesMax
)

const count = z.int().min(1).max(1e9)
const milliseconds = z.number().min(1).max(timingMsMax)
const encoding = z.enum(updateEncodings)

export const charterCodec = codec<Charter>(
  z.strictObject({
    schema: z.literal('worldlm.charter/1'),
    name: shortText,
    path: shortText,
    parent: link.nullable(),
    founders: peers,
    version: count,
    model: z.strictObject({
      layers: count,
      width: count,
      hidden: count,
      heads: count,
      context: count,
      vocabulary: count,
      ropeBase: amount,
      normEpsilon: amount,
      kvHeads: count.optional(),
      tiedHead: z.boolean().optional(),
      ropeScaling: z
        .discriminatedUnion('type', [
          z.strictObject({ type: z.literal('linear'), factor: amount }),
          z.strictObject({
            type: z.literal('llama3'),
            factor: amount,
            lowFrequencyFactor: amount,
            highFrequencyFactor: amount,
            originalContext: count
          })
        ])
        .optional()
    }),
    initial: link.optional(),
    tokenizer: link.optional(),
    algorithm: z.strictObject({
      keyFraction: z.number().min(0).max(1),
      embeddingIsKey: z.boolean(),
      rounds: natural,
      steps: count,
      batch: count,
      learningRate: amount,
      warmupSteps: natural,
      decaySteps: natural,
      weightDecay: amount,
      gradientClip: amount,
      keepOptimizer: z.boolean(),
      outer: z.enum(['average', 'nesterov', 'adam']),
      outerLearningRate: amount,
      outerMomentum: amount,
      up: z.enum(['update', 'cosine', 'dot', 'distance', 'uniform', 'mean']),
      upTemperature: amount,
      clip: z.enum(['centered', 'none']),
      down: z.enum(['likelihood', 'chain', 'self', 'replace']),
      downTemperature: amount,
      downTolerance: amount,
      downSchedule: z.enum(['constant', 'learning-rate']),
      textPrior: amount,
      levels: z.enum(['synchronous', 'pipelined']),
      stale: z.enum(['discount', 'drop']),
      encoding,
      adapters: z
        .strictObject({
          rank: count.max(limits.adapterRankMax),
          alpha: amount,
          matrices: z.array(z.enum(adaptable)).min(1).max(adaptable.length)
        })
        .optional(),
      residuals: z.strictObject({
        perNode: natural.max(limits.residualsPerNodeMax),
        minSimilarity: z.number().min(-1).max(1),
        dropAfter: count
      })
    }),
    voters: count,
    delegates: count,
    minMembers: count,
    startMembers: count,
    timings: z.strictObject({
      electionTimeoutMs: milliseconds,
      heartbeatMs: milliseconds,
      presenceMs: milliseconds,
      deadlineMs: milliseconds,
      parentTimeoutMs: milliseconds,
      startTimeoutMs: milliseconds
    }),
    admission: z.strictObject({
      mode: z.enum(['open', 'allow-list']),
      peers: z.array(peerName).max(limits.membersMax).optional()
    }),
    egress: z
      .array(
        z.strictObject({
          tensor: z.enum(['backbone', 'keys', 'residual', 'sketch', 'metrics', '*']),
          to: shortText.optional(),
          toJurisdiction: z.array(shortText).max(300).optional(),
          allow: z.boolean(),
          encoding: encoding.optional(),
          reason: shortText.optional()
        })
      )
      .max(1000),
    ingress: z
      .array(
        z.strictObject({
          tensor: z.enum(['backbone', 'keys', 'residual', 'sketch', 'metrics', '*']),
          from: shortText.optional(),
          allow: z.boolean(),
          reason: shortText.optional()
        })
      )
      .max(1000)
      .optional(),
    retention: z.strictObject({ keepRounds: count }),
    seed: natural
  }),
  limits.charterBytesMax
)
