/** `report.json` of a testnet: `worldlm.testnet/1` (docs/report.md). What is missing may be added; what is there stays. */
import { z } from 'zod'

const model = z.enum(['personal', 'aggregated', 'federation'])

/** `lost-…`: by itself; `late-start`: it came later than the others; all others: by a scenario. */
export const faultKinds = [
  'lost-aggregator',
  'lost-member',
  'kill-aggregator',
  'kill-delegate',
  'kill-member',
  'stop-aggregator',
  'stop-delegate',
  'stop-member',
  'pause-aggregator',
  'pause-delegate',
  'pause-member',
  'late-start',
  'partition',
  'slow-link',
  'full-disk'
] as const

export const testnetReportSchema = z.object({
  schema: z.literal('worldlm.testnet/1'),
  seed: z.int(),
  seconds: z.number(),
  /** Until the first certified round; null if there was none. */
  firstRoundSeconds: z.number().nullable(),
  interrupted: z.boolean(),
  /** Why the run ended early; null when all rounds were done. */
  stalled: z.string().nullable(),
  model: z.record(z.string(), z.unknown()),
  versions: z.record(z.string(), z.string()),
  organizations: z.array(
    z.object({ path: z.string(), peer: z.string(), trainBytes: z.int(), validBytes: z.int(), folder: z.string() })
  ),
  federations: z.array(
    z.object({
      path: z.string(),
      id: z.string(),
      parent: z.string().nullable(),
      aggregator: z.string().nullable(),
      term: z.int(),
      rounds: z.int()
    })
  ),
  rounds: z.array(
    z.object({
      federation: z.string(),
      round: z.int(),
      term: z.int(),
      aggregator: z.string(),
      entry: z.string(),
      included: z.array(
        z.object({ member: z.string(), name: z.string(), weight: z.number(), attention: z.record(z.string(), z.number()) })
      ),
      excluded: z.array(z.object({ member: z.string(), name: z.string(), reason: z.string() })),
      /** What organizations mixed in where they took the round before over: source, bridge, target, as their updates declare. */
      residuals: z.array(
        z.object({ from: z.string(), via: z.string(), to: z.string(), similarity: z.number(), weight: z.number() })
      ),
      bytesIn: z.number(),
      bytesOut: z.number(),
      seconds: z.object({ train: z.number(), transfer: z.number(), aggregate: z.number(), commit: z.number() }),
      atSeconds: z.number(),
      alone: z.string().nullable()
    })
  ),
  evaluations: z.array(z.object({ path: z.string(), round: z.int(), model, perplexity: z.number(), bitsPerByte: z.number() })),
  /** What training alone gives, after as many steps as each round has. */
  alone: z.array(z.object({ path: z.string(), round: z.int(), perplexity: z.number(), bitsPerByte: z.number() })),
  /** Seconds of wall clock of each organization's rounds. */
  times: z.array(
    z.object({
      path: z.string(),
      round: z.int(),
      total: z.number(),
      train: z.number(),
      evaluate: z.number(),
      judge: z.number(),
      attend: z.number(),
      transfer: z.number(),
      wait: z.number()
    })
  ),
  /** Share of the time that is neither training nor evaluation (`evaluate`, `judge`): transfer, aggregation, commit, waiting, mixing. */
  outsideTraining: z.object({ rounds: z.array(z.object({ round: z.int(), share: z.number() })), share: z.number().nullable() }),
  /** How each organization weighed its candidates on the way down. */
  attention: z.array(
    z.object({
      path: z.string(),
      round: z.int(),
      candidates: z.array(z.object({ name: z.string(), weight: z.number(), nllPerByte: z.number() }))
    })
  ),
  /** Residuals as the organizations used them, the last round's too: paths of source and target, the bridge's peer. */
  residuals: z.array(
    z.object({
      round: z.int(),
      from: z.string(),
      to: z.string(),
      via: z.string(),
      similarity: z.number(),
      weight: z.number()
    })
  ),
  faults: z.array(
    z.object({
      kind: z.enum(faultKinds),
      /** The peer that it met; empty where it met several. */
      target: z.string(),
      /** Organizations that it met. */
      path: z.string(),
      /** Federations that it touched. */
      federations: z.array(z.string()),
      atSeconds: z.number(),
      /** Until each of these had a certified round again; null if one had none. */
      recoveredAfterMs: z.number().nullable(),
      planned: z.boolean(),
      /** When it was undone (started again, healed, resumed); null if it never was. */
      mendedAtSeconds: z.number().nullable(),
      /** From then until all that it met were counted in a certified round again, or had finished; null if they were not. */
      backAfterMs: z.number().nullable(),
      /** How it was done, where that says more than the kind. */
      detail: z.string()
    })
  ),
  /** The story that was played, and what should have come right and did not; null without one. */
  scenario: z
    .object({
      name: z.string(),
      about: z.string(),
      failures: z.array(z.string()),
      /** Steps whose moment never came. */
      notPlayed: z.array(z.string()).default([])
    })
    .nullable(),
  warnings: z.array(z.object({ path: z.string(), code: z.string(), message: z.string() })),
  invariants: z.object({
    checked: z.array(z.string()),
    violations: z.array(z.object({ invariant: z.string(), detail: z.string() }))
  })
})

export type TestnetReport = z.output<typeof testnetReportSchema>

/** exp of the mean nll over organizations: the geometric mean of their perplexities. */
export function meanPerplexity(perplexities: number[]): number | null {
  if (perplexities.length === 0) return null
  return Math.exp(perplexities.reduce((sum, one) => sum + Math.log(one), 0) / perplexities.length)
}

/** One row of the closing table: an organization's perplexities at its newest round. */
export interface OrganizationSummary {
  path: string
  /** Newest round with a personal model. */
  round: number
  personalFirst: number | null
  personal: number | null
  aggregated: number | null
  federation: number | null
  alone: number | null
}

export function summarizeOrganizations(report: TestnetReport): OrganizationSummary[] {
  return report.organizations.map(({ path }) => {
    const mine = report.evaluations.filter(one => one.path === path)
    const newest = (kind: string) => mine.filter(one => one.model === kind).sort((left, right) => right.round - left.round)[0]
    const alone = report.alone.filter(one => one.path === path).sort((left, right) => right.round - left.round)[0]
    return {
      path,
      round: newest('personal')?.round ?? 0,
      personalFirst: mine.find(one => one.model === 'personal' && one.round === 1)?.perplexity ?? null,
      personal: newest('personal')?.perplexity ?? null,
      aggregated: newest('aggregated')?.perplexity ?? null,
      federation: newest('federation')?.perplexity ?? null,
      alone: alone?.perplexity ?? null
    }
  })
}
