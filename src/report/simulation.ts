/** A simulation's report: `worldlm.simulation/1` (report.json), report.html and curves.csv. */
import { type Bar, barPlot, escapeHtml, linePlot, short } from './plots.ts'
import { page } from './page.ts'

export interface SimulatedRound {
  round: number
  /** Virtual seconds at which the last organization took it over; where none did, at which the last had trained. */
  seconds: number
  /** Mean excess losses over organizations: after local training, after aggregation. */
  personal: number
  aggregated: number
  /** Root of the mean squared distance of the organizations' models from their mean, a float; like `aggregated` NaN, in JSON null, where none took it over. */
  consensus: number
  organizations: number
  /** Sent by all until then. */
  bytes: number
}

/** Of one organization's own text, in nats and perplexity a byte. */
interface TextFigure {
  nllPerByte: number
  perplexity: number
}

/** `worldlm.simulation/1`. */
export interface SimulationReport {
  schema: 'worldlm.simulation/1'
  topology: string
  seed: number
  learner: string
  peers: number
  federations: number
  rounds: number
  /** Rounds certified, of all federations. */
  certified: number
  /** Whether every federation of organizations certified all its rounds. */
  complete: boolean
  /** sha256 of the trace: equal for equal seeds. */
  digest: string
  /** Events that replicas took. */
  events: number
  /** What the virtual clock fired: deliveries, timers, ends of transfers, faults. Not each of them is an event to a replica. */
  happenings: number
  virtualSeconds: number
  /** Of real time. */
  seconds: number
  bytes: {
    total: number
    /** By link class, then by level of the federation concerned, the root first. */
    links: Record<string, number[]>
  }
  convergence: {
    /** Mean excess loss that counts as reached. */
    target: number
    secondsToTarget: number | null
    roundsToTarget: number | null
    /** Root of the mean squared distance from the organizations' mean model, after the last round that any of them took over. */
    consensus: number | null
    curve: SimulatedRound[]
  }
  /** Newest figures of each, where they train on text (learner `engine`). */
  organizations: { path: string; round: number; personal: TextFigure | null; aggregated: TextFigure | null }[]
  /** What became of residuals that bridges wanted to bring, by outcome (federation/residuals.ts). */
  residuals: Record<string, number>
  faults: {
    plan: string
    counts: Record<string, number>
    /** Warnings of federations, by code. */
    warnings: Record<string, number>
    /** Places in rosters that were lost for signing two entries for one index and term. */
    evicted: number
    /** Rounds that leaf federations should have certified and did not. */
    roundsLost: number
    /** Longest time from the end of all faults, or the round before, to a certified round, in seconds. */
    worstRoundSeconds: number
  }
  invariants: { checked: string[]; violations: { invariant: string; detail: string; atMs: number }[] }
  /** The last events before a violation. */
  trace: string[]
}

export function simulationHtml(report: SimulationReport): string {
  return page('worldlm simulate', [intro(report), learning(report), traffic(report), faults(report)])
}

function intro({
  topology,
  peers,
  federations,
  rounds,
  certified,
  events,
  seconds,
  virtualSeconds,
  seed,
  digest
}: SimulationReport): string {
  return `<h1>A simulation of ${peers} peers</h1>
<p class="soft">${escapeHtml(topology)}, ${federations} federations, ${rounds} rounds, seed ${seed}: ${certified} rounds certified in ${virtualSeconds.toFixed(1)} virtual seconds; ${events} events in ${seconds.toFixed(1)} s</p>
<p class="soft">Digest <code>${digest}</code>: the same for the same seed.</p>`
}

function learning({ convergence, learner }: SimulationReport): string {
  const measure = learner === 'engine' ? 'Nats a byte' : 'Excess loss'
  const { curve, target, secondsToTarget, roundsToTarget } = convergence
  const over = (pick: (one: SimulatedRound) => number) =>
    curve.map(one => ({ x: one.round, y: pick(one) })).filter(({ y }) => Number.isFinite(y))
  const losses = linePlot(`${measure} over rounds, mean over organizations`, [
    { name: 'after local training', color: 1, points: over(one => one.personal) },
    { name: 'after aggregation', color: 2, points: over(one => one.aggregated) }
  ])
  const distance = linePlot('Distance of the organizations’ models from their mean', [
    { name: 'consensus distance', color: 3, points: over(one => one.consensus) }
  ])
  const times = linePlot(`${measure} over virtual seconds`, [
    { name: 'after local training', color: 1, points: curve.map(one => ({ x: Math.round(one.seconds), y: one.personal })) }
  ])
  const reached =
    secondsToTarget === null
      ? `The target, ${short(target)}, was not reached.`
      : `The target, ${short(target)}, was reached in round ${roundsToTarget}, after ${secondsToTarget.toFixed(0)} virtual seconds.`
  return `<h2>Learning</h2><p>${reached}</p><p class="key"><span class="k1">— after local training</span><span class="k2">— after aggregation</span></p><div class="plots">${losses}${times}${distance}</div>`
}

function traffic({ bytes, peers }: SimulationReport): string {
  const rows = Object.entries(bytes.links).map(([name, levels]) => {
    const cells = levels.map(value => `<td>${(value / 1e6).toFixed(1)}</td>`)
    return `<tr><td>${escapeHtml(name)}</td><td>${(levels.reduce((sum, value) => sum + value, 0) / 1e6).toFixed(1)}</td>${cells.join('')}</tr>`
  })
  const levels = Math.max(0, ...Object.values(bytes.links).map(({ length }) => length))
  const heads = Array.from({ length: levels }, (_, level) => `<th>${level === 0 ? 'root' : `level ${level}`}</th>`)
  return `<h2>Traffic</h2><p>${(bytes.total / 1e6).toFixed(1)} MB in all, ${(bytes.total / 1e6 / peers).toFixed(1)} MB a peer. By class of link, and by the level of the federation that they were for, in MB:</p><div class="scroll"><table><thead><tr><th>link</th><th>all</th>${heads.join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function faults({
  faults: { plan, counts, warnings, evicted, roundsLost, worstRoundSeconds },
  invariants,
  trace
}: SimulationReport): string {
  const bars: Bar[] = Object.entries(counts).map(([kind, value]) => ({
    label: kind,
    parts: [{ name: kind, value, color: 5 }]
  }))
  const list = (entries: Record<string, number>) =>
    Object.entries(entries)
      .map(([name, count]) => `${escapeHtml(name)} ${count}×`)
      .join(', ') || 'none'
  const { checked, violations } = invariants
  const broken = violations.map(
    ({ invariant, detail, atMs }) =>
      `<li class="bad">${escapeHtml(invariant)} at ${(atMs / 1000).toFixed(3)} s: ${escapeHtml(detail)}</li>`
  )
  const tail = trace.length === 0 ? '' : `<h2>The last events</h2><pre>${escapeHtml(trace.join('\n'))}</pre>`
  return `<h2>Faults and invariants</h2><p>Plan ${escapeHtml(plan)}: ${list(counts)}. Warnings of federations: ${list(warnings)}. ${evicted === 0 ? '' : `${evicted} times somebody was evicted. `}${roundsLost} rounds were lost; with nothing wrong, a round took at most ${worstRoundSeconds.toFixed(1)} virtual seconds.</p>${bars.length > 0 ? barPlot('How often each fault came about', bars) : ''}<p>${checked.length === 0 ? 'Nothing is certified on a graph, so no invariant is checked. ' : `Checked after every event: ${checked.join(', ')}. `}${checked.length === 0 ? '' : violations.length === 0 ? '<span class="good">None is violated.</span>' : ''}</p>${broken.length > 0 ? `<ul>${broken.join('')}</ul>` : ''}${tail}`
}

/** A line a value, long format, as testnet's. */
export function simulationCsv({ convergence }: SimulationReport): string {
  const names = ['personal', 'aggregated', 'consensus', 'bytes'] as const
  const rows = convergence.curve.flatMap(one =>
    names.filter(name => Number.isFinite(one[name])).map(name => `${one.round},${one.seconds},${name},${one[name]}`)
  )
  return `${['round,seconds,measure,value', ...rows].join('\n')}\n`
}
