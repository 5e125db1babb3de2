/** `worldlm node start`: the daemon in the foreground, until it is told to stop. */
import { flushCompileCache } from 'node:module'
import { startApi } from '../api/server.ts'
import { readConfig } from '../config.ts'
import { WorldlmError } from '../errors.ts'
import { createLogger, inLog } from '../log.ts'
import { crashAt } from '../node/crash-point.ts'
import { NodeFolder } from '../node/folder.ts'
import { type RunningNode, startNode, version } from '../node/node.ts'
import { onEnding } from './endings.ts'
import { exitCodes, type Output } from './output.ts'

/** A clean stop that takes longer is no stop. */
const stopTimeoutMs = 10_000

export async function startCommand(options: { dir: string; config?: string; set?: string[] }, output: Output): Promise<void> {
  const folder = new NodeFolder(options.dir)
  folder.prepare()
  const config = readConfig(options.config ?? folder.config, process.env, overrides(options.set ?? []))
  // Until it takes part there is nothing to hand over, and what is on disk is whole at any time.
  let end: () => void = () => process.exit(exitCodes.done)
  onEnding(() => end())
  // A testnet that is killed leaves no nodes behind: its end of the pipe closes.
  if (process.env.WORLDLM_EXIT_WITH_PARENT === '1') {
    for (const closed of ['end', 'error']) process.stdin.on(closed, () => end())
    process.stdin.resume()
  }
  folder.lock()
  end = () => {
    folder.unlock()
    process.exit(exitCodes.done)
  }
  const log = createLogger(folder.log, config.logLevel)
  const refuse = (error: unknown) => {
    log.fatal({ error: inLog(error) }, 'not handled')
    output.failure(error instanceof WorldlmError ? error.code : 'INTERNAL', String(error), 'The end of node.log says more.')
    folder.unlock()
    process.exit(exitCodes.failed)
  }
  process.on('unhandledRejection', refuse)
  process.on('uncaughtException', refuse)
  try {
    const at = process.env.WORLDLM_CRASH_AT
    const beforeEffect = at === undefined ? undefined : crashAt(at, () => process.kill(process.pid, 'SIGKILL'))
    const token = folder.token()
    const node = await startNode({ folder, config, log, beforeEffect })
    end = stopping(node)
    let api: Awaited<ReturnType<typeof startApi>> | null = null
    try {
      api = await startApi(node, { ...config.api, token, version })
      folder.writeRun({ pid: process.pid, api: api.address, addresses: node.addresses, peer: node.peer })
      // Now rather than at its end: whoever starts next on this machine, as a testnet's other nodes do, compiles nothing again.
      flushCompileCache()
      log.info({ peer: node.peer, api: api.address, addresses: node.addresses }, 'started')
      output.line(`node ${config.name} (${node.peer}) listens on ${node.addresses.join(', ')}; API ${api.address}`)
      output.document({ name: config.name, peer: node.peer, addresses: node.addresses, api: api.address })
      const error = await node.done
      // Workers and sockets are closed; what a library, standard input or a reader of events still holds open must not keep the process.
      setTimeout(() => process.exit(), 1_000).unref()
      if (error !== null) throw error
    } finally {
      // Whatever went wrong: a node that runs on without its API or its lock is out of anybody's hands.
      await node.stop()
      await api?.close()
    }
  } finally {
    folder.unlock()
  }
}

function stopping(node: RunningNode): () => void {
  let signals = 0
  return () => {
    if (++signals > 1) process.exit(exitCodes.interrupted)
    setTimeout(() => {
      // Not even the end of the process cuts a step short; it would only turn a clean end into a crash.
      if (!node.awaitsStep) process.exit(exitCodes.failed)
    }, stopTimeoutMs).unref()
    void node.stop()
  }
}

function overrides(pairs: string[]): Record<string, unknown> {
  return Object.fromEntries(
    pairs.map(pair => {
      const cut = pair.indexOf('=')
      if (cut < 1) throw new WorldlmError('USAGE', `--set ${pair} is not key=value`, 'Write it like --set engine.threads=1')
      return [pair.slice(0, cut), value(pair.slice(cut + 1))]
    })
  )
}

function value(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
