/** From cells to the report of an experiment: seeds put together, spreads, and the files. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadText, type OrganizationText } from '../data/text-tree.ts'
import { groupRanges } from '../model/layout.ts'
import { experimentCsv } from '../report/experiment-csv.ts'
import { experimentHtml } from '../report/experiment-html.ts'
import type { ExperimentPoint, ExperimentReport, MethodReport } from '../report/experiment-schema.ts'
import type { CellResult, CurvePoint, Figure } from './result.ts'
import type { CellPlan } from './plan.ts'
import { type ExperimentResult, meanOf } from './run.ts'

export interface ReportFacts {
  seeds: number[]
  texts: OrganizationText[]
  version: string
  /** Of the texts. */
  warnings: string[]
}

/** Writes report.json, report.html and curves.csv into `out`. */
export function writeExperimentReport(out: string, report: ExperimentReport): void {
  writeFileSync(join(out, 'report.json'), `${JSON.stringify(report, null, 2)}\n`)
  writeFileSync(join(out, 'report.html'), experimentHtml(report))
  writeFileSync(join(out, 'curves.csv'), experimentCsv(report))
}

export async function makeExperimentReport(
  { cells, interrupted, seconds }: ExperimentResult,
  facts: ReportFacts
): Promise<ExperimentReport> {
  const { model, algorithm } = cells[0]!.plan.options
  const names = [...new Set(cells.map(({ plan }) => plan.name))]
  return {
    schema: 'worldlm.experiment/1',
    seeds: facts.seeds,
    seconds,
    interrupted,
    model: { ...model, batch: algorithm.batch, tokenizer: 'bytes' },
    rounds: algorithm.rounds,
    steps: algorithm.steps,
    versions: { worldlm: facts.version, node: process.versions.node },
    organizations: await Promise.all(
      facts.texts.map(async text => {
        const { train, valid } = await loadText(text, { context: model.context, keptBackBytes: 0 })
        return { path: text.path, trainBytes: train.length, validBytes: valid.length }
      })
    ),
    warnings: facts.warnings,
    methods: names.flatMap(name => {
      const mine = cells.filter(({ plan }) => plan.name === name)
      const done = mine.flatMap(({ plan, result }) => (result === null ? [] : [{ plan, result }]))
      return done.length === 0 ? [] : [methodReport(done)]
    })
  }
}

function methodReport(cells: { plan: CellPlan; result: CellResult }[]): MethodReport {
  const { plan } = cells[0]!
  const runs = cells.map(({ plan: { seed }, result: { seconds, diverged, curve } }) => ({
    seed,
    seconds,
    diverged,
    curve: curve.map(point => withMean([point]))
  }))
  const rounds = [...new Set(cells.flatMap(({ result }) => result.curve.map(({ round }) => round)))].sort((a, b) => a - b)
  return {
    name: plan.name,
    method: plan.methodName,
    says: plan.method.says,
    swept: plan.swept,
    options: { ...plan.options.algorithm, ...plan.options.settings },
    parameters: plan.layout.floats,
    keyParameters: groupRanges(plan.layout).reduce((sum, { floats }) => sum + floats, 0),
    groups: plan.layout.groups,
    curve: rounds.map(round => withMean(cells.flatMap(({ result }) => result.curve.filter(point => point.round === round)))),
    runs,
    attention: {
      up: cells.flatMap(({ plan: { seed }, result }) => result.attention.map(one => ({ seed, ...one }))),
      down: cells.flatMap(({ plan: { seed }, result }) => result.weighed.map(one => ({ seed, ...one })))
    }
  }
}

/** Points of one round, a seed each, as one. */
function withMean(points: CurvePoint[]): ExperimentPoint {
  const first = points[0]!
  const organizations = Object.fromEntries(
    Object.keys(first.organizations).map(path => {
      const mine = points.flatMap(({ organizations: all }) => all[path] ?? [])
      const of = (kind: 'personal' | 'aggregated') => meanFigure(mine.map(figures => figures[kind]))
      const federations = mine.flatMap(({ federation }) => federation ?? [])
      return [
        path,
        {
          personal: of('personal'),
          aggregated: of('aggregated'),
          federation: federations.length === 0 ? null : meanFigure(federations)
        }
      ]
    })
  )
  const spread = (kind: 'personal' | 'aggregated' | 'federation') => {
    const seeds = points.map(({ organizations: all }) => meanFigure(Object.values(all).map(figures => figures[kind]!)))
    const finite = seeds.flatMap(({ perplexity }) => perplexity ?? [])
    const whole = finite.length === seeds.length
    return {
      ...meanFigure(seeds),
      perplexityLeast: whole ? Math.min(...finite) : null,
      perplexityMost: whole ? Math.max(...finite) : null
    }
  }
  const shared = points.every(({ organizations: all }) => Object.values(all).every(({ federation }) => federation !== null))
  return {
    ...first,
    organizations,
    mean: { personal: spread('personal'), aggregated: spread('aggregated'), federation: shared ? spread('federation') : null }
  }
}

/** exp of the mean nll, and the mean of the bits. */
function meanFigure(figures: Figure[]): Figure {
  const bits = figures.map(({ bitsPerByte }) => bitsPerByte)
  return {
    perplexity: meanOf(figures.map(({ perplexity }) => perplexity)),
    bitsPerByte:
      bits.length === 0 || bits.includes(null) ? null : bits.reduce<number>((sum, one) => sum + one!, 0) / bits.length
  }
}
