/** The folders of a testnet's nodes: everything that `worldlm node init` and `worldlm federation create | join` would write. */
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseDocument } from 'yaml'
import type { PeerName } from '../src/ids.ts'
import { writeFileDurably } from '../src/node/files.ts'
import { NodeFolder } from '../src/node/folder.ts'
import { type Genesis, initNodeFolder, writeCharter } from '../src/node/genesis.ts'
import { addStart, type Start } from '../src/node/starting-model.ts'
import type { Plan, PlannedNode } from './plan.ts'
import type { FaultyNetwork } from './proxy.ts'

export interface PrepareOptions {
  plan: Plan
  out: string
  seed: number
  /** Charter fields of every federation. */
  charter: Record<string, unknown>
  /** Parameters and tokenizer that all begin with; null: drawn from the seed, bytes. */
  start: Start | null
  /** Threads of each engine. */
  threads: number
  /** Between the nodes, where links are to be cut or slowed. */
  network: FaultyNetwork | null
  /** Paths of organizations that come later: the first round does not wait for them. */
  late: ReadonlySet<string>
}

export interface Prepared {
  plan: PlannedNode
  folder: NodeFolder
  peer: PeerName
}

export async function prepareNodes({
  plan,
  out,
  seed,
  charter,
  start,
  threads,
  network,
  late
}: PrepareOptions): Promise<{ nodes: Prepared[]; federations: Map<string, Genesis> }> {
  const nodes: Prepared[] = []
  for (const node of plan.nodes) {
    const folder = new NodeFolder(join(out, node.folder))
    const given = {
      name: node.path.slice(node.path.lastIndexOf('/') + 1),
      path: node.path,
      data: relative(folder.root, node.text.folder),
      ...linkOptions(network, node.path),
      api: { host: '127.0.0.1', port: 0 },
      engine: { name: 'onnx' as const, threads },
      seed
    }
    nodes.push({ plan: node, folder, peer: await initNodeFolder(folder, given) })
  }
  const federations = new Map<string, Genesis>()
  const latecomers = (path: string) => plan.nodes.filter(node => node.federation === path && late.has(node.path)).length
  for (const { path, name, parent, founder, members } of plan.federations) {
    const { folder } = nodes.find(node => node.plan.path === founder)!
    const begins = start === null || parent !== null ? {} : await addStart(folder, start)
    federations.set(
      path,
      writeCharter(
        folder,
        { ...charter, ...begins, name, startMembers: members - latecomers(path), seed },
        parent === null ? null : federations.get(parent)!
      )
    )
  }
  for (const { plan: node, folder } of nodes) {
    const own = [
      { id: federations.get(node.federation)!.id },
      ...node.witnessOf.map(path => ({ id: federations.get(path)!.id, as: 'witness' }))
    ]
    setOption(folder, 'federations', own)
  }
  return { nodes, federations }
}

function linkOptions(network: FaultyNetwork | null, path: string) {
  if (network === null) return { listen: ['/ip4/127.0.0.1/tcp/0'] }
  const { listen, announce, dialFrom } = network.addressesOf(path)
  return { listen: [listen], announce: [announce], dialFrom }
}

/** As an operator edits worldlm.yaml. */
export function setOption(folder: NodeFolder, key: string, value: unknown): void {
  const document = parseDocument(readFileSync(folder.config, 'utf8'))
  document.set(key, document.createNode(value))
  writeFileDurably(folder.config, document.toString())
}
