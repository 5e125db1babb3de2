/** `worldlm simulate`: a tree of federations with thousands of peers in one process, on a virtual network with faults. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { stringify } from 'yaml'
import { WorldlmError } from '../errors.ts'
import { shellWord } from '../shell-word.ts'
import { short } from '../report/plots.ts'
import { simulationCsv, simulationHtml, type SimulationReport } from '../report/simulation.ts'
import type { OrganizationText } from '../data/text-tree.ts'
import { checkPlan, faultsHint, faultsOfFile } from '../sim/fault-plans.ts'
import type { FaultPlan } from '../sim/faults.ts'
import { shrink } from '../sim/shrink.ts'
import { factsOf, planFor, simulate, type SimulateOptions } from '../sim/simulate.ts'
import type { Learner } from '../sim/learner.ts'
import { namedTopology, type Topology, topologyHint, topologyOfFile } from '../sim/topology.ts'
import { comparison, engineLearner, textsFor, textsIn, topologyOfTexts } from './simulate-engine.ts'
import { LiveTable, progressBar } from './live-table.ts'
import { onEnding } from './endings.ts'
import { exitCodes, type Output } from './output.ts'
import { isFile, isFileName, readYaml } from './yaml-file.ts'

interface Flags {
  topology: string
  peers?: number
  rounds: number
  faults: string
  learner: 'quadratic' | 'engine'
  data?: string
  model: string
  steps: number
  threads?: number
  engine: 'onnx' | 'reference'
  heterogeneity?: number
  keyFraction: number
  residuals?: number
  modelBytes?: number
  trainMs?: number
  shrink: boolean
  out?: string
  seed: number
}

export async function simulateCommand(flags: Flags, output: Output): Promise<void> {
  const abort = new AbortController()
  const goOn = onEnding(() => abort.abort())
  const names = isFile(flags.topology) ? [flags.topology] : flags.topology.split(',').map(name => name.trim())
  const out = folderOf(flags.out)
  try {
    // What is wrong with the last of them is said before the first takes its hours.
    const prepared = names.map(topology => {
      const folder = names.length === 1 ? out : join(out, topology.replaceAll(/[^\w.-]+/g, '-'))
      return prepare({ ...flags, topology }, folder)
    })
    const runs: SimulationReport[] = []
    for (const one of prepared) {
      if (abort.signal.aborted) break
      runs.push(await runOne(one, output, abort.signal))
    }
    if (names.length === 1) output.document(runs[0]!)
    else compare(runs, out, output)
    if (abort.signal.aborted) process.exitCode = exitCodes.interrupted
    else if (runs.some(({ complete, invariants }) => !complete || invariants.violations.length > 0))
      process.exitCode = exitCodes.failed
  } finally {
    goOn()
  }
}

/** Several topologies, side by side. */
function compare(runs: SimulationReport[], out: string, output: Output): void {
  const { lines, csv } = comparison(runs)
  writeFileSync(join(out, 'comparison.csv'), csv)
  for (const line of lines) output.line(line)
  output.line(`Comparison: ${join(out, 'comparison.csv')}`)
  output.document({ schema: 'worldlm.simulations/1', runs })
}

function topologyFor({ topology, peers, seed, data, learner }: Flags, out: string): Topology {
  if (peers !== undefined && (isFile(topology) || topology === 'data'))
    throw new WorldlmError(
      'TOPOLOGY_INVALID',
      `${topology} says itself who is in it, and --peers ${peers} says otherwise`,
      'Leave --peers out: it is for topologies by name, as tree:4x8.'
    )
  if (isFile(topology)) return topologyOfFile(topology, readYaml(topology, 'TOPOLOGY_INVALID', topologyHint), seed)
  if (isFileName(topology)) throw new WorldlmError('TOPOLOGY_INVALID', `there is no file ${topology}`, topologyHint)
  if (topology === 'data') {
    if (learner !== 'engine')
      throw new WorldlmError('TOPOLOGY_INVALID', 'data is the tree of the texts', 'Add --learner engine, which trains on them.')
    mkdirSync(out, { recursive: true })
    return topologyOfTexts(data, out, seed)
  }
  return namedTopology(topology, peers ?? null, seed)
}

function faultsFor({ faults }: Flags, options: Parameters<typeof planFor>[0]): FaultPlan {
  if (isFile(faults)) return faultsOfFile(faults, readYaml(faults, 'FAULTS_INVALID', faultsHint))
  if (isFileName(faults)) throw new WorldlmError('FAULTS_UNKNOWN', `there is no file ${faults}`, faultsHint)
  return planFor(options, faults)
}

interface Prepared {
  flags: Flags
  out: string
  options: Omit<SimulateOptions, 'faults' | 'learner'>
  faults: FaultPlan
  /** One an organization, where they train on text. */
  texts: OrganizationText[] | null
}

/** @throws {WorldlmError} what is wrong with the topology, the faults, the texts. */
function prepare(flags: Flags, out: string): Prepared {
  const { rounds, seed, heterogeneity, keyFraction, residuals, modelBytes, trainMs } = flags
  const topology = topologyFor(flags, out)
  const options = {
    topology,
    rounds,
    seed,
    keyFraction,
    ...(heterogeneity === undefined ? {} : { heterogeneity }),
    ...(residuals === undefined ? {} : { residuals }),
    ...(modelBytes === undefined ? {} : { modelBytes }),
    ...(trainMs === undefined ? {} : { trainMs })
  }
  const faults = faultsFor(flags, options)
  checkPlan(faults, factsOf(topology))
  return {
    flags,
    out,
    options,
    faults,
    texts: flags.learner === 'engine' ? textsFor(topology, textsIn(flags.data, out)) : null
  }
}

async function runOne(
  { flags, out, options, faults, texts }: Prepared,
  output: Output,
  signal: AbortSignal
): Promise<SimulationReport> {
  const { topology, rounds } = options
  const live = new LiveTable(output)
  const began = performance.now()
  const federations = topology.kind === 'tree' ? topology.federations.length : 1
  mkdirSync(out, { recursive: true })
  let steps = 0
  const engine = texts === null ? null : await engineLearner({ ...flags, texts, onSteps: done => (steps += done) })
  const given = engine === null ? {} : { learner: engine satisfies Learner }
  const stop = () => void engine?.close()
  signal.addEventListener('abort', stop)
  try {
    const report = await simulate({
      ...options,
      ...given,
      faults,
      signal,
      onProgress: ({ virtualSeconds, certified, events }) =>
        live.draw(() => {
          const seconds = (performance.now() - began) / 1000
          const rate =
            engine === null ? `${short(events / seconds / 1000)} k events/s` : `${(steps / seconds).toFixed(1)} steps/s`
          return `${progressBar(certified, rounds * federations, seconds)}  virtual ${virtualSeconds.toFixed(0)} s  ${rate}`
        })
    })
    live.clear()
    writeReport(report, out)
    for (const line of closingLines(report, flags, out, signal.aborted)) output.line(line)
    if (flags.shrink && report.invariants.violations.length > 0 && !signal.aborted)
      await shrinkTo(join(out, 'faults.yaml'), { ...options, ...given, signal }, faults, report, flags, output)
    return report
  } finally {
    live.clear()
    signal.removeEventListener('abort', stop)
    await engine?.close()
  }
}

/** The smallest plan that breaks the same invariant, as a file that replays it. */
async function shrinkTo(
  path: string,
  options: Omit<SimulateOptions, 'faults'> & { signal: AbortSignal },
  plan: FaultPlan,
  report: SimulationReport,
  flags: Flags,
  output: Output
): Promise<void> {
  const { invariant } = report.invariants.violations[0]!
  const { signal } = options
  const smallest = await shrink(plan, async smaller => {
    // Lets signals in: a short run never waits.
    await new Promise(resolve => setImmediate(resolve))
    if (signal.aborted) return false
    const { invariants } = await simulate({ ...options, faults: smaller })
    return invariants.violations[0]?.invariant === invariant
  })
  writeFileSync(path, stringify(smallest))
  const sofar = signal.aborted ? ', as far as it was cut down when it was interrupted' : ''
  output.line(`${smallest.faults.length} of ${plan.faults.length} faults are enough for it${sofar}: ${path}`)
  output.line(`Replay: ${replay({ ...flags, faults: path })}`)
}

function folderOf(given: string | undefined): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')
  return resolve(given ?? join('runs', `simulate-${time}`))
}

function writeReport(report: SimulationReport, out: string): void {
  writeFileSync(join(out, 'report.json'), `${JSON.stringify(report, null, 2)}\n`)
  writeFileSync(join(out, 'report.html'), simulationHtml(report))
  writeFileSync(join(out, 'curves.csv'), simulationCsv(report))
}

function closingLines(report: SimulationReport, flags: Flags, out: string, interrupted: boolean): string[] {
  const { convergence, invariants, faults } = report
  const [first, last] = [convergence.curve[0], convergence.curve.at(-1)]
  const lines = [
    report.federations === 0
      ? `${report.peers} peers on a graph, averaging with their neighbours: ${report.virtualSeconds.toFixed(1)} virtual seconds`
      : `${report.peers} peers in ${report.federations} federations: ${report.certified} rounds certified in ${report.virtualSeconds.toFixed(1)} virtual seconds`,
    `${report.events} events in ${report.seconds.toFixed(1)} s (${short(report.events / report.seconds / 1000)} k/s), ${short(report.bytes.total / 1e9)} GB sent`,
    `${first === undefined || last === undefined ? 'Nobody was trained' : `${report.learner === 'engine' ? 'Nats a byte:' : 'Excess loss'} ${short(first.personal)} after round ${first.round}, ${last.personal.toFixed(4)} after round ${last.round}`}; ${convergence.secondsToTarget === null ? 'the target was not reached' : `target reached after ${convergence.secondsToTarget.toFixed(0)} virtual seconds`}`,
    `Faults (${faults.plan}): ${
      Object.entries(faults.counts)
        .map(([kind, count]) => `${count} ${kind}`)
        .join(', ') || 'none'
    }; ${faults.evicted === 0 ? '' : `${faults.evicted} evictions, `}${faults.roundsLost} rounds ${interrupted ? 'not made when it was interrupted' : 'lost'}`
  ]
  for (const { path, personal, aggregated } of report.organizations)
    lines.push(`  ${path}: perplexity a byte ${figure(personal)}, after aggregation ${figure(aggregated)}`)
  const residuals = Object.entries(report.residuals).map(([outcome, count]) => `${count} ${outcome}`)
  if (residuals.length > 0) lines.push(`Residuals: ${residuals.join(', ')}`)
  if (invariants.checked.length > 0 && invariants.violations.length === 0)
    lines.push(`Invariants ${invariants.checked.join(', ')}: none violated`)
  for (const { invariant, detail, atMs } of invariants.violations)
    lines.push(`VIOLATED ${invariant} at ${(atMs / 1000).toFixed(3)} s: ${detail}`)
  if (report.trace.length > 0) lines.push('The last events:', ...report.trace.map(line => `  ${line}`))
  if (invariants.violations.length > 0 || !(report.complete || interrupted)) lines.push(`Replay: ${replay(flags)}`)
  lines.push(`Digest ${report.digest}`, `Report: ${join(out, 'report.html')}`)
  return lines
}

const figure = (one: { perplexity: number } | null): string => (one === null ? '–' : one.perplexity.toFixed(3))

function replay({
  topology,
  peers,
  rounds,
  faults,
  seed,
  trainMs,
  modelBytes,
  heterogeneity,
  keyFraction,
  ...flags
}: Flags): string {
  const engine =
    flags.learner === 'engine'
      ? [
          `--learner engine --model ${shellWord(flags.model)} --steps ${flags.steps}`,
          ...(flags.engine === 'onnx' ? [] : [`--engine ${flags.engine}`]),
          ...(flags.data === undefined ? [] : [`--data ${shellWord(flags.data)}`])
        ]
      : []
  return [
    'worldlm simulate',
    `--topology ${shellWord(topology)}`,
    ...(peers === undefined ? [] : [`--peers ${peers}`]),
    `--rounds ${rounds} --faults ${shellWord(faults)} --seed ${seed}`,
    ...engine,
    ...(trainMs === undefined ? [] : [`--train-ms ${trainMs}`]),
    ...(modelBytes === undefined ? [] : [`--model-bytes ${modelBytes}`]),
    ...(heterogeneity === undefined ? [] : [`--heterogeneity ${heterogeneity}`]),
    ...(flags.residuals === undefined ? [] : [`--residuals ${flags.residuals}`]),
    ...(keyFraction === 1 ? [] : [`--key-fraction ${keyFraction}`])
  ].join(' ')
}
