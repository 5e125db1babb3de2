/**
 * Who is simulated, and how they hang together: trees of federations, or plain graphs for gossip averaging.
 *
 *   tree:4x8           a world of 4 federations of 8 organizations; tree:3x4x8 has a level more
 *   ring:16  clique:8  star:9  small-world:100  random:100        graphs without aggregators
 *   a YAML file        `federations: { world/europe/health: { organizations: 6, continent: europe } }`, or `nodes` and `edges`
 *
 * `peers` overrides how many organizations a tree has: they are dealt out to its leaves one by one.
 */
import { WorldlmError } from '../errors.ts'
import { Random } from '../math/random.ts'
import { type LinkClass, linkClasses, type LinkFigures, linkFigures, type Place } from './place.ts'
import { type TopologyFile, topologyFile } from './topology-file.ts'

export interface FederationPlan {
  /** `world`, `world/…`. */
  path: string
  parent: number | null
  /** 0: the root. */
  level: number
  /** Place of its founder among the organizations. */
  founder: number
  /** Organizations and child federations directly below. */
  members: number
}

export interface OrganizationPlan {
  federation: number
  place: Place
}

export interface TreeTopology {
  kind: 'tree'
  name: string
  /** Parents before children. */
  federations: FederationPlan[]
  organizations: OrganizationPlan[]
  links: Record<LinkClass, LinkFigures>
  file: TopologyFile | null
}

export interface GraphTopology {
  kind: 'graph'
  name: string
  organizations: { place: Place }[]
  /** By organization, in order. */
  neighbours: number[][]
  links: Record<LinkClass, LinkFigures>
  file: TopologyFile | null
}

export type Topology = TreeTopology | GraphTopology

/** Of one blob over the slowest line that anybody has, in milliseconds. */
export function slowestTransferMs({ organizations, links }: Topology, bytes: number): number {
  const mobile = organizations.some(({ place }) => place.access === '4g')
  const used = linkClasses.filter(name => name !== '4g' || mobile).map(name => links[name])
  return (bytes * 8) / (Math.min(...used.map(({ mbitUp, mbitDown }) => Math.min(mbitUp, mbitDown))) * 1_000)
}

const continents = ['europe', 'america', 'asia', 'africa', 'australia']
/** Share of organizations on a mobile line, where a file says nothing else. */
const mobileShare = 0.02

/** Ten thousand take 2 GB. */
const peersMax = 100_000

export const topologyHint =
  'Write tree:4x8, ring:16, clique:8, star:9, small-world:100, random:100, or name a YAML file (docs/research.md, "Topologies").'
const bad = (what: string): WorldlmError => new WorldlmError('TOPOLOGY_INVALID', `topology ${what}`, topologyHint)

/** @param peers - organizations in all; null: as the name says. @throws {WorldlmError} TOPOLOGY_INVALID */
export function namedTopology(name: string, peers: number | null, seed: number): Topology {
  const [kind = '', size = ''] = name.split(':')
  if (kind !== 'tree' && !Object.hasOwn(graphs, kind)) throw bad(`${name} is not known`)
  const sizes = size.split('x').map(Number)
  if (sizes.some(one => !Number.isSafeInteger(one) || one < 1 || one > 1_000_000))
    throw bad(`${name}: sizes are whole numbers ≥ 1`)
  const product = (of: number[]) => of.reduce((all, one) => all * one, 1)
  if (Math.max(peers ?? product(sizes), product(sizes.slice(0, -1))) > peersMax)
    throw bad(`${name}: more than ${peersMax} peers`)
  if (kind === 'tree') return tree(name, sizes, peers, seed)
  const count = peers ?? sizes[0]!
  if (sizes.length !== 1) throw bad(`${name}: a graph has one size`)
  const make = graphs[kind]!
  if (count < 2) throw bad(`${name}: a graph has at least two peers`)
  const random = new Random(`graph/${seed}`)
  return {
    kind: 'graph',
    name,
    organizations: spread(count, random),
    neighbours: make(count, random).map(set => [...set].sort((left, right) => left - right)),
    links: structuredClone(linkFigures),
    file: null
  }
}

/** @throws {WorldlmError} TOPOLOGY_INVALID, naming the field. */
export function topologyOfFile(name: string, document: unknown, seed: number): Topology {
  const parsed = topologyFile.safeParse(document)
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!
    throw bad(`${name}: ${path.join('.') || 'document'}: ${message}`)
  }
  const file = parsed.data
  const links = { ...linkFigures }
  for (const one of linkClasses) links[one] = { ...linkFigures[one], ...file.links[one] }
  const topology = 'nodes' in file && file.nodes !== undefined ? graphOfFile(name, file) : treeOfFile(name, file, seed)
  return { ...topology, links, file }
}

function treeOfFile(name: string, file: TopologyFile, seed: number): TreeTopology {
  const random = new Random(`tree/${seed}`)
  const paths = new Map<string, number>()
  const federations: FederationPlan[] = []
  const organizations: OrganizationPlan[] = []
  const federationOf = (path: string): number => {
    const known = paths.get(path)
    if (known !== undefined) return known
    const cut = path.lastIndexOf('/')
    const parent = cut < 0 ? null : federationOf(path.slice(0, cut))
    if (parent !== null) federations[parent]!.members++
    else if (federations.length > 0) throw bad(`${name}: ${path}: all paths begin with one world, ${federations[0]!.path}`)
    paths.set(path, federations.length)
    federations.push({ path, parent, level: path.split('/').length - 1, founder: -1, members: 0 })
    return federations.length - 1
  }
  const count = Object.values(file.federations ?? {}).reduce((all, one) => all + one.organizations, 0)
  if (count > peersMax) throw bad(`${name}: more than ${peersMax} peers`)
  for (const [path, one] of Object.entries(file.federations ?? {})) {
    const federation = federationOf(path)
    for (let count = 0; count < one.organizations; count++) {
      const site = one.site ?? `${path}/${count}`
      const access = one.access ?? (random.float() < mobileShare ? '4g' : 'line')
      organizations.push({ federation, place: { continent: one.continent ?? 'europe', site, access } })
      federations[federation]!.members++
    }
  }
  if (organizations.length === 0) throw bad(`${name}: it has no organization`)
  return treeOf(name, federations, organizations, file)
}

function graphOfFile(name: string, file: TopologyFile): GraphTopology {
  const nodes = file.nodes!
  if (nodes.length > peersMax) throw bad(`${name}: more than ${peersMax} peers`)
  const neighbours = nodes.map(() => new Set<number>())
  for (const [left, right] of file.edges ?? []) {
    if (nodes[left] === undefined || nodes[right] === undefined || left === right)
      throw bad(`${name}: edges: [${left}, ${right}] does not join two of the ${nodes.length} nodes`)
    neighbours[left]!.add(right)
    neighbours[right]!.add(left)
  }
  const organizations = nodes.map(({ continent, site, access }, place) => ({
    place: { continent: continent ?? 'europe', site: site ?? `node-${place}`, access: access ?? ('line' as const) }
  }))
  const sorted = neighbours.map(set => [...set].sort((left, right) => left - right))
  return { kind: 'graph', name, organizations, neighbours: sorted, links: structuredClone(linkFigures), file }
}

function tree(name: string, sizes: number[], peers: number | null, seed: number): TreeTopology {
  const random = new Random(`tree/${seed}`)
  const federations: FederationPlan[] = [{ path: 'world', parent: null, level: 0, founder: -1, members: 0 }]
  let leaves = [0]
  for (const [depth, width] of sizes.slice(0, -1).entries()) {
    leaves = leaves.flatMap(parent =>
      Array.from({ length: width }, (_, place) => {
        const path = `${federations[parent]!.path}/f${place}`
        federations[parent]!.members++
        federations.push({ path, parent, level: depth + 1, founder: -1, members: 0 })
        return federations.length - 1
      })
    )
  }
  const count = peers ?? leaves.length * sizes.at(-1)!
  if (count < leaves.length) throw bad(`${name}: ${count} peers do not fill ${leaves.length} leaf federations`)
  const organizations = Array.from({ length: count }, (_, place): OrganizationPlan => {
    const federation = leaves[place % leaves.length]!
    federations[federation]!.members++
    const top = topOf(federations, federation)
    const access = random.float() < mobileShare ? '4g' : 'line'
    return { federation, place: { continent: continents[top % continents.length]!, site: `site-${place}`, access } }
  })
  return treeOf(name, federations, organizations, null)
}

function treeOf(
  name: string,
  federations: FederationPlan[],
  organizations: OrganizationPlan[],
  file: TopologyFile | null
): TreeTopology {
  const founded = withFounders(federations, organizations)
  return { kind: 'tree', name, federations: founded, organizations, links: structuredClone(linkFigures), file }
}

/** The federation directly below the world that `federation` is or lies in. */
function topOf(federations: FederationPlan[], federation: number): number {
  for (let at = federation; ; at = federations[at]!.parent!)
    if (federations[at]!.parent === null || federations[at]!.level === 1) return at
}

/** The first organization of each federation, or below it, founds it. */
function withFounders(federations: FederationPlan[], organizations: OrganizationPlan[]): FederationPlan[] {
  const made = federations.map(plan => ({ ...plan }))
  for (const [place, { federation }] of organizations.entries()) {
    for (let at: number | null = federation; at !== null; at = made[at]!.parent) {
      const plan = made[at]!
      if (plan.founder < 0) plan.founder = place
    }
  }
  const empty = made.find(({ founder }) => founder < 0)
  if (empty !== undefined) throw bad(`federation ${empty.path} has no organization below it`)
  return made
}

function spread(count: number, random: Random): { place: Place }[] {
  return Array.from({ length: count }, (_, place) => ({
    place: {
      continent: continents[Math.floor((place * Math.min(continents.length, 3)) / count)]!,
      site: `site-${place}`,
      access: random.float() < mobileShare ? ('4g' as const) : ('line' as const)
    }
  }))
}

type Edges = Set<number>[]

function join(edges: Edges, left: number, right: number): void {
  if (left === right) return
  edges[left]!.add(right)
  edges[right]!.add(left)
}

const without = (count: number): Edges => Array.from({ length: count }, () => new Set<number>())

function ring(count: number): Edges {
  const edges = without(count)
  for (let place = 0; place < count; place++) join(edges, place, (place + 1) % count)
  return edges
}

const graphs: Record<string, (count: number, random: Random) => Edges> = {
  ring,
  clique: count => {
    if (count > 500) throw bad(`clique:${count}: every peer would send ${count - 1} models a round; at most 500`)
    const edges = without(count)
    for (let left = 0; left < count; left++) for (let right = 0; right < left; right++) join(edges, left, right)
    return edges
  },
  star: count => {
    const edges = without(count)
    for (let place = 1; place < count; place++) join(edges, 0, place)
    return edges
  },
  /** Watts and Strogatz 1998: a ring of four neighbours, every tenth edge rewired. */
  'small-world': (count, random) => {
    const edges = without(count)
    for (let place = 0; place < count; place++) {
      for (const step of [1, 2]) {
        const other = random.float() < 0.1 ? random.below(count) : (place + step) % count
        join(edges, place, other)
      }
      // No peer is cut off by rewiring.
      if (edges[place]!.size === 0) join(edges, place, (place + 1) % count)
    }
    return edges
  },
  /** Erdős and Rényi with mean degree 6, over a ring, so that it hangs together. */
  random: (count, random) => {
    const edges = ring(count)
    for (let drawn = 0; drawn < 2 * count; drawn++) join(edges, random.below(count), random.below(count))
    return edges
  }
}
