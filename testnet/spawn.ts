/**
 * The processes of a testnet: folders, charters, `worldlm node start`. The first node's address is all that the others are given.
 *
 * No orphans: a node stops when its standard input closes, so it ends with the testnet however that ends.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { WorldlmError } from '../src/errors.ts'
import type { PeerName } from '../src/ids.ts'
import { NodeFolder } from '../src/node/folder.ts'
import { type Genesis, initNodeFolder, writeCharter } from '../src/node/genesis.ts'
import { parseDocument } from 'yaml'
import { writeFileDurably } from '../src/node/files.ts'
import type { Plan, PlannedNode } from './plan.ts'

export interface SpawnOptions {
  plan: Plan
  out: string
  seed: number
  /** Charter fields of every federation. */
  charter: Record<string, unknown>
  /** Threads of each engine. */
  threads: number
}

export interface TestnetNode {
  plan: PlannedNode
  folder: NodeFolder
  peer: PeerName
  process: ChildProcess
  api: string
  /** Set when its process has ended. */
  ended: { code: number | null; signal: NodeJS.Signals | null } | null
}

/** A node that has not told its address by then has failed. */
const startTimeoutMs = 60_000

export interface Prepared {
  plan: PlannedNode
  folder: NodeFolder
  peer: PeerName
}

/** Folders, identities, charters: everything that `worldlm node init` and `worldlm federation create | join` would write. */
export async function prepareNodes({
  plan,
  out,
  seed,
  charter,
  threads
}: SpawnOptions): Promise<{ nodes: Prepared[]; federations: Map<string, Genesis> }> {
  const nodes: Prepared[] = []
  for (const node of plan.nodes) {
    const folder = new NodeFolder(join(out, node.folder))
    const given = {
      name: node.path.slice(node.path.lastIndexOf('/') + 1),
      path: node.path,
      data: relative(folder.root, node.text.folder),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      api: { host: '127.0.0.1', port: 0 },
      engine: { name: 'onnx' as const, threads },
      seed
    }
    nodes.push({ plan: node, folder, peer: await initNodeFolder(folder, given) })
  }
  const federations = new Map<string, Genesis>()
  for (const { path, name, parent, founder, members } of plan.federations) {
    const { folder } = nodes.find(node => node.plan.path === founder)!
    federations.set(
      path,
      writeCharter(folder, { ...charter, name, startMembers: members, seed }, parent === null ? null : federations.get(parent)!)
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

function setOption(folder: NodeFolder, key: string, value: unknown): void {
  const document = parseDocument(readFileSync(folder.config, 'utf8'))
  document.set(key, document.createNode(value))
  writeFileDurably(folder.config, document.toString())
}

/** Starts the first node, then all others with its address. @throws {WorldlmError} NODE_FAILED, with its last words. */
export async function spawnNodes(
  prepared: Prepared[],
  onEnd: (node: TestnetNode) => void,
  signal: AbortSignal
): Promise<TestnetNode[]> {
  const [first, ...rest] = prepared
  const nodes = [spawnNode(first!, onEnd)]
  try {
    await ready(nodes[0]!, signal)
    const address = nodes[0]!.folder.running()?.addresses[0]
    for (const one of rest) {
      setOption(one.folder, 'bootstrap', [address])
      nodes.push(spawnNode(one, onEnd))
    }
    await Promise.all(nodes.map(node => ready(node, signal)))
    return nodes
  } catch (error) {
    await stopNodes(nodes)
    throw error
  }
}

function spawnNode({ plan, folder, peer }: Prepared, onEnd: (node: TestnetNode) => void): TestnetNode {
  const main = fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? '../src/cli/main.ts' : '../src/cli/main.js', import.meta.url)
  )
  const child = spawn(process.execPath, [main, 'node', 'start', '--dir', folder.root], {
    stdio: ['pipe', 'ignore', 'pipe'],
    // Its own process group: Ctrl-C reaches the testnet, which stops its nodes in order.
    detached: true,
    env: { ...process.env, WORLDLM_EXIT_WITH_PARENT: '1' }
  })
  const node: TestnetNode = { plan, folder, peer, process: child, api: '', ended: null }
  child.stderr?.on('data', chunk => appendFileSync(join(folder.root, 'stderr.log'), chunk))
  child.stdin?.on('error', () => undefined)
  child.on('exit', (code, endSignal) => {
    node.ended = { code, signal: endSignal }
    onEnd(node)
  })
  return node
}

async function ready(node: TestnetNode, signal: AbortSignal): Promise<void> {
  for (const began = Date.now(); Date.now() - began < startTimeoutMs; ) {
    signal.throwIfAborted()
    if (node.ended !== null) break
    const run = node.folder.running()
    if (run !== null && run.api !== '') {
      node.api = run.api
      return
    }
    await sleep(50, undefined, { signal })
  }
  throw new WorldlmError(
    'NODE_FAILED',
    `the node of ${node.plan.path} did not start: ${lastWords(node)}`,
    `See ${node.folder.log}.`
  )
}

function lastWords({ folder }: TestnetNode): string {
  const path = join(folder.root, 'stderr.log')
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').slice(-3).join(' / ') : 'it said nothing'
}

/** SIGTERM to all, SIGKILL to who is still there after a while. @returns when no process is left. */
export async function stopNodes(nodes: TestnetNode[], graceMs = 8_000): Promise<void> {
  const living = nodes.filter(node => node.ended === null)
  for (const node of living) node.process.kill('SIGTERM')
  const gone = () => living.every(node => node.ended !== null)
  for (const began = Date.now(); !gone() && Date.now() - began < graceMs; ) await sleep(50)
  for (const node of living) if (node.ended === null) node.process.kill('SIGKILL')
  for (const began = Date.now(); !gone() && Date.now() - began < 2_000; ) await sleep(20)
  for (const node of nodes) node.process.stdin?.destroy()
}
