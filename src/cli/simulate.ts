/** `worldlm simulate`: a tree of federations with thousands of peers in one process, on a virtual network with faults. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parse, stringify } from 'yaml'
import { WorldlmError } from '../errors.ts'
import { short } from '../report/plots.ts'
import { simulationCsv, simulationHtml, type SimulationReport } from '../report/simulation.ts'
import { faultsOfFile } from '../sim/fault-plans.ts'
import type { FaultPlan } from '../sim/faults.ts'
import { shrink } from '../sim/shrink.ts'
import { planFor, simulate, type SimulateOptions } from '../sim/simulate.ts'
import { namedTopology, topologyOfFile } from '../sim/topology.ts'
import { LiveTable, progressBar } from './live-table.ts'
import { exitCodes, type Output } from './output.ts'

interface Flags {
  topology: string
  peers?: number
  rounds: number
  faults: string
  learner: string
  heterogeneity?: number
  keyFraction: number
  modelBytes?: number
  trainMs?: number
  shrink: boolean
  out?: string
  seed: number
}

export async function simulateCommand(flags: Flags, output: Output): Promise<void> {
  const { rounds, seed, heterogeneity, keyFraction, modelBytes, trainMs } = flags
  const topology = existsSync(flags.topology)
    ? topologyOfFile(flags.topology, parse(readFileSync(flags.topology, 'utf8')), seed)
    : namedTopology(flags.topology, flags.peers ?? null, seed)
  if (flags.learner !== 'quadratic')
    throw new WorldlmError('NOT_YET', `the learner ${flags.learner} is not there yet`, 'Use --learner quadratic.')
  const live = new LiveTable(output)
  const abort = new AbortController()
  const interrupt = () => abort.abort()
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  const began = performance.now()
  const federations = topology.kind === 'tree' ? topology.federations.length : 1
  const options = {
    topology,
    rounds,
    seed,
    keyFraction,
    ...(heterogeneity === undefined ? {} : { heterogeneity }),
    ...(modelBytes === undefined ? {} : { modelBytes }),
    ...(trainMs === undefined ? {} : { trainMs })
  }
  const faults = existsSync(flags.faults)
    ? faultsOfFile(flags.faults, parse(readFileSync(flags.faults, 'utf8')))
    : planFor(options, flags.faults)
  const report = await simulate({
    ...options,
    faults,
    signal: abort.signal,
    onProgress: ({ virtualSeconds, certified, events }) =>
      live.draw(() => {
        const seconds = (performance.now() - began) / 1000
        const of = rounds * federations
        return `${progressBar(certified, of, seconds)}  virtual ${virtualSeconds.toFixed(0)} s  ${short(events / seconds / 1000)} k events/s`
      })
  })
  live.clear()
  process.off('SIGINT', interrupt)
  process.off('SIGTERM', interrupt)
  const out = writeReport(report, flags.out)
  for (const line of closingLines(report, flags, out)) output.line(line)
  if (flags.shrink && report.invariants.violations.length > 0 && !abort.signal.aborted)
    await shrinkTo(join(out, 'faults.yaml'), options, faults, report, flags, output)
  output.document(report)
  if (abort.signal.aborted) process.exitCode = exitCodes.interrupted
  else if (!report.complete || report.invariants.violations.length > 0) process.exitCode = exitCodes.failed
}

/** The smallest plan that breaks the same invariant, as a file that replays it. */
async function shrinkTo(
  path: string,
  options: Omit<SimulateOptions, 'faults'>,
  plan: FaultPlan,
  report: SimulationReport,
  flags: Flags,
  output: Output
): Promise<void> {
  const { invariant } = report.invariants.violations[0]!
  const smallest = await shrink(plan, async smaller => {
    const { invariants } = await simulate({ ...options, faults: smaller })
    return invariants.violations[0]?.invariant === invariant
  })
  writeFileSync(path, stringify(smallest))
  output.line(`${smallest.faults.length} of ${plan.faults.length} faults are enough for it: ${path}`)
  output.line(`Replay: ${replay({ ...flags, faults: path })}`)
}

function writeReport(report: SimulationReport, given: string | undefined): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')
  const out = resolve(given ?? join('runs', `simulate-${time}`))
  mkdirSync(out, { recursive: true })
  writeFileSync(join(out, 'report.json'), `${JSON.stringify(report, null, 2)}\n`)
  writeFileSync(join(out, 'report.html'), simulationHtml(report))
  writeFileSync(join(out, 'curves.csv'), simulationCsv(report))
  return out
}

function closingLines(report: SimulationReport, flags: Flags, out: string): string[] {
  const { convergence, invariants, faults } = report
  const last = convergence.curve.at(-1)
  const lines = [
    report.federations === 0
      ? `${report.peers} peers on a graph, averaging with their neighbours: ${report.virtualSeconds.toFixed(1)} virtual seconds`
      : `${report.peers} peers in ${report.federations} federations: ${report.certified} rounds certified in ${report.virtualSeconds.toFixed(1)} virtual seconds`,
    `${report.events} events in ${report.seconds.toFixed(1)} s (${short(report.events / report.seconds / 1000)} k/s), ${short(report.bytes.total / 1e9)} GB sent`,
    `Excess loss ${short(convergence.curve[0]?.personal ?? Number.NaN)} after round 1, ${(last?.personal ?? Number.NaN).toFixed(4)} after round ${last?.round ?? 0}; ${convergence.secondsToTarget === null ? 'the target was not reached' : `target reached after ${convergence.secondsToTarget.toFixed(0)} virtual seconds`}`,
    `Faults (${faults.plan}): ${
      Object.entries(faults.counts)
        .map(([kind, count]) => `${count} ${kind}`)
        .join(', ') || 'none'
    }; ${faults.roundsLost} rounds lost`
  ]
  if (invariants.checked.length > 0 && invariants.violations.length === 0)
    lines.push(`Invariants ${invariants.checked.join(', ')}: none violated`)
  for (const { invariant, detail, atMs } of invariants.violations)
    lines.push(`VIOLATED ${invariant} at ${(atMs / 1000).toFixed(3)} s: ${detail}`)
  if (report.trace.length > 0) lines.push('The last events:', ...report.trace.map(line => `  ${line}`))
  if (invariants.violations.length > 0 || !report.complete) lines.push(`Replay: ${replay(flags)}`)
  lines.push(`Digest ${report.digest}`, `Report: ${join(out, 'report.html')}`)
  return lines
}

function replay({ topology, peers, rounds, faults, seed, trainMs, modelBytes, heterogeneity, keyFraction }: Flags): string {
  return [
    'worldlm simulate',
    `--topology ${topology}`,
    ...(peers === undefined ? [] : [`--peers ${peers}`]),
    `--rounds ${rounds} --faults ${faults} --seed ${seed}`,
    ...(trainMs === undefined ? [] : [`--train-ms ${trainMs}`]),
    ...(modelBytes === undefined ? [] : [`--model-bytes ${modelBytes}`]),
    ...(heterogeneity === undefined ? [] : [`--heterogeneity ${heterogeneity}`]),
    ...(keyFraction === 1 ? [] : [`--key-fraction ${keyFraction}`])
  ].join(' ')
}
