/**
 * The processes of a testnet: `worldlm node start` in each folder. The first node's address is all that the others are given.
 *
 * No orphans: a node stops when its standard input closes, so it ends with the testnet however that ends.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { WorldlmError } from '../src/errors.ts'
import type { PeerName } from '../src/ids.ts'
import type { NodeFolder } from '../src/node/folder.ts'
import type { PlannedNode } from './plan.ts'
import { type Prepared, setOption } from './prepare.ts'

/** A node that has not told its address by then has failed. */
const startTimeoutMs = 60_000
/** Whom a node that is started again is given to begin with. */
const bootstrapMax = 3

/** An organization's node: one process after another, in the same folder. */
export interface TestnetNode {
  plan: PlannedNode
  folder: NodeFolder
  peer: PeerName
  /** Null until it is started for the first time. */
  process: ChildProcess | null
  /** Of the process that runs. */
  api: string
  addresses: string[]
  /** When that was started, in milliseconds since 1970. */
  startedAtMs: number
  /** Set when its process has ended. */
  ended: { code: number | null; signal: NodeJS.Signals | null } | null
  /** SIGSTOP was sent. */
  paused: boolean
  /** A scenario ends it, or has it ended: its end is no loss. */
  endPlanned: boolean
}

export const isRunning = (node: TestnetNode): boolean => node.process !== null && node.ended === null

export function createNode({ plan, folder, peer }: Prepared): TestnetNode {
  return {
    plan,
    folder,
    peer,
    process: null,
    api: '',
    addresses: [],
    startedAtMs: 0,
    ended: null,
    paused: false,
    endPlanned: false
  }
}

/** Starts the first node, then all others with its address. @throws {WorldlmError} NODE_FAILED, with its last words. */
export async function spawnNodes(nodes: TestnetNode[], onEnd: (node: TestnetNode) => void, signal: AbortSignal): Promise<void> {
  const [first, ...rest] = nodes
  try {
    spawnNode(first!, onEnd)
    await ready(first!, signal)
    for (const node of rest) {
      setOption(node.folder, 'bootstrap', first!.addresses.slice(0, 1))
      spawnNode(node, onEnd)
    }
    await Promise.all(nodes.map(node => ready(node, signal)))
  } catch (error) {
    await stopNodes(nodes)
    throw error
  }
}

/**
 * Starts a node later than the others, or again: at the address that it had, with `known` of `others` to begin with.
 * @throws {WorldlmError} NODE_FAILED
 */
export async function startAgain(
  node: TestnetNode,
  others: TestnetNode[],
  onEnd: (node: TestnetNode) => void,
  signal: AbortSignal,
  known = bootstrapMax
): Promise<void> {
  const living = others.filter(one => one !== node && isRunning(one) && one.addresses.length > 0)
  if (living.length > 0)
    setOption(
      node.folder,
      'bootstrap',
      living.slice(0, known).flatMap(one => one.addresses.slice(0, 1))
    )
  const port = /^\/ip4\/127\.0\.0\.1\/tcp\/(\d+)/.exec(node.addresses[0] ?? '')?.[1]
  if (port !== undefined) setOption(node.folder, 'listen', [`/ip4/127.0.0.1/tcp/${port}`])
  spawnNode(node, onEnd)
  await ready(node, signal)
}

function spawnNode(node: TestnetNode, onEnd: (node: TestnetNode) => void): void {
  const main = fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? '../src/cli/main.ts' : '../src/cli/main.js', import.meta.url)
  )
  // Many nodes on few cores: collecting garbage on several threads at once is more work, and nobody has a core left for it.
  const child = spawn(process.execPath, ['--single-threaded-gc', main, 'node', 'start', '--dir', node.folder.root], {
    stdio: ['pipe', 'ignore', 'pipe'],
    // Its own process group: Ctrl-C reaches the testnet, which stops its nodes in order.
    detached: true,
    env: { ...process.env, WORLDLM_EXIT_WITH_PARENT: '1' }
  })
  Object.assign(node, { process: child, api: '', startedAtMs: Date.now(), ended: null, paused: false, endPlanned: false })
  child.stderr?.on('data', chunk => keepWords(node, chunk))
  child.stdin?.on('error', () => undefined)
  child.on('exit', (code, endSignal) => {
    if (node.process !== child) return
    node.ended = { code, signal: endSignal }
    child.stdin?.destroy()
    onEnd(node)
  })
}

function keepWords({ folder }: TestnetNode, chunk: Buffer): void {
  try {
    appendFileSync(join(folder.root, 'stderr.log'), chunk)
  } catch {
    // Its disk is full, on purpose; the same is in node.log's last lines, or nowhere.
  }
}

async function ready(node: TestnetNode, signal: AbortSignal): Promise<void> {
  for (const began = Date.now(); Date.now() - began < startTimeoutMs; ) {
    signal.throwIfAborted()
    if (node.ended !== null) break
    const run = node.folder.running()
    if (run !== null && run.api !== '' && run.pid === node.process?.pid) {
      node.api = run.api
      node.addresses = run.addresses
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

/** The end of what it wrote to its standard error. */
export function lastWords({ folder }: TestnetNode): string {
  const path = join(folder.root, 'stderr.log')
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').slice(-3).join(' / ') : 'it said nothing'
}

/** SIGTERM to all, SIGKILL to who is still there after a while. @returns when no process is left. */
export async function stopNodes(nodes: TestnetNode[], graceMs = 8_000): Promise<void> {
  const living = nodes.filter(isRunning)
  for (const node of living) {
    if (node.paused) node.process?.kill('SIGCONT')
    node.process?.kill('SIGTERM')
  }
  const gone = () => living.every(node => node.ended !== null)
  for (const began = Date.now(); !gone() && Date.now() - began < graceMs; ) await sleep(50)
  for (const node of living) if (node.ended === null) node.process?.kill('SIGKILL')
  for (const began = Date.now(); !gone() && Date.now() - began < 2_000; ) await sleep(20)
  for (const node of nodes) node.process?.stdin?.destroy()
}
