/** Plots as SVG, strings in and out. Colours come from the page's style, so that they follow dark and light. */

export const escapeHtml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

export interface Series {
  name: string
  /** 1 to 12: a colour of the page. */
  color: number
  dashed?: boolean
  points: { x: number; y: number }[]
}

const [width, height] = [360, 220]
const margin = { left: 44, right: 10, top: 12, bottom: 30 }

/** Lines over rounds, or whatever x is; y is logarithmic, as perplexities are compared by ratio. */
export function linePlot(title: string, series: Series[], x = 'round'): string {
  const points = series.flatMap(one => one.points).filter(({ y }) => y > 0 && Number.isFinite(y))
  if (points.length === 0) return ''
  const [xLeast, xMost] = [Math.min(...points.map(({ x }) => x)), Math.max(...points.map(({ x }) => x))]
  const [yLeast, yMost] = [Math.min(...points.map(({ y }) => y)), Math.max(...points.map(({ y }) => y)) * 1.02]
  const atX = (x: number) => margin.left + ((x - xLeast) / (xMost - xLeast || 1)) * (width - margin.left - margin.right)
  const span = Math.log(yMost / yLeast) || 1
  const atY = (y: number) => height - margin.bottom - (Math.log(y / yLeast) / span) * (height - margin.top - margin.bottom)
  const ticks = [yLeast, Math.sqrt(yLeast * yMost), yMost].map(
    y =>
      `<line class="grid" x1="${margin.left}" x2="${width - margin.right}" y1="${atY(y).toFixed(1)}" y2="${atY(y).toFixed(1)}"/><text x="${margin.left - 5}" y="${(atY(y) + 4).toFixed(1)}" text-anchor="end">${short(y)}</text>`
  )
  const middle = (xLeast + xMost) / 2
  const marks = [xLeast, points.every(point => Number.isInteger(point.x)) ? Math.round(middle) : middle, xMost]
  const rounds = [...new Set(marks)].map(
    mark => `<text x="${atX(mark).toFixed(1)}" y="${height - 14}" text-anchor="middle">${Number(mark.toPrecision(3))}</text>`
  )
  const lines = series.map(({ name, color, dashed, points: own }) => {
    const path = own.map(point => `${atX(point.x).toFixed(1)},${atY(point.y).toFixed(1)}`)
    const dots = own.map(
      point =>
        `<circle class="c${color}" cx="${atX(point.x).toFixed(1)}" cy="${atY(point.y).toFixed(1)}" r="2.5"><title>${escapeHtml(name)}, ${escapeHtml(x)} ${point.x}: ${short(point.y)}</title></circle>`
    )
    return `<polyline class="c${color}${dashed === true ? ' dashed' : ''}" points="${path.join(' ')}"/>${dots.join('')}`
  })
  return `<figure><figcaption>${escapeHtml(title)}</figcaption><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(title)}">${ticks.join('')}${rounds.join('')}${lines.join('')}<text x="${width - margin.right}" y="${height - 2}" text-anchor="end">${escapeHtml(x)}</text></svg></figure>`
}

export interface Bar {
  label: string
  parts: { name: string; value: number; color: number }[]
}

/** Stacked horizontal bars, in seconds. */
export function barPlot(title: string, bars: Bar[]): string {
  const most = Math.max(...bars.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0)), 1e-9)
  const rowHeight = 18
  const total = bars.length * rowHeight + 24
  const left = 120
  const rows = bars.map(({ label, parts }, row) => {
    let x = left
    const y = row * rowHeight + 4
    const rects = parts.map(({ name, value, color }) => {
      const length = (value / most) * (560 - left - 10)
      const rect = `<rect class="f${color}" x="${x.toFixed(1)}" y="${y}" width="${Math.max(0, length).toFixed(1)}" height="${rowHeight - 4}"><title>${escapeHtml(label)}: ${escapeHtml(name)} ${value.toFixed(2)} s</title></rect>`
      x += length
      return rect
    })
    return `<text x="${left - 6}" y="${y + 11}" text-anchor="end">${escapeHtml(label)}</text>${rects.join('')}`
  })
  return `<figure class="wide"><figcaption>${escapeHtml(title)}</figcaption><svg viewBox="0 0 560 ${total}" role="img" aria-label="${escapeHtml(title)}">${rows.join('')}<text x="${left}" y="${total - 4}">0 s</text><text x="550" y="${total - 4}" text-anchor="end">${most.toFixed(1)} s</text></svg></figure>`
}

/** A heat map: rows × columns of weights, 0 to 1. */
export function heatMap(title: string, rows: string[], columns: string[], values: number[][]): string {
  // Long names stand aslant, or they would run into each other.
  const slant = columns.some(name => name.length > 4)
  const [cell, left, top] = [30, 110, slant ? 76 : 34]
  const wide = left + columns.length * cell + (slant ? 50 : 10)
  const high = top + rows.length * 20 + 6
  const heads = columns.map((name, column) => {
    const x = left + column * cell + cell / 2
    const place = slant ? `text-anchor="start" transform="rotate(-45 ${x} ${top - 8})"` : 'text-anchor="middle"'
    return `<text x="${x}" y="${top - 8}" ${place}>${escapeHtml(name.slice(0, 14))}</text>`
  })
  const cells = rows.map((name, row) => {
    const boxes = columns.map((column, place) => {
      const value = values[row]?.[place] ?? 0
      return `<rect class="heat" style="opacity:${(0.08 + 0.92 * Math.min(1, value)).toFixed(3)}" x="${left + place * cell}" y="${top + row * 20}" width="${cell - 2}" height="18"><title>${escapeHtml(name)}, ${escapeHtml(column)}: ${value.toFixed(3)}</title></rect>`
    })
    return `<text x="${left - 6}" y="${top + row * 20 + 13}" text-anchor="end">${escapeHtml(name.slice(0, 16))}</text>${boxes.join('')}`
  })
  return `<figure><figcaption>${escapeHtml(title)}</figcaption><svg viewBox="0 0 ${wide} ${high}" role="img" aria-label="${escapeHtml(title)}">${heads.join('')}${cells.join('')}</svg></figure>`
}

export interface TreeNode {
  label: string
  note: string
  kind: 'federation' | 'organization' | 'lost'
  children: TreeNode[]
}

/** The tree of federations, top down. */
export function treePlot(title: string, root: TreeNode): string {
  const [column, level] = [132, 74]
  const boxes: string[] = []
  const lines: string[] = []
  let next = 0
  let deepest = 0
  const place = (node: TreeNode, depth: number): number => {
    deepest = Math.max(deepest, depth)
    const below = node.children.map(child => place(child, depth + 1))
    const x = below.length === 0 ? next++ * column + column / 2 + 6 : (below[0]! + below.at(-1)!) / 2
    const y = depth * level + 8
    for (const childX of below)
      lines.push(`<path class="grid" d="M${x} ${y + 42}C${x} ${y + 60} ${childX} ${y + 58} ${childX} ${y + level}"/>`)
    boxes.push(
      `<g class="${node.kind}"><rect class="box" x="${x - 62}" y="${y}" width="124" height="42" rx="8"/><text class="name" x="${x}" y="${y + 18}" text-anchor="middle">${escapeHtml(node.label.slice(0, 18))}</text><text x="${x}" y="${y + 33}" text-anchor="middle">${escapeHtml(node.note.slice(0, 22))}</text></g>`
    )
    return x
  }
  place(root, 0)
  const wide = Math.max(1, next) * column + 12
  return `<figure class="wide"><figcaption>${escapeHtml(title)}</figcaption><svg style="min-width:${Math.min(wide, 1000)}px" viewBox="0 0 ${wide} ${(deepest + 1) * level}" role="img" aria-label="${escapeHtml(title)}">${lines.join('')}${boxes.join('')}</svg></figure>`
}

export const short = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
