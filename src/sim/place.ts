/** Where a peer is, and what lies between two: the classes of links and their figures (docs/research.md, "Links"). */

export const linkClasses = ['lan', 'continental', 'intercontinental', '4g'] as const
export type LinkClass = (typeof linkClasses)[number]

export interface LinkFigures {
  /** One way. */
  latencyMs: number
  /** Mean of the exponential that is added. */
  jitterMs: number
  /** Of one peer's own line on such a link, up and down. */
  mbitUp: number
  mbitDown: number
  /** Share of datagram-like (gossiped) messages that get lost; streams repeat theirs and only come later. */
  loss: number
}

/** Medians of what public measurements give (cloud regions' ping tables; Ofcom's and Opensignal's reports on 4G). */
export const linkFigures: Record<LinkClass, LinkFigures> = {
  lan: { latencyMs: 0.25, jitterMs: 0.1, mbitUp: 1000, mbitDown: 1000, loss: 0 },
  continental: { latencyMs: 12, jitterMs: 3, mbitUp: 200, mbitDown: 400, loss: 0.0005 },
  intercontinental: { latencyMs: 80, jitterMs: 8, mbitUp: 100, mbitDown: 200, loss: 0.002 },
  '4g': { latencyMs: 45, jitterMs: 20, mbitUp: 10, mbitDown: 30, loss: 0.01 }
}

export interface Place {
  continent: string
  /** Peers of one site share a LAN. */
  site: string
  access: 'line' | '4g'
}

const names: Record<LinkClass, LinkClass> = {
  lan: 'lan',
  continental: 'continental',
  intercontinental: 'intercontinental',
  '4g': '4g'
}

export const linkBetween = (left: Place, right: Place): LinkClass => between(names, left, right)

/** What `classes` has for the link between two. */
export function between<Of>(classes: Record<LinkClass, Of>, left: Place, right: Place): Of {
  if (left.access === '4g' || right.access === '4g') return classes['4g']
  if (left.continent !== right.continent) return classes.intercontinental
  return left.site === right.site ? classes.lan : classes.continental
}

/** Whose figures the line of `own` has towards `other`: that of a peer at home is no slower because the other's is mobile. */
export function lineBetween(own: Place, other: Place): LinkClass {
  if (own.access === '4g') return '4g'
  return linkBetween(own, other.access === '4g' ? { ...other, access: 'line' } : other)
}
