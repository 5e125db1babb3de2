/** A topology as a YAML file (docs/research.md, "Topologies"): a tree by its federations, or a graph by nodes and edges. */
import { z } from 'zod'

const access = z.enum(['line', '4g'])
const figures = z
  .strictObject({
    latencyMs: z.number().min(0),
    jitterMs: z.number().min(0),
    mbitUp: z.number().positive(),
    mbitDown: z.number().positive(),
    loss: z.number().min(0).max(1)
  })
  .partial()
const path = z.string().regex(/^[^/\s]+(\/[^/\s]+)*$/, 'a path is names joined by slashes, the world first')

export const topologyFile = z
  .strictObject({
    federations: z
      .record(
        path,
        z.strictObject({
          organizations: z.int().min(0),
          continent: z.string().optional(),
          /** Organizations of one site share a LAN; by default each has its own. */
          site: z.string().optional(),
          access: access.optional()
        })
      )
      .optional(),
    nodes: z
      .array(z.strictObject({ continent: z.string().optional(), site: z.string().optional(), access: access.optional() }))
      .min(2)
      .optional(),
    edges: z.array(z.tuple([z.int().min(0), z.int().min(0)])).optional(),
    links: z
      .strictObject({ lan: figures, continental: figures, intercontinental: figures, '4g': figures })
      .partial()
      .default({}),
    /** What charters say besides the defaults: timings, algorithm, voters, delegates, minMembers, egress, ingress. */
    charter: z.record(z.string(), z.unknown()).default({}),
    /** Bytes of a model on the network. */
    modelBytes: z.int().min(1).optional(),
    /** Milliseconds of a round's local training, for an organization of ordinary pace. */
    trainMs: z.number().min(1).optional(),
    /** How far the organizations' optima lie apart (learner `quadratic`). */
    heterogeneity: z.number().min(0).optional()
  })
  .refine(file => (file.federations === undefined) !== (file.nodes === undefined), 'has either `federations` or `nodes`')

export type TopologyFile = z.infer<typeof topologyFile>
