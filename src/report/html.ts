/** `report.html`: one file, nothing from elsewhere, readable in dark and light. */
import { type Bar, barPlot, escapeHtml, heatMap, linePlot, type Series, short, type TreeNode, treePlot } from './plots.ts'
import { page } from './page.ts'
import { meanPerplexity, summarizeOrganizations, type TestnetReport } from './schema.ts'

const kinds = { personal: 1, aggregated: 2, federation: 3, alone: 4 } as const

export function reportHtml(report: TestnetReport): string {
  const sections = [
    intro(report),
    outcome(report),
    tree(report),
    curves(report),
    attention(report),
    residuals(report),
    times(report),
    rounds(report),
    faults(report)
  ]
  return page('worldlm testnet', sections)
}

function intro({
  seconds,
  firstRoundSeconds,
  organizations,
  federations,
  interrupted,
  stalled,
  model,
  versions
}: TestnetReport): string {
  const state = interrupted
    ? '<p class="bad">The run was interrupted: this is what was done until then.</p>'
    : stalled === null
      ? ''
      : `<p class="bad">The run ended early: ${escapeHtml(stalled)}</p>`
  const first =
    firstRoundSeconds === null ? 'no round was certified' : `the first certified round after ${firstRoundSeconds.toFixed(1)} s`
  return `<h1>A testnet of ${organizations.length} organizations in ${federations.length} federations</h1>
<p class="soft">${seconds.toFixed(0)} s in all, ${first}; ${escapeHtml(String(model.parameters))} parameters, ${escapeHtml(String(model.rounds))} rounds of ${escapeHtml(String(model.steps))} steps; worldlm ${escapeHtml(versions.worldlm ?? '')}, Node ${escapeHtml(versions.node ?? '')}</p>${state}`
}

function outcome(report: TestnetReport): string {
  const rows = summarizeOrganizations(report)
  const cell = (value: number | null) => `<td>${value === null ? '–' : short(value)}</td>`
  const ratio = (personal: number | null, alone: number | null) => {
    if (personal === null || alone === null) return '<td>–</td>'
    const value = personal / alone
    return `<td class="${value <= 1 ? 'good' : 'bad'}">${value.toFixed(3)}</td>`
  }
  const mean = (pick: (row: (typeof rows)[number]) => number | null) => meanPerplexity(rows.flatMap(row => pick(row) ?? []))
  const body = rows.map(
    row =>
      `<tr><td>${escapeHtml(row.path)}</td>${cell(row.personalFirst)}${cell(row.personal)}${cell(row.aggregated)}${cell(row.federation)}${cell(row.alone)}${ratio(row.personal, row.alone)}</tr>`
  )
  const means = [
    mean(row => row.personalFirst),
    mean(row => row.personal),
    mean(row => row.aggregated),
    mean(row => row.federation),
    mean(row => row.alone)
  ]
  return `<h2>What it brought</h2><p>Perplexity on each organization’s own validation text; lower is better. The personal model is the one after local training, the aggregated one stands right after the federation’s result was taken over, the federation’s is what all of its members share. Alone: the same text, steps and seed without anybody else.</p>
<div class="scroll"><table><thead><tr><th>organization</th><th>personal, round 1</th><th>personal, end</th><th>right after aggregation</th><th>federation’s</th><th>alone</th><th>personal / alone</th></tr></thead><tbody>${body.join('')}<tr><th>mean</th>${means.map(cell).join('')}${ratio(means[1]!, means[4]!)}</tr></tbody></table></div>
<p>${escapeHtml(verdict(report))}</p>`
}

/** What the figures show, and what they do not. */
export function verdict(report: TestnetReport): string {
  const rows = summarizeOrganizations(report)
  const both = rows.filter(row => row.personal !== null && row.alone !== null)
  const better = rows.filter(
    row => row.personal !== null && row.personalFirst !== null && row.personal < row.personalFirst
  ).length
  const learned = `${better} of ${rows.length} personal models are better than after round 1.`
  const mean = meanPerplexity(both.map(row => row.personal!)) ?? 1
  const alone = meanPerplexity(both.map(row => row.alone!)) ?? 1
  if (both.length === 0) return `${learned} Training alone was not measured.`
  const change = (mean / alone - 1) * 100
  const word =
    change < -0.05 ? `${(-change).toFixed(1)} % below` : change > 0.05 ? `${change.toFixed(1)} % above` : 'level with'
  return `${learned} In the mean they end ${word} training alone (perplexity ${short(mean)} against ${short(alone)}). One seed: a difference below 1 % is noise.`
}

function tree(report: TestnetReport): string {
  const lost = new Set(report.faults.filter(isGone).map(({ path }) => path))
  const nameOf = (peer: string | null) =>
    report.organizations
      .find(one => one.peer === peer)
      ?.path.split('/')
      .at(-1) ?? '–'
  const build = (path: string): TreeNode => {
    const own = report.federations.find(one => one.path === path)
    const inner = report.federations.filter(one => parentOf(one.path) === path && one.path !== path).map(one => build(one.path))
    const leaves = report.organizations
      .filter(one => parentOf(`world/${one.path}`) === path)
      .map(one => ({
        label: one.path.split('/').at(-1)!,
        note: lost.has(one.path) ? 'lost' : one.peer.slice(-6),
        kind: lost.has(one.path) ? ('lost' as const) : ('organization' as const),
        children: []
      }))
    return {
      label: path.split('/').at(-1)!,
      note: `${nameOf(own?.aggregator ?? null)}, term ${own?.term ?? 0}`,
      kind: 'federation',
      children: [...inner, ...leaves]
    }
  }
  return `<h2>Federations</h2>${treePlot('Federations with their last aggregator, and the organizations in them', build('world'))}`
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')))

function curves(report: TestnetReport): string {
  const plots = report.organizations.map(({ path }) => {
    const series: Series[] = (['personal', 'aggregated', 'federation'] as const).map(kind => ({
      name: kind,
      color: kinds[kind],
      points: report.evaluations
        .filter(one => one.path === path && one.model === kind)
        .sort((left, right) => left.round - right.round)
        .map(({ round, perplexity }) => ({ x: round, y: perplexity }))
    }))
    series.push({
      name: 'alone',
      color: kinds.alone,
      dashed: true,
      points: report.alone.filter(one => one.path === path).map(({ round, perplexity }) => ({ x: round, y: perplexity }))
    })
    return linePlot(path, series)
  })
  const key = Object.entries(kinds).map(([name, color]) => `<span class="k${color}">— ${name}</span>`)
  return `<h2>Perplexity over rounds</h2><p class="key">${key.join('')}</p><div class="plots">${plots.join('')}</div>`
}

function attention(report: TestnetReport): string {
  const up = report.federations.flatMap(({ path }) => {
    const last = report.rounds.filter(round => round.federation === path).at(-1)
    if (last === undefined || last.included.length === 0) return []
    const groups = Object.keys(last.included[0]!.attention)
    if (groups.length === 0) return []
    return [
      heatMap(
        `${path}, round ${last.round}`,
        last.included.map(({ name }) => name),
        groups.map(group => (group === 'embedding' ? 'emb.' : group)),
        last.included.map(one => groups.map(group => one.attention[group] ?? 0))
      )
    ]
  })
  const rounds = Math.max(0, ...report.attention.map(({ round }) => round))
  const newest = report.attention.filter(({ round }) => round === rounds)
  const names = [...new Set(newest.flatMap(({ candidates }) => candidates.map(({ name }) => name)))]
  const down =
    newest.length === 0
      ? ''
      : heatMap(
          `What organizations took, round ${rounds}`,
          newest.map(({ path }) => path.split('/').at(-1)!),
          names,
          newest.map(({ candidates }) => names.map(name => candidates.find(one => one.name === name)?.weight ?? 0))
        )
  return `<h2>Attention</h2><p>On the way up: the weight of each member in each group of key layers (the embedding, blocks by number), from the last certified round. On the way down: how each organization weighed its own layers, its federation’s and those above, by what its own text says.</p><div class="plots">${up.join('')}${down}</div>`
}

/** Each source and target once: what was routed, why, and what it came to. */
function residuals(report: TestnetReport): string {
  const nameOf = (peer: string) => report.organizations.find(one => one.peer === peer)?.path ?? peer.slice(-6)
  const pairs = new Map<string, TestnetReport['residuals']>()
  for (const one of report.residuals) {
    const key = `${one.to} ${one.from}`
    pairs.set(key, [...(pairs.get(key) ?? []), one])
  }
  const rows = [...pairs.entries()]
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([, uses]) => {
      const { from, to, similarity } = uses[0]!
      const weights = uses.map(({ round, weight }) => `${round}: ${(weight * 100).toFixed(1)} %`).join(', ')
      const bridges = [...new Set(uses.map(({ via }) => nameOf(via)))].join(', ')
      return `<tr><td>${escapeHtml(to)}</td><td class="text">${escapeHtml(from)}</td><td>${similarity.toFixed(2)}</td><td class="text">${escapeHtml(bridges)}</td><td class="text">${weights}</td></tr>`
    })
  const note =
    rows.length === 0
      ? 'None was used: there was no other federation, a charter forbids them, or <code>residuals.perNode</code> is 0.'
      : 'Key layers of the organization elsewhere in the tree whose fingerprint, the change in its first round, is most like the target’s own; brought by a bridge, weighed by the target’s own text. One that gets under 1 % twice makes room for the next in line.'
  const table =
    rows.length === 0
      ? ''
      : `<div class="scroll"><table><thead><tr><th>to</th><th class="text">from</th><th>similarity</th><th class="text">bridge</th><th class="text">weight by round</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
  return `<h2>Residuals</h2><p>${note}</p>${table}`
}

function times(report: TestnetReport): string {
  const bars: Bar[] = [...new Set(report.times.map(({ round }) => round))]
    .sort((left, right) => left - right)
    .map(round => {
      const mine = report.times.filter(one => one.round === round)
      const mean = (pick: (one: (typeof mine)[number]) => number) => mine.reduce((sum, one) => sum + pick(one), 0) / mine.length
      return {
        label: `round ${round}`,
        parts: [
          { name: 'train', value: mean(one => one.train), color: 1 },
          { name: 'evaluate', value: mean(one => one.evaluate), color: 2 },
          { name: 'judge', value: mean(one => one.judge), color: 5 },
          { name: 'attend', value: mean(one => one.attend), color: 4 },
          { name: 'transfer', value: mean(one => one.transfer), color: 3 },
          { name: 'aggregate, commit, wait', value: mean(one => one.wait), color: 7 }
        ]
      }
    })
  const { share } = report.outsideTraining
  const key = [
    ['train', 1],
    ['evaluate', 2],
    ['judge', 5],
    ['attend', 4],
    ['transfer', 3],
    ['aggregate, commit, wait', 7]
  ].map(([name, color]) => `<span class="k${color}">■ ${name}</span>`)
  return `<h2>Time</h2><p>${share === null ? 'No round was finished.' : `${(share * 100).toFixed(1)} % of the time was neither training nor evaluation.`}</p><p class="key">${key.join('')}</p>${bars.length > 0 ? barPlot('Seconds a round, mean over organizations', bars) : ''}`
}

function rounds(report: TestnetReport): string {
  const nameOf = (peer: string) => report.organizations.find(one => one.peer === peer)?.path ?? peer.slice(-6)
  const rows = report.rounds.map(
    round =>
      `<tr><td>${escapeHtml(round.federation)}</td><td>${round.round}</td><td>${round.term}</td><td class="text">${escapeHtml(nameOf(round.aggregator))}</td><td>${round.included.length}</td><td class="text">${escapeHtml(round.excluded.map(({ name, reason }) => `${name}: ${reason}`).join('; ') || '–')}</td><td>${(round.bytesIn / 1e6).toFixed(1)}</td><td>${round.seconds.transfer.toFixed(2)}</td><td>${round.seconds.aggregate.toFixed(2)}</td><td>${round.seconds.commit.toFixed(2)}</td></tr>`
  )
  return `<h2>Certified rounds</h2><div class="scroll"><table><thead><tr><th>federation</th><th>round</th><th>term</th><th class="text">aggregator</th><th>members</th><th class="text">excluded</th><th>MB in</th><th>transfer s</th><th>aggregate s</th><th>commit s</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

/** It met one organization, and did not come back. */
const isGone = ({ kind, mendedAtSeconds }: TestnetReport['faults'][number]): boolean =>
  mendedAtSeconds === null && !['partition', 'slow-link', 'late-start'].includes(kind)

function faults(report: TestnetReport): string {
  const { checked, violations } = report.invariants
  const seconds = (ms: number | null, none: string) =>
    ms === null ? `<td class="text">${none}</td>` : `<td>${(ms / 1000).toFixed(1)} s</td>`
  const rows = report.faults.map(one => {
    const next =
      one.federations.length === 0
        ? '<td class="text">all rounds were done</td>'
        : seconds(one.recoveredAfterMs, '<span class="bad">never</span>')
    const back = one.mendedAtSeconds === null ? '<td class="text">not mended</td>' : seconds(one.backAfterMs, 'not back')
    return `<tr><td>${one.kind}</td><td class="text">${escapeHtml(one.path.split(', ').length > 3 ? 'several' : one.path)}${one.detail === '' ? '' : `<br><span class="soft">${escapeHtml(one.detail)}</span>`}</td><td class="text">${escapeHtml(one.federations.join(', '))}</td><td>${one.atSeconds.toFixed(1)} s</td>${next}${back}</tr>`
  })
  const table =
    rows.length === 0
      ? '<p>No organization was lost.</p>'
      : `<p>Next round: from the fault until every federation that it touched had certified one. Back: from its mending until whom it met was counted in a round again.</p><div class="scroll"><table class="faults"><thead><tr><th>fault</th><th class="text">organization</th><th class="text">federations touched</th><th>at</th><th>next round after</th><th>back after</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
  const story =
    report.scenario === null
      ? ''
      : `<p>Scenario <b>${escapeHtml(report.scenario.name)}</b>: ${escapeHtml(report.scenario.about)} ${report.scenario.failures.length === 0 && !report.interrupted ? '<span class="good">Every federation came right.</span>' : ''}</p><ul>${report.scenario.failures.map(one => `<li class="bad">${escapeHtml(one)}</li>`).join('')}${report.scenario.notPlayed.map(one => `<li>Not played, for its moment never came: ${escapeHtml(one)}</li>`).join('')}</ul>`
  const broken = violations.map(one => `<li class="bad">${escapeHtml(one.invariant)}: ${escapeHtml(one.detail)}</li>`)
  return `<h2>Faults and invariants</h2>${story}${table}<p>Checked over the records of all nodes: ${checked.join(', ')}. ${violations.length === 0 ? '<span class="good">None is violated.</span>' : ''}</p>${broken.length > 0 ? `<ul>${broken.join('')}</ul>` : ''}`
}
