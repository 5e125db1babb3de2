/**
 * A few real nodes of one federation, each a process of `worldlm node start`, with a model so small that a round takes a second.
 * What they did is read from their folders afterwards, as `worldlm audit verify` and the testnet's invariants read it.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Update } from '../../src/federation/entry.ts'
import type { FederationId, PeerName } from '../../src/ids.ts'
import { addFederation } from '../../src/node/config-file.ts'
import { verifyPaths } from '../../src/node/audit.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { type Genesis, initNodeFolder, writeCharter } from '../../src/node/genesis.ts'
import type { NodeStatus } from '../../src/node/status.ts'
import { readUpdate } from '../../src/wire/certified-log.ts'
import { checkInvariants } from '../../testnet/checks/invariants.ts'
import { loadRecords } from '../../testnet/checks/records.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** Machines that run tests are slow and busy; nothing here waits so long unless it has failed. */
const patienceMs = 180_000

export interface TestNode {
  name: string
  folder: NodeFolder
  peer: PeerName
  process: ChildProcess | null
  /** How its last process ended. */
  ended: { code: number | null; signal: NodeJS.Signals | null } | null
}

const charterOf = (overrides: Record<string, unknown>) => ({
  name: 'world',
  model: { layers: 1, width: 8, hidden: 16, heads: 2, context: 32, vocabulary: 256 },
  startMembers: 3,
  ...overrides,
  algorithm: { rounds: 0, steps: 2, batch: 2, ...(overrides.algorithm as object | undefined) },
  timings: {
    electionTimeoutMs: 1500,
    heartbeatMs: 300,
    presenceMs: 500,
    deadlineMs: 15_000,
    parentTimeoutMs: 6_000,
    startTimeoutMs: 60_000,
    ...(overrides.timings as object | undefined)
  }
})

export class Cluster {
  readonly root = mkdtempSync(join(tmpdir(), 'worldlm-cluster-'))
  readonly nodes = new Map<string, TestNode>()
  readonly federations = new Map<string, Genesis>()

  /** @param names - of the nodes; the first founds the federation `world`, which all join. */
  static async create(names: string[], charter: Record<string, unknown> = {}): Promise<Cluster> {
    const cluster = new Cluster()
    for (const name of names) await cluster.add(name)
    cluster.found(names[0]!, charter)
    for (const name of names) cluster.join(name, 'world')
    return cluster
  }

  get id(): FederationId {
    return this.federations.get('world')!.id
  }

  async add(name: string): Promise<TestNode> {
    const folder = new NodeFolder(join(this.root, name))
    mkdirSync(join(folder.root, 'text'), { recursive: true })
    writeFileSync(join(folder.root, 'text', 'train.txt'), `${name} trains. `.repeat(1500))
    writeFileSync(join(folder.root, 'text', 'valid.txt'), `${name} validates. `.repeat(100))
    const peer = await initNodeFolder(folder, {
      name,
      data: 'text',
      listen: ['/ip4/127.0.0.1/tcp/0'],
      api: { port: 0 },
      engine: { name: 'reference', threads: 1 },
      validationTokens: 64
    })
    const node: TestNode = { name, folder, peer, process: null, ended: null }
    this.nodes.set(name, node)
    return node
  }

  found(founder: string, charter: Record<string, unknown>, parent: string | null = null): Genesis {
    const given = parent === null ? null : this.federations.get(parent)!
    const genesis = writeCharter(this.node(founder).folder, charterOf(charter), given)
    this.federations.set(genesis.charter.path, genesis)
    return genesis
  }

  join(name: string, path: string): void {
    addFederation(this.node(name).folder.config, this.federations.get(path)!.id, 'organization', [])
  }

  node(name: string): TestNode {
    const found = this.nodes.get(name)
    assert.ok(found !== undefined, `there is no node ${name}`)
    return found
  }

  nameOf(peer: PeerName | null): string | null {
    return [...this.nodes.values()].find(one => one.peer === peer)?.name ?? peer
  }

  living(): TestNode[] {
    return [...this.nodes.values()].filter(({ process }) => process !== null)
  }

  /** Starts a node and waits until it listens. It is given the addresses of those that run. */
  async start(name: string, environment: Record<string, string> = {}): Promise<TestNode> {
    const node = this.node(name)
    const addresses = this.living().flatMap(({ folder }) => folder.running()?.addresses ?? [])
    const args = [main, 'node', 'start', '--dir', node.folder.root, '--set', `bootstrap=${JSON.stringify(addresses)}`]
    const child = spawn(process.execPath, args, {
      stdio: ['pipe', 'ignore', 'pipe'],
      env: { ...process.env, ...environment, WORLDLM_EXIT_WITH_PARENT: '1' }
    })
    node.process = child
    node.ended = null
    child.stdin?.on('error', () => undefined)
    child.stderr?.on('data', chunk => appendFileSync(join(node.folder.root, 'stderr.log'), chunk))
    child.on('exit', (code, signal) => {
      if (node.process === child) node.process = null
      node.ended = { code, signal }
    })
    await this.until(`${name} listens`, async () => node.ended !== null || (node.folder.running()?.api ?? '') !== '')
    return node
  }

  async startAll(environments: Record<string, Record<string, string>> = {}): Promise<void> {
    const [first, ...rest] = [...this.nodes.keys()]
    await this.start(first!, environments[first!])
    await Promise.all(rest.map(name => this.start(name, environments[name])))
  }

  async kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.node(name).process?.kill(signal)
    await this.ended(name)
  }

  async ended(name: string): Promise<TestNode> {
    const node = this.node(name)
    await this.until(`${name} ends`, async () => node.process === null && node.ended !== null)
    return node
  }

  /** Everything but the identity, the configuration and the text is lost. */
  emptyDisk(name: string): void {
    const { folder } = this.node(name)
    const lost = [
      'certified.car',
      'consensus',
      'charters',
      'blobs',
      'models',
      'participation.json',
      'records.jsonl',
      'run.json'
    ]
    for (const one of lost) rmSync(join(folder.root, one), { recursive: true, force: true })
  }

  copyFolder(name: string, as: string): TestNode {
    const { folder, peer } = this.node(name)
    const root = join(this.root, as)
    cpSync(folder.root, root, { recursive: true })
    rmSync(join(root, 'run.json'), { force: true })
    const copy: TestNode = { name: as, folder: new NodeFolder(root), peer, process: null, ended: null }
    this.nodes.set(as, copy)
    return copy
  }

  /** An earlier copy of a folder takes its place. */
  putBack(copy: string, name: string): void {
    const { folder } = this.node(name)
    rmSync(folder.root, { recursive: true })
    cpSync(this.node(copy).folder.root, folder.root, { recursive: true })
    this.nodes.delete(copy)
    rmSync(join(this.root, copy), { recursive: true })
  }

  async status(name: string): Promise<NodeStatus | null> {
    const api = this.node(name).folder.running()?.api ?? ''
    if (api === '') return null
    try {
      return (await (await fetch(`${api}/v1/status`, { signal: AbortSignal.timeout(5_000) })).json()) as NodeStatus
    } catch {
      return null
    }
  }

  async federation(name: string, path = 'world') {
    return (await this.status(name))?.federations.find(one => one.path === path) ?? null
  }

  async round(name: string, path = 'world'): Promise<number> {
    return (await this.federation(name, path))?.round ?? 0
  }

  /** The update that a node has announced, or is about to, and that no round has settled: as it is on its disk. */
  pending(name: string): Update | null {
    const path = this.node(name).folder.participation
    const { pending } = JSON.parse(existsSync(path) ? readFileSync(path, 'utf8') : '{}') as {
      pending?: { signed: string } | null
    }
    return pending == null ? null : (readUpdate(Buffer.from(pending.signed, 'base64'))?.update ?? null)
  }

  async until(what: string, holds: () => Promise<boolean>, limitMs = patienceMs): Promise<void> {
    for (const began = Date.now(); Date.now() - began < limitMs; await sleep(100)) if (await holds()) return
    throw new Error(`not within ${limitMs / 1000} s: ${what}\n${await this.describe()}`)
  }

  /** All of `names` know a round at least as new. */
  async untilRound(round: number, names: string[], path = 'world'): Promise<void> {
    await this.until(`${names} at round ${round} of ${path}`, async () => {
      const rounds = await Promise.all(names.map(name => this.round(name, path)))
      return rounds.every(reached => reached >= round)
    })
  }

  /** So many voters in the eyes of all of `names`: until they are all there, a federation of some dies with one. */
  async untilVoters(count: number, names: string[], path = 'world'): Promise<void> {
    await this.until(`${count} voters of ${path}`, async () => {
      const seen = await Promise.all(names.map(name => this.federation(name, path)))
      return seen.every(one => one !== null && one.voters.length === count)
    })
  }

  /** As a person would at the terminal. @returns its document, or its error. */
  async cli(...args: string[]): Promise<{ code: number | null; document: Record<string, unknown> }> {
    const child = spawn(process.execPath, [main, ...args, '--json'], { stdio: ['ignore', 'pipe', 'ignore'] })
    let text = ''
    child.stdout.on('data', chunk => (text += chunk))
    const code = await new Promise<number | null>(resolve => child.on('close', resolve))
    return { code, document: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) }
  }

  /** Lines of a node's log, as they were written. */
  log(name: string): Record<string, unknown>[] {
    const path = this.node(name).folder.log
    const lines = existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : []
    return lines.flatMap(line => {
      try {
        return [JSON.parse(line) as Record<string, unknown>]
      } catch {
        return []
      }
    })
  }

  /** Of all nodes' records and certified logs: the invariants hold, and every certificate does. */
  async check(): Promise<void> {
    const folders = [...this.nodes.values()].map(({ name, peer, folder }) => ({ name, voter: peer, root: folder.root }))
    const founders = new Map([...this.federations.values()].map(one => [one.id, one.charter.founders]))
    assert.deepEqual(checkInvariants(await loadRecords(folders), founders), [])
    const { faults } = await verifyPaths(
      folders.filter(({ root }) => existsSync(join(root, 'certified.car'))).map(({ root }) => root)
    )
    assert.deepEqual(faults, [])
  }

  async describe(): Promise<string> {
    const lines = [...this.nodes.keys()].map(async name => {
      const { ended, process: child, folder } = this.node(name)
      const status = await this.status(name)
      const federations = (status?.federations ?? []).map(
        one =>
          `${one.path}: round ${one.round}, index ${one.index}, term ${one.term}, aggregator ${this.nameOf(one.aggregator)}, ` +
          `${one.phase}, voters ${one.voters.map(peer => this.nameOf(peer))}, members ${one.members.map(member => `${member.name}${member.present ? '' : '?'}`)}`
      )
      const stderr = existsSync(join(folder.root, 'stderr.log'))
        ? readFileSync(join(folder.root, 'stderr.log'), 'utf8').slice(-500)
        : ''
      return `${name} (${child === null ? `ended ${JSON.stringify(ended)}` : status?.phase}): ${federations.join('; ')} ${stderr}`
    })
    return (await Promise.all(lines)).join('\n')
  }

  /** Ends all processes; removes the folders unless the test failed. */
  async close(keep = false): Promise<void> {
    for (const { process: child } of this.living()) child?.kill('SIGKILL')
    await Promise.all(this.living().map(({ name }) => this.ended(name)))
    if (keep) process.stderr.write(`kept: ${this.root}\n`)
    else rmSync(this.root, { recursive: true, force: true })
  }
}

/** Runs `story` on a cluster, checks it, and ends every process however it went. */
export async function withCluster(cluster: Cluster, story: (cluster: Cluster) => Promise<void>): Promise<void> {
  let failed = true
  try {
    await story(cluster)
    await Promise.all(cluster.living().map(({ name }) => cluster.kill(name, 'SIGTERM')))
    await cluster.check()
    failed = false
  } finally {
    await cluster.close(failed)
  }
}
