/**
 * The tree of federations over an experiment's organizations: who hands in where, and who wrongly sits where.
 */
import { Random } from '../math/random.ts'

export interface Federation {
  /** `world`, or `world/…`. */
  path: string
  parent: string | null
  /** Names, sorted. */
  organizations: string[]
  /** Paths of child federations, sorted. */
  children: string[]
  /** 0 at the root of the whole tree. */
  depth: number
}

/** How much of the tree a method uses; `graph`: nobody aggregates, neighbours average. */
export type Shape = 'none' | 'flat' | 'leaves' | 'tree' | 'graph'

const world = 'world'

/** Path of the federation that an organization's place names: `world/english/biomedicine` for `english/biomedicine/genomics`. */
export const federationOf = (place: string): string => [world, ...place.split('/').slice(0, -1)].join('/')

/** @param places - by organization: its path in the tree. @returns parents before children; `leaves` have no parents. */
export function plantTree(places: Map<string, string>, shape: Shape): Federation[] {
  if (shape === 'none' || shape === 'graph') return []
  if (shape === 'flat') return [{ path: world, parent: null, organizations: [...places.keys()].sort(), children: [], depth: 0 }]
  const [organizations, children] = [new Map<string, Set<string>>(), new Map<string, Set<string>>()]
  for (const [organization, place] of places) {
    let path = federationOf(place)
    add(organizations, path, organization)
    for (; shape === 'tree' && path !== world; path = parentOf(path)) add(children, parentOf(path), path)
  }
  return [...new Set([...organizations.keys(), ...children.keys()])]
    .map(path => ({
      path,
      parent: shape === 'leaves' || path === world ? null : parentOf(path),
      organizations: [...(organizations.get(path) ?? [])].sort(),
      children: [...(children.get(path) ?? [])].sort(),
      depth: path.split('/').length - 1
    }))
    .sort((left, right) => left.depth - right.depth || (left.path < right.path ? -1 : 1))
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/'))

function add(members: Map<string, Set<string>>, path: string, member: string): void {
  const inside = members.get(path) ?? new Set()
  members.set(path, inside.add(member))
}

/**
 * Puts a share of the organizations into wrong federations: those drawn by seed, each to the place of the next one drawn that sits in
 * another federation. @param share - 0 to 1. @returns each organization's place.
 */
export function misplace(organizations: string[], share: number, seed: number): Map<string, string> {
  const places = new Map(organizations.map(path => [path, path]))
  const drawn = draw(organizations, share, `misplace/${seed}`)
  // Dealt out federation by federation, a shift by the largest federation's size leaves nobody at home.
  const byFederation = [...drawn].sort((left, right) => (federationOf(left) < federationOf(right) ? -1 : 1))
  const sizes = new Map<string, number>()
  for (const path of drawn) sizes.set(federationOf(path), (sizes.get(federationOf(path)) ?? 0) + 1)
  const shift = Math.max(0, ...sizes.values())
  for (const [index, path] of byFederation.entries()) places.set(path, byFederation[(index + shift) % byFederation.length]!)
  return places
}

/** A share of them, 0 to 1, by seed. */
export const draw = (organizations: string[], share: number, seed: string): string[] =>
  shuffle(organizations, new Random(seed)).slice(0, Math.round(share * organizations.length))

function shuffle(items: string[], random: Random): string[] {
  const shuffled = [...items]
  for (let place = shuffled.length - 1; place > 0; place--) {
    const other = random.below(place + 1)
    ;[shuffled[place], shuffled[other]] = [shuffled[other]!, shuffled[place]!]
  }
  return shuffled
}

/** Neighbours on a ring in the order of names; two organizations have one neighbour, one has none. */
export function ringNeighbours(organizations: string[], organization: string): string[] {
  const sorted = [...organizations].sort()
  const at = sorted.indexOf(organization)
  const around = [sorted.at(at - 1)!, sorted[(at + 1) % sorted.length]!]
  return [...new Set(around)].filter(other => other !== organization)
}
