/** `report.html` of an experiment: one file, nothing from elsewhere, readable in dark and light. */
import {
  counterpart,
  type ExperimentPoint,
  type ExperimentReport,
  type MethodReport,
  type ModelKind
} from './experiment-schema.ts'
import { experimentVerdict } from './experiment-verdict.ts'
import { page } from './page.ts'
import { escapeHtml, heatMap, linePlot, type Series } from './plots.ts'

export function experimentHtml(report: ExperimentReport): string {
  const sections = [
    intro(report),
    outcome(report),
    curves(report),
    sweeps(report),
    organizations(report),
    bytes(report),
    attention(report)
  ]
  return page('worldlm experiment', sections)
}

const kindNames: Record<ModelKind, string> = {
  personal: 'personal, after local training',
  aggregated: 'right after aggregation',
  federation: 'the federation’s'
}
const kinds = Object.keys(kindNames) as ModelKind[]

const shown = (value: number | null | undefined, digits = 3): string =>
  value === null || value === undefined ? '–' : value >= 1000 ? value.toExponential(1) : value.toFixed(digits)

const last = ({ curve }: MethodReport): ExperimentPoint | undefined => curve.at(-1)

/** Colour and dashes of a method, the same in every plot. */
function lineOf(report: ExperimentReport, name: string): { color: number; dashed: boolean } {
  const place = report.methods.findIndex(one => one.name === name)
  return { color: (place % 12) + 1, dashed: place >= 12 || name.startsWith('local') }
}

function key(report: ExperimentReport): string {
  return `<p class="key">${report.methods.map(({ name }) => `<span class="k${lineOf(report, name).color}">— ${escapeHtml(name)}</span>`).join('')}</p>`
}

function intro(report: ExperimentReport): string {
  const { organizations: all, methods, rounds, steps, seeds, model, versions, seconds, interrupted, warnings } = report
  const state = interrupted ? '<p class="bad">The experiment was stopped: this is what was done until then.</p>' : ''
  const named = new Map(methods.map(({ method, says: what }) => [method, what]))
  const says = [...named].map(([name, what]) => `<li><b>${escapeHtml(name)}</b>: ${escapeHtml(what)}</li>`)
  return `<h1>${methods.length} methods on the text of ${all.length} organizations</h1>
<p class="soft">${rounds} rounds of ${steps} steps, ${seeds.length === 1 ? `seed ${seeds[0]}` : `seeds ${seeds.join(', ')}`}; ${methods[0]?.parameters ?? 0} parameters (${escapeHtml(`${model.layers} layers, width ${model.width}, context ${model.context}, batch ${model.batch}`)}); worldlm ${escapeHtml(versions.worldlm ?? '')}, Node ${escapeHtml(versions.node ?? '')}; ${seconds.toFixed(0)} s in this run</p>${state}${warnings.map(warning => `<p class="bad">${escapeHtml(warning)}</p>`).join('')}<ul>${says.join('')}</ul>`
}

function outcome(report: ExperimentReport): string {
  const rows = report.methods.map(method => {
    const [local, fedavg] = [counterpart(report, 'local', method), counterpart(report, 'fedavg', method)]
    const point = last(method)
    const mean = (kind: ModelKind) => point?.mean[kind] ?? null
    const cell = (kind: ModelKind) => {
      const value = mean(kind)
      const spread =
        report.seeds.length > 1 && value !== null
          ? `<br><span class="soft">(${shown(value.perplexityLeast)}–${shown(value.perplexityMost)})</span>`
          : ''
      return `<td>${shown(value?.perplexity)}${spread}</td>`
    }
    const ratio = (over: number | null | undefined, under: number | null | undefined, good: (value: number) => boolean) => {
      if (over === null || over === undefined || under === null || under === undefined) return '<td>–</td>'
      return `<td class="${good(over / under) ? 'good' : 'bad'}">${(over / under).toFixed(3)}</td>`
    }
    const toLocal = ratio(mean('personal')?.perplexity, local && last(local)?.mean.personal.perplexity, value => value <= 1)
    const toFedavg = ratio(
      fedavg && last(fedavg)?.mean.aggregated.perplexity,
      mean('aggregated')?.perplexity,
      value => value >= 1
    )
    const lost = method.runs.filter(({ diverged }) => diverged !== null)
    const note =
      lost.length > 0
        ? ` <span class="bad">diverged in ${lost.map(({ diverged }) => `round ${diverged!.round}`).join(', ')}</span>`
        : ''
    const megabytes = point === undefined ? '–' : ((point.bytesUp + point.bytesDown) / 1e6 / point.round).toFixed(1)
    return `<tr><td>${escapeHtml(method.name)}${note}</td>${kinds.map(cell).join('')}<td>${shown(mean('personal')?.bitsPerByte)}</td>${toLocal}${toFedavg}<td>${megabytes}</td></tr>`
  })
  return `<h2>At the end</h2><p>Mean perplexity over organizations (exp of the mean nll), each on its own validation text; lower is better.${report.seeds.length > 1 ? ' In brackets: the least and the most of the seeds.' : ''}</p>
<div class="scroll"><table><thead><tr><th>method</th>${kinds.map(kind => `<th>${kindNames[kind]}</th>`).join('')}<th>personal, bits per byte</th><th>personal / local’s</th><th>fedavg’s / this, after aggregation</th><th>MB a round</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>${experimentVerdict(
    report
  )
    .map(sentence => `<p>${escapeHtml(sentence)}</p>`)
    .join('')}`
}

function curves(report: ExperimentReport): string {
  const plot = (kind: ModelKind) =>
    linePlot(
      `mean, ${kindNames[kind]}`,
      report.methods.map(method => ({
        name: method.name,
        ...lineOf(report, method.name),
        points: pointsOf(method, point => point.mean[kind]?.perplexity)
      }))
    )
  return `<h2>Perplexity over rounds</h2>${key(report)}<div class="plots">${kinds.map(plot).join('')}${againstBytes(report)}</div>`
}

const pointsOf = (method: MethodReport, pick: (point: ExperimentPoint) => number | null | undefined): Series['points'] =>
  method.curve.flatMap(point => {
    const y = pick(point)
    return y === null || y === undefined ? [] : [{ x: point.round, y }]
  })

function againstBytes(report: ExperimentReport): string {
  const series = report.methods.flatMap(method => {
    const points = method.curve.flatMap(point => {
      const y = point.mean.personal.perplexity
      const x = Number(((point.bytesUp + point.bytesDown) / 1e6).toFixed(1))
      return y === null || x === 0 ? [] : [{ x, y }]
    })
    return points.length === 0 ? [] : [{ name: method.name, ...lineOf(report, method.name), points }]
  })
  return series.length === 0 ? '' : linePlot('personal, over MB sent', series, 'MB')
}

/** One plot for each option that was given several numbers; each line has the other options fixed. */
function sweeps(report: ExperimentReport): string {
  const names = [...new Set(report.methods.flatMap(({ swept }) => Object.keys(swept)))]
  const plots = names.flatMap(name => {
    const points = report.methods.filter(({ swept }) => typeof swept[name] === 'number')
    if (new Set(points.map(({ swept }) => swept[name])).size < 2) return []
    return (['personal', 'aggregated'] as const).map(kind => {
      const lines = new Map<string, Series['points']>()
      for (const method of points) {
        const { [name]: x, ...others } = method.swept
        const line = [method.method, ...Object.entries(others).map(([option, value]) => `${option}=${value}`)].join(' ')
        const y = last(method)?.mean[kind].perplexity
        if (y !== null && y !== undefined) lines.set(line, [...(lines.get(line) ?? []), { x: Number(x), y }])
      }
      const series = [...lines].map(([line, own], place) => ({
        name: line,
        color: (place % 12) + 1,
        points: own.sort((left, right) => left.x - right.x)
      }))
      const named = series.map(({ name: line, color }) => `<span class="k${color}">— ${escapeHtml(line)}</span>`)
      return `<div><p class="key">${named.join('')}</p>${linePlot(`${name}: ${kindNames[kind]}, at the end`, series, name)}</div>`
    })
  })
  return plots.length === 0 ? '' : `<h2>Sweeps</h2><div class="plots">${plots.join('')}</div>`
}

function organizations(report: ExperimentReport): string {
  const tables = kinds.map(kind => {
    const methods = report.methods.filter(method => last(method)?.mean[kind] !== null && last(method) !== undefined)
    if (methods.length === 0) return ''
    const rows = report.organizations.map(({ path }) => {
      const values = methods.map(method => last(method)?.organizations[path]?.[kind] ?? null)
      const best = Math.min(...values.map(value => value?.perplexity ?? Number.POSITIVE_INFINITY))
      const cells = values.map(value => {
        const text = `${shown(value?.perplexity)}<br><span class="soft">${shown(value?.bitsPerByte)}</span>`
        return `<td${value?.perplexity === best ? ' class="good"' : ''}>${text}</td>`
      })
      return `<tr><td>${escapeHtml(path)}</td>${cells.join('')}</tr>`
    })
    return `<h3>${kindNames[kind]}</h3><div class="scroll"><table><thead><tr><th>organization</th>${methods.map(({ name }) => `<th>${escapeHtml(name)}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`
  })
  const plots = report.organizations.map(({ path, trainBytes }) =>
    linePlot(
      `${path} (${(trainBytes / 1000).toFixed(0)} kB), personal`,
      report.methods.map(method => ({
        name: method.name,
        ...lineOf(report, method.name),
        points: pointsOf(method, point => point.organizations[path]?.personal.perplexity)
      }))
    )
  )
  return `<h2>Organization by organization</h2><p>Perplexity, and below it bits per byte; mean over seeds, at the end.</p>${tables.join('')}${key(report)}<div class="plots">${plots.join('')}</div>`
}

function bytes(report: ExperimentReport): string {
  const rows = report.methods.flatMap(method => {
    const point = last(method)
    if (point === undefined) return []
    const line = (level: string, up: number, down: number) =>
      `<tr><td>${escapeHtml(method.name)}</td><td>${level}</td><td>${(point.tokens / point.round).toFixed(0)}</td><td>${(up / point.round / 1e6).toFixed(2)}</td><td>${(down / point.round / 1e6).toFixed(2)}</td></tr>`
    if (point.levels.length === 0) return [line('–', 0, 0)]
    return point.levels.map(({ level, bytesUp, bytesDown }) => line(String(level), bytesUp, bytesDown))
  })
  return `<h2>What it took</h2><p>In the mean of a round, all organizations together: tokens trained on, and MB of models handed in (up) and taken (down). Level: depth of the federation that was handed updates, or whose model was taken; 0 is the root. Counted as if each transfer crossed the network; records and votes are not counted.</p><div class="scroll"><table><thead><tr><th>method</th><th>level</th><th>tokens</th><th>MB up</th><th>MB down</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function attention(report: ExperimentReport): string {
  const maps = report.methods.flatMap(({ name, groups, attention: { up, down }, runs }) => {
    const seed = runs[0]?.seed
    const ups = up
      .filter(one => one.seed === seed && groups.length > 0 && one.members.length > 1)
      .map(({ federation, members }) =>
        heatMap(
          `${name}: ${federation}, up`,
          members.map(member => shortName(member.name)),
          groups.map(group => (group === 'embedding' ? 'emb.' : group)),
          members.map(({ weights }) => weights)
        )
      )
    const mine = down.filter(one => one.seed === seed)
    const final = Math.max(0, ...mine.map(({ round }) => round))
    const rows = mine.filter(({ round }) => round === final)
    const columns = [...new Set(rows.flatMap(({ candidates }) => candidates.map(one => one.name)))]
    const weights = rows.map(({ candidates }) =>
      columns.map(column => candidates.find(one => one.name === column)?.weight ?? 0)
    )
    if (rows.length > 0)
      ups.unshift(
        heatMap(
          `${name}: what organizations took, round ${final}`,
          rows.map(({ path }) => shortName(path)),
          columns.map(shortName),
          weights
        )
      )
    return ups
  })
  if (maps.length === 0) return ''
  return `<h2>Attention</h2><p>The first seed’s last round. Down: how each organization weighed its own layers, its federation’s and those above. Up: the weight of each member in each group of key layers (the embedding, blocks by number).</p><div class="plots">${maps.join('')}</div>`
}

const shortName = (path: string): string => path.slice(path.lastIndexOf('/') + 1)
