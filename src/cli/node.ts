/** `worldlm node init | status | stop | logs`. */
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, statSync, watchFile } from 'node:fs'
import { relative, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldlmError } from '../errors.ts'
import { shellWord } from '../shell-word.ts'
import { parseAddress } from '../net/address.ts'
import { NodeFolder, type RunFile } from '../node/folder.ts'
import { initNodeFolder } from '../node/genesis.ts'
import type { NodeStatus } from '../node/status.ts'
import type { Output } from './output.ts'
import { table } from './table.ts'

export async function initNode(
  options: { dir: string; name: string; data?: string; listen?: string[]; bootstrap?: string[]; apiPort?: number },
  output: Output
): Promise<void> {
  const folder = new NodeFolder(options.dir)
  if (options.data !== undefined && statSync(options.data, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new WorldlmError('DATA_MISSING', `${options.data} is no folder`, 'Name the folder of the organization’s text.')
  for (const address of [...(options.listen ?? []), ...(options.bootstrap ?? [])]) parseAddress(address)
  const given = {
    name: options.name,
    ...(options.data === undefined ? {} : { data: relative(folder.root, resolve(options.data)) }),
    ...(options.listen === undefined ? {} : { listen: options.listen }),
    ...(options.bootstrap === undefined ? {} : { bootstrap: options.bootstrap }),
    ...(options.apiPort === undefined ? {} : { api: { port: options.apiPort } })
  }
  const peer = await initNodeFolder(folder, given)
  output.line(`${folder.root} is the node of ${options.name}: peer ${peer}`)
  output.line(`Next: worldlm federation create --dir ${shellWord(options.dir)} --name world    (or: federation join ID)`)
  output.line(`Then: worldlm node start --dir ${shellWord(options.dir)}`)
  output.document({ dir: folder.root, peer })
}

/** @throws {WorldlmError} NODE_NOT_RUNNING */
function runningNode(dir: string): { folder: NodeFolder; run: RunFile } {
  const folder = new NodeFolder(dir)
  folder.prepare()
  const run = folder.running()
  if (run === null || run.api === '')
    throw new WorldlmError(
      'NODE_NOT_RUNNING',
      `no node runs in ${folder.root}`,
      `Start it: worldlm node start --dir ${shellWord(dir)}`
    )
  return { folder, run }
}

export async function fetchStatus(dir: string): Promise<NodeStatus> {
  const { run } = runningNode(dir)
  try {
    return (await (await fetch(`${run.api}/v1/status`)).json()) as NodeStatus
  } catch (cause) {
    throw new WorldlmError('NODE_NOT_RUNNING', `the node in ${dir} does not answer on ${run.api}`, 'See node.log.', { cause })
  }
}

export async function statusOfNode({ dir }: { dir: string }, output: Output): Promise<void> {
  const status = await fetchStatus(dir)
  const { organization, peer, phase, training, evaluations, bytes } = status
  output.line(`${organization.name}  ${peer}  ${phase}`)
  if (training !== null)
    output.line(
      `training round ${training.round}: step ${training.step}/${training.steps}, loss ${training.loss.toFixed(3)}, ${Math.round(training.tokensPerSecond)} tokens/s`
    )
  for (const [model, { round, perplexity, bitsPerByte }] of Object.entries(evaluations))
    output.line(`${model} model, round ${round}: perplexity ${perplexity.toFixed(3)}, ${bitsPerByte.toFixed(3)} bits/byte`)
  output.line(`blobs: ${(bytes.in / 1e6).toFixed(1)} MB in, ${(bytes.out / 1e6).toFixed(1)} MB out`)
  output.line(
    table(
      ['federation', 'role', 'round', 'term', 'aggregator', 'members'],
      status.federations.map(one => [
        one.path,
        one.role,
        `${one.round}${one.rounds > 0 ? `/${one.rounds}` : ''}`,
        String(one.term),
        one.aggregator === peer ? 'this node' : (one.aggregator?.slice(-6) ?? '–'),
        one.members.map(member => `${member.name}${member.present ? '' : ' (absent)'}`).join(', ')
      ])
    )
  )
  for (const { path, leaving, leavingWaitsFor } of status.federations)
    if (leaving)
      output.line(
        leavingWaitsFor.length === 0
          ? `leaving ${path}: waits until the others certify it`
          : `leaving ${path}: certified; waits until ${leavingWaitsFor.join(', ')} shows that it knows`
      )
  output.document(status)
}

export async function stopNode({ dir }: { dir: string }, output: Output): Promise<void> {
  const { folder, run } = runningNode(dir)
  try {
    await fetch(`${run.api}/v1/stop`, { method: 'POST', headers: { authorization: `Bearer ${folder.token()}` } })
  } catch {
    process.kill(run.pid, 'SIGTERM')
  }
  for (let tries = 0; tries < 150; tries++) {
    if (folder.running() === null) {
      output.line(`the node in ${folder.root} has stopped`)
      output.document({ stopped: true, pid: run.pid })
      return
    }
    await sleep(100)
  }
  throw new WorldlmError(
    'NODE_NOT_STOPPED',
    `process ${run.pid} still runs after 15 s`,
    `See ${folder.log}; kill ${run.pid} ends it, and loses nothing that was certified.`
  )
}

export async function showLogs(
  { dir, follow, lines }: { dir: string; follow?: boolean; lines: number },
  output: Output
): Promise<void> {
  const folder = new NodeFolder(dir)
  folder.prepare()
  if (!existsSync(folder.log)) throw new WorldlmError('LOG_MISSING', `${folder.log} is not there`, 'The node has not run yet.')
  if (follow === true && output.json)
    throw new WorldlmError('USAGE', '--follow with --json', 'Its end is never reached. Without --json each line is a document.')
  const newest = linesOf(folder.log)
  const text = [...(newest.length < lines ? linesOf(`${folder.log}.1`) : []), ...newest].slice(-lines)
  for (const line of text) output.line(line)
  output.document(text.map(asDocument))
  if (follow !== true) return
  process.stdout.on('error', () => process.exit())
  let offset = statSync(folder.log).size
  const more = (path: string) => {
    const bytes = readFrom(path, offset)
    offset += bytes.length
    process.stdout.write(bytes)
  }
  watchFile(folder.log, { interval: 300 }, ({ ino }, before) => {
    // A file that got too long made room for another: first what came into it at last.
    if (ino !== before.ino) {
      more(`${folder.log}.1`)
      offset = 0
    }
    more(folder.log)
  })
}

const linesOf = (path: string): string[] =>
  existsSync(path)
    ? readFileSync(path, 'utf8')
        .split('\n')
        .filter(line => line !== '')
    : []

function readFrom(path: string, offset: number): Uint8Array {
  if (!existsSync(path)) return new Uint8Array()
  const fd = openSync(path, 'r')
  const bytes = Buffer.alloc(Math.max(0, fstatSync(fd).size - offset))
  const read = readSync(fd, bytes, 0, bytes.length, offset)
  closeSync(fd)
  return bytes.subarray(0, read)
}

/** A line that a crash has torn is text. */
function asDocument(line: string): unknown {
  try {
    return JSON.parse(line) as unknown
  } catch {
    return line
  }
}
