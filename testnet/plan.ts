/**
 * From a tree of text to nodes and federations: who runs what, who founds what, who knows whom.
 *
 * Every inner folder is a federation; its first organization founds it. A federation of two organizations gets witnesses from its
 * neighbours: two peers cannot outvote the loss of one, three can.
 */
import type { OrganizationText } from '../src/data/text-tree.ts'

export interface PlannedNode {
  /** Path of the organization; its folder's name is the path with dashes. */
  path: string
  folder: string
  text: OrganizationText
  /** Paths of federations that it joins by itself. */
  federation: string
  witnessOf: string[]
}

export interface PlannedFederation {
  /** `world`, or `world/…`. */
  path: string
  name: string
  parent: string | null
  /** Path of the organization that founds it. */
  founder: string
  /** Organizations and child federations. */
  members: number
}

export interface Plan {
  nodes: PlannedNode[]
  /** Parents before children. */
  federations: PlannedFederation[]
}

const root = 'world'

export function planTestnet(organizations: OrganizationText[]): Plan {
  const federationOf = (path: string) => [root, ...path.split('/').slice(0, -1)].join('/')
  const paths = new Set<string>()
  for (const { path } of organizations) {
    const steps = federationOf(path).split('/')
    for (let length = 1; length <= steps.length; length++) paths.add(steps.slice(0, length).join('/'))
  }
  const folders = new Set<string>()
  const nodes = organizations.map(text => ({
    path: text.path,
    folder: folderOf(text.path, folders),
    text,
    federation: federationOf(text.path),
    witnessOf: [] as string[]
  }))
  const federations = [...paths]
    .sort((left, right) => left.split('/').length - right.split('/').length || (left < right ? -1 : 1))
    .map(path => ({
      path,
      name: path.slice(path.lastIndexOf('/') + 1),
      parent: path === root ? null : path.slice(0, path.lastIndexOf('/')),
      founder: nodes.find(({ federation }) => federation === path || federation.startsWith(`${path}/`))!.path,
      members:
        nodes.filter(({ federation }) => federation === path).length +
        [...paths].filter(other => other.slice(0, other.lastIndexOf('/')) === path && other !== path).length
    }))
  addWitnesses(nodes, federations)
  return { nodes, federations }
}

/** Of a file's name most disks take 255 bytes. */
const folderBytesMax = 200

/** `a/b c` is a-b_c, cut where it is too long; where that is taken (by `a-b/c`, or in capitals, which some disks do not tell apart) a number follows. */
function folderOf(path: string, taken: Set<string>): string {
  let name = path.replaceAll('/', '-').replaceAll(/\s/g, '_')
  while (Buffer.byteLength(name) > folderBytesMax) name = [...name].slice(0, -1).join('')
  let folder = name
  for (let count = 2; taken.has(folder.toLowerCase()); count++) folder = `${name}-${count}`
  taken.add(folder.toLowerCase())
  return folder
}

/** One witness for each federation whose only members are two organizations, spread evenly over the others. */
function addWitnesses(nodes: PlannedNode[], federations: PlannedFederation[]): void {
  for (const { path, members } of federations) {
    const own = nodes.filter(({ federation }) => federation === path)
    if (members !== 2 || own.length !== 2) continue
    const near = (node: PlannedNode) => commonSteps(node.federation, path)
    const others = nodes.filter(({ federation }) => federation !== path)
    const witness = others.sort(
      (left, right) =>
        left.witnessOf.length - right.witnessOf.length || near(right) - near(left) || (left.path < right.path ? -1 : 1)
    )[0]
    witness?.witnessOf.push(path)
  }
}

function commonSteps(left: string, right: string): number {
  const [a, b] = [left.split('/'), right.split('/')]
  const differs = a.findIndex((step, place) => step !== b[place])
  return differs === -1 ? a.length : differs
}
