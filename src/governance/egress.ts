/**
 * Which tensors a charter lets out, to whom, and which it lets in (docs/governance.md, "Egress").
 *
 * Rules are read in order, the first that matches wins; where none does, the tensor may pass. A child's charter can forbid more than
 * those above it, never allow what they forbid: every charter of the line from a node up to the root is asked.
 *
 * Is: pure; both sides evaluate the same rules, the sender before it gives, the receiver again before it takes.
 * Is not: the gates themselves (node/residual-*.ts, node/blob-gate.ts), nor the judge of jurisdictions: a peer that states none could be anywhere, so a rule that
 * forbids by jurisdiction matches it, and one that allows does not.
 */
import type { Charter, EgressRule } from './charter.ts'

export type TensorClass = Exclude<EgressRule['tensor'], '*'>

/** Where a tensor goes, or comes from. */
export interface Place {
  /** Of a federation or an organization: `world/english/biomedicine`. */
  path: string
  kind: 'federation' | 'organization'
  /** ISO 3166 code, where the peer states one. */
  jurisdiction?: string
}

/** Of a peer that is in no roster known here. It could be anywhere: as with jurisdictions, what forbids matches it, and what allows does not. */
export type AnyPlace = Place | 'unknown'

export type Consent = { allowed: true } | { allowed: false; by: string; reason: string }

/** What the rules of a charter are read from. */
export type RuledBy = Pick<Charter, 'path' | 'egress' | 'ingress'>

/**
 * Whether `path` fits a pattern: `*` stands for one segment, `**` for any number of them, none included; so `world/languages/**` fits the
 * federation itself and all below it.
 */
export const matchesPath = (pattern: string, path: string): boolean =>
  fitsSegments(pattern.split('/'), path.split('/'), (segment, name) => segment === '*' || segment === name)

/** Whether each path that fits the second pattern fits the first, too. */
export const coversPattern = (wide: string, narrow: string): boolean =>
  fitsSegments(wide.split('/'), narrow.split('/'), (segment, other) => other !== '**' && (segment === '*' || segment === other))

/**
 * What lies before the last `**` that was met stays as it is: a later one can stand for whatever an earlier one could have (as globs are matched
 * since Krauss 2008). Tried in every other way too, one rule of a stranger's charter keeps whoever reads it busy for minutes.
 */
function fitsSegments(
  pattern: readonly string[],
  names: readonly string[],
  fits: (segment: string, name: string) => boolean
): boolean {
  let place = 0
  let any: { place: number; from: number } | null = null
  for (let from = 0; from < names.length; ) {
    const segment = pattern[place]
    if (segment === '**') any = { place: place++, from }
    else if (segment !== undefined && fits(segment, names[from]!)) {
      place++
      from++
    } else {
      if (any === null) return false
      // It stands for one more.
      from = ++any.from
      place = any.place + 1
    }
  }
  return pattern.slice(place).every(segment => segment === '**')
}

/** The same of the places of two rules in the charter of `ruler`; left out, a place is all. */
export function coversPlace(wide: string | undefined, narrow: string | undefined, ruler: string): boolean {
  if (wide === undefined || wide === '**' || wide === narrow) return true
  // A pattern cannot say that only federations are meant.
  if (narrow === undefined || wide === 'children') return false
  return coversPattern(patternOf(wide, ruler), patternOf(narrow, ruler))
}

function patternOf(place: string, ruler: string): string {
  // Above a world there is nothing: a path that is none.
  if (place === 'parent') return parentPath(ruler) ?? ''
  return place === 'members' || place === 'children' ? `${ruler}/*` : place
}

/** A blob of a federation, as who is asked for it sees it. */
export interface RuledBlob {
  tensors: readonly TensorClass[]
  /** Charters from the federation that made it up to the root. */
  line: readonly RuledBy[]
}

/**
 * May a peer in these places have this blob? Within the federation that made it a peer is asked as who it is there, so that a rule against
 * the parent does not take a delegate's own federation from it; elsewhere a peer in several places is in all of them: what reaches it in
 * one has reached the others.
 * @param places - none: a stranger.
 */
export function mayFetch({ tensors, line }: RuledBlob, places: readonly Place[]): Consent {
  const inside = places.filter(({ path }) => path.startsWith(`${line[0]?.path}/`))
  const asked: readonly AnyPlace[] = inside.length > 0 ? inside : places.length > 0 ? places : ['unknown']
  for (const place of asked) {
    for (const tensor of tensors) {
      const consent = mayLeave(line, tensor, place)
      if (!consent.allowed) return consent
    }
  }
  return { allowed: true }
}

/** Whether any rule of these charters forbids anything to leave: where none does, nobody need be asked where a peer is. */
export const forbidsAny = (line: readonly RuledBy[]): boolean => line.some(({ egress }) => egress.some(({ allow }) => !allow))

/** May `tensor` leave a node of this line to that place? @param line - charters from the node's own federation up to the root. */
export const mayLeave = (line: readonly RuledBy[], tensor: TensorClass, to: AnyPlace): Consent =>
  askAll(line, charter =>
    charter.egress.find(rule => isAbout(rule, tensor, to) && isPlace(rule.to, charter.path, to, rule.allow))
  )

/** May a node of this line take `tensor` from that place? @param line - as of `mayLeave`. */
export const mayEnter = (line: readonly RuledBy[], tensor: TensorClass, from: Place): Consent =>
  askAll(line, charter =>
    charter.ingress?.find(rule => isAbout(rule, tensor, from) && isPlace(rule.from, charter.path, from, rule.allow))
  )

interface Ruling {
  allow: boolean
  reason?: string
}

function askAll(line: readonly RuledBy[], ruling: (charter: RuledBy) => Ruling | undefined): Consent {
  for (const charter of line) {
    const found = ruling(charter)
    if (found !== undefined && !found.allow) {
      return { allowed: false, by: charter.path, reason: found.reason ?? `forbidden by the charter of ${charter.path}` }
    }
  }
  return { allowed: true }
}

function isAbout(rule: Pick<EgressRule, 'tensor' | 'toJurisdiction' | 'allow'>, tensor: TensorClass, place: AnyPlace): boolean {
  if (rule.tensor !== '*' && rule.tensor !== tensor) return false
  if (rule.toJurisdiction === undefined) return true
  const jurisdiction = place === 'unknown' ? undefined : place.jurisdiction
  return jurisdiction === undefined ? !rule.allow : rule.toJurisdiction.includes(jurisdiction)
}

/** @param ruler - path of the federation whose rule it is: `parent`, `members` and `children` are its own. */
function isPlace(where: string | undefined, ruler: string, place: AnyPlace, allow: boolean): boolean {
  if (place === 'unknown') return where === undefined || where === '**' || !allow
  const { path, kind } = place
  const isBelow = path.startsWith(`${ruler}/`) && !path.slice(ruler.length + 1).includes('/')
  switch (where) {
    case undefined:
      return true
    case 'parent':
      return path === parentPath(ruler)
    case 'members':
      return isBelow
    case 'children':
      return isBelow && kind === 'federation'
    default:
      return matchesPath(where, path)
  }
}

/** Null for a world. */
function parentPath(path: string): string | null {
  const slash = path.lastIndexOf('/')
  return slash === -1 ? null : path.slice(0, slash)
}
