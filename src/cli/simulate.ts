/** `worldlm simulate`: a tree of federations with thousands of peers in one process, on a virtual network with faults. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parse } from 'yaml'
import { WorldlmError } from '../errors.ts'
import { short } from '../report/plots.ts'
import { simulationCsv, simulationHtml, type SimulationReport } from '../report/simulation.ts'
import { faultsOfFile } from '../sim/fault-plans.ts'
import { simulate } from '../sim/simulate.ts'
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
  out?: string
  seed: number
}

export async function simulateCommand(flags: Flags, output: Output): Promise<void> {
  const { rounds, seed, heterogeneity, keyFraction } = flags
  const topology = existsSync(flags.topology)
    ? topologyOfFile(flags.topology, parse(readFileSync(flags.topology, 'utf8')), seed)
    : namedTopology(flags.topology, flags.peers ?? null, seed)
  if (flags.learner !== 'quadratic')
    throw new WorldlmError('NOT_YET', `the learner ${flags.learner} is not there yet`, 'Use --learner quadratic.')
  if (topology.kind !== 'tree') throw new WorldlmError('NOT_YET', 'only trees are simulated yet', 'Use tree:4x8 or the like.')
  const faults = existsSync(flags.faults) ? faultsOfFile(flags.faults, parse(readFileSync(flags.faults, 'utf8'))) : flags.faults
  const live = new LiveTable(output)
  const abort = new AbortController()
  const interrupt = () => abort.abort()
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  const began = performance.now()
  const leaves = new Set(topology.organizations.map(({ federation }) => federation)).size
  const report = await simulate({
    topology,
    rounds,
    seed,
    faults,
    keyFraction,
    ...(heterogeneity === undefined ? {} : { heterogeneity }),
    signal: abort.signal,
    onProgress: ({ virtualSeconds, certified, events }) =>
      live.draw(() => {
        const seconds = (performance.now() - began) / 1000
        const of = rounds * topology.federations.length
        return `${progressBar(certified, of, seconds)}  virtual ${virtualSeconds.toFixed(0)} s  ${short(events / seconds / 1000)} k events/s  ${leaves} leaves`
      })
  })
  live.clear()
  process.off('SIGINT', interrupt)
  process.off('SIGTERM', interrupt)
  const out = writeReport(report, flags.out)
  for (const line of closingLines(report, flags, out)) output.line(line)
  output.document(report)
  if (abort.signal.aborted) process.exitCode = exitCodes.interrupted
  else if (!report.complete || report.invariants.violations.length > 0) process.exitCode = exitCodes.failed
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
    `${report.peers} peers in ${report.federations} federations: ${report.certified} rounds certified in ${report.virtualSeconds.toFixed(1)} virtual seconds`,
    `${report.events} events in ${report.seconds.toFixed(1)} s (${short(report.events / report.seconds / 1000)} k/s), ${short(report.bytes.total / 1e9)} GB sent`,
    `Excess loss ${short(convergence.curve[0]?.personal ?? Number.NaN)} after round 1, ${(last?.personal ?? Number.NaN).toFixed(4)} after round ${last?.round ?? 0}; ${convergence.secondsToTarget === null ? 'the target was not reached' : `target reached after ${convergence.secondsToTarget.toFixed(0)} virtual seconds`}`,
    `Faults (${faults.plan}): ${
      Object.entries(faults.counts)
        .map(([kind, count]) => `${count} ${kind}`)
        .join(', ') || 'none'
    }; ${faults.roundsLost} rounds lost`
  ]
  if (invariants.violations.length === 0) lines.push(`Invariants ${invariants.checked.join(', ')}: none violated`)
  for (const { invariant, detail, atMs } of invariants.violations)
    lines.push(`VIOLATED ${invariant} at ${(atMs / 1000).toFixed(3)} s: ${detail}`)
  if (report.trace.length > 0) lines.push('The last events:', ...report.trace.map(line => `  ${line}`))
  if (invariants.violations.length > 0 || !report.complete) lines.push(`Replay: ${replay(flags)}`)
  lines.push(`Digest ${report.digest}`, `Report: ${join(out, 'report.html')}`)
  return lines
}

function replay({ topology, peers, rounds, faults, seed }: Flags): string {
  return [
    'worldlm simulate',
    `--topology ${topology}`,
    ...(peers === undefined ? [] : [`--peers ${peers}`]),
    `--rounds ${rounds} --faults ${faults} --seed ${seed}`
  ].join(' ')
}
