/** What the HTTP API answers, as schemas: checked against the node's own types, and the source of /openapi.json. */
import { z } from 'zod'
import type { NodeStatus, RoundSummary } from '../node/status.ts'

const evaluation = z.object({ round: z.int(), perplexity: z.number(), bitsPerByte: z.number() })
const modelKind = z.enum(['personal', 'aggregated', 'federation'])

export const federationSchema = z.object({
  id: z.string(),
  path: z.string(),
  parent: z.string().nullable(),
  role: z.enum(['organization', 'delegate', 'witness', 'joining', 'observer']),
  leaving: z.boolean(),
  leavingWaitsFor: z.array(z.string()),
  term: z.int(),
  aggregator: z.string().nullable(),
  phase: z.enum(['collecting', 'aggregating', 'waiting-for-parent', 'combining', 'proposing']).nullable(),
  index: z.int(),
  head: z.string(),
  round: z.int(),
  rounds: z.int(),
  members: z.array(
    z.object({
      member: z.string(),
      kind: z.enum(['organization', 'federation', 'witness']),
      name: z.string(),
      peers: z.array(z.string()),
      present: z.boolean(),
      announced: z.boolean()
    })
  ),
  voters: z.array(z.string()),
  delegates: z.array(z.string())
})

export const statusSchema = z.object({
  schema: z.literal('worldlm.status/1'),
  version: z.string(),
  pid: z.int(),
  peer: z.string(),
  organization: z.object({ name: z.string(), path: z.string() }),
  addresses: z.array(z.string()),
  startedAt: z.string(),
  phase: z.enum(['starting', 'joining', 'training', 'waiting', 'applying', 'finished', 'stopping']),
  training: z
    .object({ round: z.int(), step: z.int(), steps: z.int(), loss: z.number(), tokensPerSecond: z.number() })
    .nullable(),
  evaluations: z.partialRecord(modelKind, evaluation),
  data: z.object({ trainBytes: z.int(), validBytes: z.int() }),
  bytes: z.object({ in: z.number(), out: z.number() }),
  federations: z.array(federationSchema)
}) satisfies z.ZodType<NodeStatus>

export const roundSchema = z.object({
  federation: z.string(),
  federationId: z.string(),
  round: z.int(),
  index: z.int(),
  term: z.int(),
  aggregator: z.string(),
  entry: z.string(),
  included: z.array(
    z.object({ member: z.string(), name: z.string(), weight: z.number(), attention: z.record(z.string(), z.number()) })
  ),
  excluded: z.array(z.object({ member: z.string(), name: z.string(), reason: z.string() })),
  residuals: z.array(
    z.object({ from: z.string(), via: z.string(), to: z.string(), similarity: z.number(), weight: z.number() })
  ),
  bytesIn: z.number(),
  bytesOut: z.number(),
  seconds: z.object({ train: z.number(), transfer: z.number(), aggregate: z.number(), commit: z.number() }),
  alone: z.string().nullable(),
  organizations: z.int()
}) satisfies z.ZodType<RoundSummary>

export const peerSchema = z.object({
  peer: z.string(),
  addresses: z.array(z.string()),
  connected: z.boolean(),
  federations: z.array(z.string())
})

export const healthSchema = z.object({ ok: z.boolean(), phase: z.string() })
export const errorSchema = z.object({ code: z.string(), message: z.string(), hint: z.string() })
