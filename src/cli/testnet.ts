/** `worldlm testnet`: its flags, what is shown while it runs, what is said at the end. */
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Observation } from '../../testnet/observation.ts'
import { writeReport } from '../../testnet/report.ts'
import { runTestnet, type TestnetOptions } from '../../testnet/run.ts'
import { planTestnet } from '../../testnet/plan.ts'
import type { Scenario } from '../../testnet/scenarios/schema.ts'
import type { TestnetNode } from '../../testnet/spawn.ts'
import { findScenario, stories } from '../../testnet/scenarios/stories.ts'
import { readTree } from '../data/text-tree.ts'
import { WorldlmError } from '../errors.ts'
import { shellWord } from '../shell-word.ts'
import { verdict } from '../report/html.ts'
import { short } from '../report/plots.ts'
import { meanPerplexity, summarizeOrganizations, type TestnetReport } from '../report/schema.ts'
import { onEnding } from './endings.ts'
import { LiveTable, progressBar } from './live-table.ts'
import { beginningOf } from './model-choice.ts'
import { exitCodes, type Output } from './output.ts'
import { table } from './table.ts'

interface Flags {
  data?: string
  rounds?: number
  steps?: number
  model: string
  tokenizer?: string
  context?: number
  scenario?: string
  out?: string
  seed: number
  dashboard: string
  alone: boolean
}

export async function runTestnetCommand(flags: Flags, output: Output): Promise<void> {
  if (flags.scenario === 'list') {
    listScenarios(output)
    return
  }
  const found = flags.scenario === undefined ? null : findScenario(flags.scenario, nodesOf(flags.data))
  const options = optionsOf(flags, found?.scenario ?? null)
  const live = new LiveTable(output)
  const abort = new AbortController()
  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  const interrupt = () => {
    if (abort.signal.aborted) process.exit(exitCodes.interrupted)
    abort.abort()
    live.line('stopping the nodes; the report of what was done follows (again: stop at once)')
  }
  const goOn = onEnding(interrupt)
  let toldShare = 0
  const result = await runTestnet(
    options,
    {
      line: text => live.line(`${seconds().toFixed(1).padStart(6)} s  ${text}`),
      tick: observation => live.draw(() => liveTable(observation, options, seconds())),
      aloneProgress: (done, of) => {
        live.draw(() => `training alone  ${progressBar(done, of, seconds())}`)
        const share = Math.floor((done / of) * 4)
        if (!live.live && share > toldShare && share < 4)
          live.line(`${seconds().toFixed(1).padStart(6)} s  training alone: ${share * 25} %`)
        toldShare = Math.max(toldShare, share)
      }
    },
    abort.signal
  )
  live.clear()
  const report = await writeReport(result, options)
  // To be changed and played again: `--scenario OUT/scenario.yaml`.
  if (found !== null) writeFileSync(join(options.out, 'scenario.yaml'), `${found.yaml.trim()}\n`)
  goOn()
  for (const line of closingLines(report, options)) output.line(line)
  output.document(report)
  if (report.interrupted) process.exitCode = exitCodes.interrupted
  else if (report.stalled !== null || result.failures.length > 0 || report.invariants.violations.length > 0)
    process.exitCode = exitCodes.failed
  // Sockets of nodes that were killed may linger; nothing is left to do.
  setTimeout(() => process.exit(), 500).unref()
}

const nodesOf = (data: string | undefined) => (data === undefined ? undefined : planTestnet(readTree(data)).nodes)

/** Names and a sentence each. */
function listScenarios(output: Output): void {
  const list = Object.keys(stories).map(name => ({ name, about: findScenario(name).scenario.about }))
  for (const { name, about } of list) output.line(`${name.padEnd(16)}  ${about}`)
  output.line('\nOne of your own: a YAML file, see docs/scenarios.md. OUT/scenario.yaml is the one that was played.')
  output.document(list)
}

/** What a round takes besides training and evaluation is the same for few steps and many: with 60 it is less than a tenth. */
const defaults = { rounds: 6, steps: 60 }
/** A story is about faults, not about learning: short rounds show as much. */
const scenarioDefaults = { rounds: 8, steps: 10 }

function optionsOf(
  { data, rounds, steps, model, tokenizer, context, out, seed, dashboard, alone }: Flags,
  scenario: Scenario | null
): TestnetOptions {
  if (dashboard !== 'off')
    throw new WorldlmError('NOT_YET', 'the dashboard is not built yet', 'Leave --dashboard out, or say `off`.')
  const otherwise = scenario === null ? defaults : scenarioDefaults
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')
  return {
    data: data ?? null,
    rounds: rounds ?? scenario?.testnet.rounds ?? otherwise.rounds,
    steps: steps ?? scenario?.testnet.steps ?? otherwise.steps,
    ...beginningOf(model, { ...(tokenizer === undefined ? {} : { tokenizer }), ...(context === undefined ? {} : { context }) }),
    out: resolve(out ?? join('runs', `testnet-${time}`)),
    seed,
    alone: alone && scenario === null,
    scenario
  }
}

function stateOf({ process: child, ended, paused }: TestnetNode, phase: string): string {
  if (child === null) return 'not here yet'
  return ended !== null ? 'gone' : paused ? 'paused' : phase
}

function liveTable(observation: Observation, { rounds, steps }: TestnetOptions, seconds: number): string {
  const nodes = [...observation.nodes.values()]
  const done = nodes.reduce(
    (sum, { round, step, finished }) => sum + (finished ? rounds * steps : Math.max(0, round - 1) * steps + step),
    0
  )
  const speed = nodes.reduce((sum, { phase, tokensPerSecond }) => sum + (phase === 'training' ? tokensPerSecond : 0), 0)
  const evaluation = (path: string) =>
    [...observation.evaluations.values()].filter(one => one.path === path && one.model === 'personal').at(-1)
  const organizations = table(
    ['organization', 'state', 'round', 'step', 'loss', 'perplexity', 'tokens/s', 'MB in', 'MB out'],
    nodes.map(({ node, phase, round, step, steps: of, loss, tokensPerSecond, bytes }) => [
      node.plan.path,
      stateOf(node, phase),
      `${round}/${rounds}`,
      of > 0 ? `${step}/${of}` : '',
      loss === null ? '' : loss.toFixed(3),
      short(evaluation(node.plan.path)?.perplexity ?? Number.NaN).replace('NaN', ''),
      String(Math.round(tokensPerSecond)),
      (bytes.in / 1e6).toFixed(1),
      (bytes.out / 1e6).toFixed(1)
    ])
  )
  const federations = table(
    ['federation', 'aggregator', 'term', 'round'],
    [...observation.federations.values()].map(({ path, aggregator, term, round }) => [
      path,
      aggregator === null ? '–' : observation.nameOf(aggregator),
      String(term),
      `${round}/${rounds}`
    ])
  )
  return `\n${organizations}\n\n${federations}\n\n${progressBar(done, nodes.length * rounds * steps, seconds)}  ${Math.round(speed)} tokens/s`
}

function closingLines(report: TestnetReport, { out }: TestnetOptions): string[] {
  const rows = summarizeOrganizations(report)
  const cell = (value: number | null) => (value === null ? '–' : short(value))
  const ratio = (personal: number | null, alone: number | null) =>
    personal === null || alone === null ? '–' : (personal / alone).toFixed(3)
  const mean = (pick: (row: (typeof rows)[number]) => number | null) => meanPerplexity(rows.flatMap(row => pick(row) ?? []))
  const means = {
    first: mean(row => row.personalFirst),
    personal: mean(row => row.personal),
    aggregated: mean(row => row.aggregated),
    federation: mean(row => row.federation),
    alone: mean(row => row.alone)
  }
  const outcome = table(
    ['perplexity of', 'personal, round 1', 'personal, end', 'after aggregation', 'federation’s', 'alone', 'personal/alone'],
    [
      ...rows.map(row => [
        row.path,
        cell(row.personalFirst),
        cell(row.personal),
        cell(row.aggregated),
        cell(row.federation),
        cell(row.alone),
        ratio(row.personal, row.alone)
      ]),
      [
        'mean',
        cell(means.first),
        cell(means.personal),
        cell(means.aggregated),
        cell(means.federation),
        cell(means.alone),
        ratio(means.personal, means.alone)
      ]
    ]
  )
  const federations = table(
    ['federation', 'rounds', 'term', 'last aggregator'],
    report.federations.map(one => [
      one.path,
      String(one.rounds),
      String(one.term),
      report.organizations.find(({ peer }) => peer === one.aggregator)?.path ?? '–'
    ])
  )
  const { violations, checked } = report.invariants
  const shares = report.outsideTraining.rounds.map(({ round, share }) => `${round}: ${(share * 100).toFixed(0)} %`)
  const shown = shares.length > 10 ? [...shares.slice(0, 4), '…', ...shares.slice(-4)] : shares
  return [
    '',
    outcome,
    '',
    federations,
    '',
    verdict(report),
    ...(report.firstRoundSeconds === null
      ? []
      : [`First certified round after ${report.firstRoundSeconds.toFixed(1)} s; ${report.seconds.toFixed(0)} s in all.`]),
    ...(report.outsideTraining.share === null
      ? []
      : [
          `Outside training and evaluation: ${(report.outsideTraining.share * 100).toFixed(1)} % (by round ${shown.join(', ')}); training ${trainingPercent(report)} %.`
        ]),
    ...faultLines(report),
    ...scenarioLines(report),
    `Invariants ${checked.join(', ')}: ${violations.length === 0 ? 'none violated' : `${violations.length} VIOLATED`}`,
    ...violations.map(one => `  ${one.invariant}: ${one.detail}`),
    ...(report.stalled === null ? [] : [`Ended early: ${report.stalled}`]),
    ...(report.interrupted ? ['Interrupted: the report holds what was done until then.'] : []),
    `Report: ${join(out, 'report.html')}   (worldlm audit verify ${shellWord(out)} checks the certified logs)`
  ]
}

function trainingPercent({ times }: TestnetReport): string {
  const sum = (pick: (one: TestnetReport['times'][number]) => number) => times.reduce((total, one) => total + pick(one), 0)
  return ((100 * sum(one => one.train)) / sum(one => one.total)).toFixed(1)
}

function faultLines({ faults }: TestnetReport): string[] {
  if (faults.length === 0) return []
  const seconds = (ms: number | null, none: string) => (ms === null ? none : `${(ms / 1000).toFixed(1)} s`)
  const rows = faults.map(one => [
    one.kind,
    one.path.split(', ').length > 3 ? 'several' : one.path,
    one.atSeconds.toFixed(1),
    one.federations.length === 0 ? 'rounds were done' : seconds(one.recoveredAfterMs, 'NEVER'),
    one.mendedAtSeconds === null ? 'not mended' : seconds(one.backAfterMs, 'not back'),
    one.detail
  ])
  const times = faults.flatMap(({ recoveredAfterMs }) => recoveredAfterMs ?? []).sort((left, right) => left - right)
  const median = times[Math.floor(times.length / 2)]
  return [
    '',
    table(['fault', 'of', 'at s', 'next round after', 'back after', ''], rows),
    ...(median === undefined
      ? []
      : [`Next certified round after a fault: median ${seconds(median, '')}, worst ${seconds(times.at(-1)!, '')}.`])
  ]
}

function scenarioLines({ scenario, interrupted }: TestnetReport): string[] {
  if (scenario === null || interrupted) return []
  const { name, failures, notPlayed } = scenario
  return [
    failures.length === 0 ? `Scenario ${name}: every federation came right.` : `Scenario ${name} FAILED:`,
    ...failures.map(one => `  ${one}`),
    ...notPlayed.map(one => `  not played, for its moment never came: ${one}`)
  ]
}
