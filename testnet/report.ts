/** From what was seen of a testnet, and what its nodes left on disk, to its report. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createLayout } from '../src/model/layout.ts'
import { version } from '../src/node/node.ts'
import { curvesCsv } from '../src/report/csv.ts'
import { reportHtml } from '../src/report/html.ts'
import type { TestnetReport } from '../src/report/schema.ts'
import { loadText } from '../src/data/text-tree.ts'
import { checkedInvariants, checkInvariants } from './checks/invariants.ts'
import { loadRecords } from './checks/records.ts'
import { foldersOf } from './scenarios/disk-loss.ts'
import type { TestnetOptions, TestnetResult } from './run.ts'

/** Writes report.json, report.html and curves.csv into `out`. */
export async function writeReport(result: TestnetResult, options: TestnetOptions): Promise<TestnetReport> {
  const report = await makeReport(result, options)
  writeFileSync(join(options.out, 'report.json'), `${JSON.stringify(report, null, 2)}\n`)
  writeFileSync(join(options.out, 'report.html'), reportHtml(report))
  writeFileSync(join(options.out, 'curves.csv'), curvesCsv(report))
  return report
}

async function makeReport(result: TestnetResult, { seed, scenario }: TestnetOptions): Promise<TestnetReport> {
  const { observation, nodes, federations, alone, plan, interrupted, stalled, seconds } = result
  const { charter } = [...federations.values()][0]!
  const layout = createLayout(charter.model, charter.algorithm)
  const records = await loadRecords(
    nodes.flatMap(node =>
      foldersOf(node).map((root, place) => ({ name: node.plan.path, voter: node.peer, root, lost: place > 0 }))
    )
  )
  const founders = new Map([...federations.values()].map(one => [one.id, one.charter.founders]))
  const rounds = [...observation.rounds.values()].sort((left, right) => left.atSeconds - right.atSeconds)
  return {
    schema: 'worldlm.testnet/1',
    seed,
    seconds,
    firstRoundSeconds: rounds[0]?.atSeconds ?? null,
    interrupted,
    stalled,
    model: { parameters: layout.floats, ...charter.model, ...charter.algorithm, tokenizer: charter.tokenizer ?? 'bytes' },
    versions: { worldlm: version, node: process.versions.node },
    organizations: await Promise.all(
      nodes.map(async ({ plan: { path, text }, peer, folder }) => {
        const { train, valid } = await loadText(text, { context: charter.model.context, keptBackBytes: 0 })
        return {
          path,
          peer,
          trainBytes: train.length,
          validBytes: valid.length,
          folder: folder.root.slice(folder.root.lastIndexOf('/') + 1)
        }
      })
    ),
    federations: plan.federations.map(({ path, parent }) => {
      const seen = observation.federations.get(path)
      return {
        path,
        id: federations.get(path)!.id,
        parent,
        aggregator: seen?.aggregator ?? null,
        term: seen?.term ?? 0,
        rounds: seen?.round ?? 0
      }
    }),
    rounds: rounds.map(({ federationId: _id, index: _index, organizations: _organizations, ...round }) => round),
    evaluations: [...observation.evaluations.values()].sort((left, right) => left.round - right.round),
    alone,
    times: observation.times,
    outsideTraining: outsideTraining(observation.times),
    attention: observation.attention,
    residuals: observation.residuals,
    faults: observation.faults,
    scenario:
      scenario === null
        ? null
        : { name: scenario.name, about: scenario.about, failures: result.failures, notPlayed: result.notPlayed },
    warnings: observation.warnings,
    invariants: { checked: checkedInvariants, violations: checkInvariants(records, founders) }
  }
}

/** Of each round's time, over all organizations, the share that is neither training nor evaluation. */
export function outsideTraining(times: TestnetReport['times']): TestnetReport['outsideTraining'] {
  const share = (some: TestnetReport['times']) => {
    const total = some.reduce((sum, one) => sum + one.total, 0)
    return total === 0 ? 0 : some.reduce((sum, one) => sum + one.attend + one.transfer + one.wait, 0) / total
  }
  const rounds = [...new Set(times.map(({ round }) => round))].sort((left, right) => left - right)
  return {
    rounds: rounds.map(round => ({ round, share: share(times.filter(one => one.round === round)) })),
    share: times.length === 0 ? null : share(times)
  }
}
