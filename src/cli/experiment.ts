/** `worldlm experiment`: its flags, what is shown while it runs, what is said at the end. */
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { writeBuiltin } from '../data/builtin.ts'
import { inspectTexts, overlapWarnings } from '../data/inspect.ts'
import { type LoadedText, loadText, type OrganizationText, readTree } from '../data/text-tree.ts'
import { WorldlmError } from '../errors.ts'
import { methodNames } from '../experiment/methods.ts'
import { combinations, parseSweep, validationTokens } from '../experiment/options.ts'
import { makeExperimentReport, writeExperimentReport } from '../experiment/report.ts'
import { type CellProgress, type ExperimentOptions, runExperiment } from '../experiment/run.ts'
import { counterpart, type ExperimentReport } from '../report/experiment-schema.ts'
import { experimentVerdict } from '../report/experiment-verdict.ts'
import { onEnding } from './endings.ts'
import { LiveTable, progressBar } from './live-table.ts'
import { charterOf } from './model-choice.ts'
import { exitCodes, type Output } from './output.ts'
import { table } from './table.ts'

interface Flags {
  data?: string
  methods: string
  rounds: number
  steps: number
  sweep?: string[]
  seed: number
  seeds?: string
  model: string
  out?: string
  cache: string
  threads?: number
  evaluateEvery?: number
  saveSeconds: number
  engine: 'onnx' | 'reference'
}

export async function runExperimentCommand(flags: Flags, output: Output, version: string): Promise<void> {
  const out = prepareOut(flags.out)
  const options = optionsOf(flags, out)
  const live = new LiveTable(output)
  const abort = new AbortController()
  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  const interrupt = () => {
    if (abort.signal.aborted) process.exit(exitCodes.interrupted)
    abort.abort()
    live.line('stopping; the report of what was done follows (again: stop at once)')
  }
  const goOn = onEnding(interrupt)
  const line = (text: string) => live.line(`${seconds().toFixed(1).padStart(6)} s  ${text}`)
  line(`reading the text of ${options.texts.length} organizations`)
  const warnings = await warningsOf(options.texts)
  for (const warning of warnings) line(`! ${warning}`)
  let toldShare = 0
  const result = await runExperiment(
    options,
    {
      line,
      progress: (cells, done, of) => {
        live.draw(() => liveTable(cells, done, of, seconds()))
        const share = Math.floor((done / of) * 20)
        if (!live.live && share > toldShare && share < 20) line(progressBar(done, of, seconds()))
        toldShare = Math.max(toldShare, share)
      }
    },
    abort.signal
  )
  live.clear()
  goOn()
  const report = await makeExperimentReport(result, { seeds: options.seeds, texts: options.texts, version, warnings })
  writeExperimentReport(out, report)
  for (const text of closingLines(report)) output.line(text)
  output.line(`Report: ${join(out, 'report.html')}   (finished cells: ${options.cache})`)
  output.document(report)
  if (report.interrupted) process.exitCode = exitCodes.interrupted
}

/** Text that is there twice makes figures look better than they are. @throws {WorldlmError} DATA_* */
async function warningsOf(texts: OrganizationText[]): Promise<string[]> {
  const loaded = new Map<string, LoadedText>()
  for (const text of texts) loaded.set(text.path, await loadText(text, { context: 1, keptBackBytes: 0 }))
  return overlapWarnings(inspectTexts(loaded))
}

function prepareOut(path: string | undefined): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')
  const out = resolve(path ?? join('runs', `experiment-${time}`))
  // Its own report may be written again; the folder of something else is left alone.
  const names = existsSync(out) ? readdirSync(out) : []
  const strange = names.find(name => !['report.json', 'report.html', 'curves.csv', 'text'].includes(name))
  if (strange !== undefined)
    throw new WorldlmError(
      'OUT_NOT_EMPTY',
      `${out} holds ${strange}, which is not of an experiment`,
      'Choose another folder with --out.'
    )
  mkdirSync(out, { recursive: true })
  return out
}

function optionsOf(flags: Flags, out: string): ExperimentOptions {
  const { data, rounds, steps, model, seed, cache, engine, saveSeconds } = flags
  if (data === undefined) writeBuiltin(join(out, 'text'))
  const { model: chosen, algorithm = {} } = charterOf(model) as { model?: unknown; algorithm?: object }
  return {
    texts: readTree(data ?? join(out, 'text')),
    methods: flags.methods === 'all' ? methodNames : [...new Set(flags.methods.split(',').map(name => name.trim()))],
    combinations: combinations((flags.sweep ?? []).map(parseSweep)),
    seeds: flags.seeds === undefined ? [seed] : seedsOf(flags.seeds),
    model: chosen,
    algorithm: { ...algorithm, rounds, steps },
    settings: {},
    // About eight points a curve; each costs as much as twelve steps.
    evaluateEvery: flags.evaluateEvery ?? Math.max(1, Math.round(rounds / 7)),
    validationTokens,
    engine,
    cache: resolve(cache),
    workers: flags.threads ?? availableParallelism(),
    saveSeconds
  }
}

function seedsOf(text: string): number[] {
  const seeds = text.split(',').map(Number)
  if (seeds.some(seed => !Number.isSafeInteger(seed) || seed < 0))
    throw new WorldlmError('USAGE', `--seeds ${text}: seeds are whole numbers`, 'Write --seeds 0,1,2.')
  return [...new Set(seeds)]
}

type Spread = ExperimentReport['methods'][number]['curve'][number]['mean']['personal']

const short = (value: number | null): string =>
  value === null ? '' : value >= 1000 ? value.toExponential(1) : value.toFixed(3)

function liveTable(cells: CellProgress[], done: number, of: number, seconds: number): string {
  const order = { running: 0, waiting: 1, done: 2, cached: 2, diverged: 2 }
  const rows = [...cells]
    .sort((left, right) => order[left.state] - order[right.state])
    .map(({ plan, state, round, perplexity, aggregated }) => [
      plan.name,
      String(plan.seed),
      state,
      `${round}/${plan.options.algorithm.rounds}`,
      short(perplexity),
      short(aggregated)
    ])
  return `\n${progressBar(done, of, seconds)}  ${(done / seconds || 0).toFixed(1)} steps/s\n\n${table(['method', 'seed', 'state', 'round', 'personal', 'aggregated'], rows)}`
}

/** The table and the verdict at the end, line by line. */
export function closingLines(report: ExperimentReport): string[] {
  const cell = (mean: Spread | null | undefined) => {
    const spread = report.seeds.length > 1 && mean ? ` (${short(mean.perplexityLeast)}–${short(mean.perplexityMost)})` : ''
    return `${short(mean?.perplexity ?? null) || '–'}${spread}`
  }
  const rows = report.methods.map(one => {
    const { name, curve } = one
    const local = counterpart(report, 'local', one)?.curve.at(-1)?.mean.personal.perplexity ?? null
    const end = curve.at(-1)
    const personal = end?.mean.personal.perplexity ?? null
    return [
      name,
      cell(end?.mean.personal),
      cell(end?.mean.aggregated),
      cell(end?.mean.federation),
      personal === null || local === null ? '–' : (personal / local).toFixed(3),
      end === undefined ? '–' : ((end.bytesUp + end.bytesDown) / end.round / 1e6).toFixed(1)
    ]
  })
  const head = ['mean perplexity of', 'personal', 'after aggregation', 'federation’s', 'personal/local', 'MB a round']
  return ['', table(head, rows), '', ...experimentVerdict(report)]
}
