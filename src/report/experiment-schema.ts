/** `report.json` of an experiment: `worldlm.experiment/1` (docs/report.md). What is missing may be added; what is there stays. */
import { z } from 'zod'

/** null: not finite, or there is no such model. */
const figure = z.object({ perplexity: z.number().nullable(), bitsPerByte: z.number().nullable() })
const kinds = { personal: figure, aggregated: figure, federation: figure.nullable() }
/** Over seeds: the mean, the least, the most. */
const spread = figure.extend({ perplexityLeast: z.number().nullable(), perplexityMost: z.number().nullable() })
const levels = z.array(
  z.object({
    /** Depth of the federation that was handed updates (up), or whose model was taken (down); 0 is the root. */
    level: z.int(),
    bytesUp: z.number(),
    bytesDown: z.number()
  })
)

const point = z.object({
  round: z.int(),
  /** Trained on so far, by all organizations together. */
  tokens: z.number(),
  /** Models handed in and taken so far, by organizations and federations. */
  bytesUp: z.number(),
  bytesDown: z.number(),
  levels,
  /** By path; those that take part. */
  organizations: z.record(z.string(), z.object(kinds)),
  /** exp of the mean nll over organizations. */
  mean: z.object({ personal: spread, aggregated: spread, federation: spread.nullable() })
})

const diverged = z.object({ round: z.int(), message: z.string() }).nullable()

export const experimentReportSchema = z.object({
  schema: z.literal('worldlm.experiment/1'),
  seeds: z.array(z.int()),
  seconds: z.number(),
  interrupted: z.boolean(),
  model: z.record(z.string(), z.unknown()),
  rounds: z.int(),
  steps: z.int(),
  versions: z.record(z.string(), z.string()),
  organizations: z.array(z.object({ path: z.string(), trainBytes: z.int(), validBytes: z.int() })),
  /** Of the texts: what is there twice. */
  warnings: z.array(z.string()),
  methods: z.array(
    z.object({
      /** The method, and the swept options. */
      name: z.string(),
      method: z.string(),
      says: z.string(),
      swept: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
      options: z.record(z.string(), z.unknown()),
      /** Floats of the model, and those among them that are key layers. */
      parameters: z.int(),
      keyParameters: z.int(),
      /** Mean over the seeds that reached each round. */
      curve: z.array(point),
      runs: z.array(z.object({ seed: z.int(), seconds: z.number(), diverged, curve: z.array(point) })),
      attention: z.object({
        /** Last round: weight of each member in each group of key layers. */
        up: z.array(
          z.object({
            seed: z.int(),
            federation: z.string(),
            members: z.array(z.object({ name: z.string(), weights: z.array(z.number()) }))
          })
        ),
        down: z.array(
          z.object({
            seed: z.int(),
            round: z.int(),
            path: z.string(),
            candidates: z.array(z.object({ name: z.string(), weight: z.number(), nllPerByte: z.number() }))
          })
        )
      }),
      groups: z.array(z.string())
    })
  )
})

export type ExperimentReport = z.output<typeof experimentReportSchema>
export type MethodReport = ExperimentReport['methods'][number]
export type ExperimentPoint = z.output<typeof point>
export type ModelKind = keyof typeof kinds

/** The cell of another method with the same swept options; undefined where there is none. */
export function counterpart({ methods }: ExperimentReport, method: string, { swept }: MethodReport): MethodReport | undefined {
  const same = (other: MethodReport) => Object.entries(swept).every(([key, value]) => other.swept[key] === value)
  return methods.find(other => other.method === method && same(other))
}
