/** The command line as a process, as a user starts it. What a test starts is gone when the test is over. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { writeTree } from '../temporary.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** A model that trains in no time. */
export const microYaml = `
model: { layers: 2, width: 16, hidden: 32, heads: 2, context: 32, vocabulary: 256 }
algorithm: { batch: 2, warmupSteps: 0 }
`
export const microModel = (): string => join(writeTree({ 'micro.yaml': microYaml }), 'micro.yaml')

const running = new Set<Command>()
/** For `afterEach`: nothing survives a test, however it ends. */
export async function stopAll(): Promise<void> {
  for (const command of running) command.kill('SIGKILL')
  await Promise.all([...running].map(command => command.ended))
}

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export class Command {
  stdout = ''
  stderr = ''
  readonly ended: Promise<Ended>
  readonly #child: ChildProcess

  /** @param limit - a flag of the shell's `ulimit` and its value. */
  constructor(args: string[], environment: Record<string, string> = {}, limit: string | null = null) {
    const command = [process.execPath, main, ...args]
    const [program, ...given] = limit === null ? command : ['sh', '-c', `ulimit ${limit}; exec "$@"`, 'sh', ...command]
    this.#child = spawn(program!, given, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment }
    })
    this.#child.stdout!.on('data', chunk => (this.stdout += chunk))
    this.#child.stderr!.on('data', chunk => (this.stderr += chunk))
    running.add(this)
    this.ended = once(this.#child, 'close').then(([code, signal]) => {
      running.delete(this)
      return { code, signal, stdout: this.stdout, stderr: this.stderr }
    })
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** As `| head` does once it has its lines. */
  closeStdout(): void {
    this.#child.stdout!.destroy()
  }

  /** Resolves with the match once the output has it. @throws if the command ends before, with what it said. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    let over = false
    void this.ended.then(() => {
      over = true
    })
    for (;;) {
      const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr)
      if (match !== null) return match
      if (over) throw new Error(`it ended without saying ${pattern}:\n${this.stdout}\n${this.stderr}`)
      await sleep(20)
    }
  }
}

export const run = (args: string[], environment: Record<string, string> = {}): Promise<Ended> =>
  new Command(args, environment).ended

/** Process of the node in each folder of a testnet's --out, while it runs. */
export function nodePids(out: string): Map<string, number> {
  const pids = new Map<string, number>()
  for (const name of existsSync(out) ? readdirSync(out) : []) {
    const path = join(out, name, 'run.json')
    if (existsSync(path)) pids.set(name, (JSON.parse(readFileSync(path, 'utf8')) as { pid: number }).pid)
  }
  return pids
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
