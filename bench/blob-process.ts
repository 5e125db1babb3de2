/** The blob benchmark's processes and its slow link, as its own process sees them. */
import { type ChildProcess, fork } from 'node:child_process'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { WorldlmError } from '../src/errors.ts'
import { Random } from '../src/math/random.ts'
import { type Lane, type LinkCondition, Pipe } from '../testnet/pipe.ts'
import { endWithBench } from './bench-folder.ts'
import type { BlobAnswers, BlobQuestion, PeersStarted } from './blob-holder.ts'

export class BlobProcess {
  readonly peers: PeersStarted['peers']
  readonly #child: ChildProcess

  private constructor(child: ChildProcess, { peers }: PeersStarted) {
    this.#child = child
    this.peers = peers
  }

  /** @param count - peers in the process. @param uploadBytesPerSecond - of each; 0: no limit. */
  static async start(folder: string, count = 1, uploadBytesPerSecond = 0): Promise<BlobProcess> {
    const script = import.meta.url.endsWith('.ts') ? './blob-holder.ts' : './blob-holder.js'
    const child = fork(fileURLToPath(new URL(script, import.meta.url)), [folder, String(count), String(uploadBytesPerSecond)])
    endWithBench(() => (child.exitCode === null ? [child] : []))
    return new BlobProcess(child, (await next(child)) as PeersStarted)
  }

  async ask<Ask extends BlobQuestion['ask']>(question: Extract<BlobQuestion, { ask: Ask }>): Promise<BlobAnswers[Ask]> {
    const answered = next(this.#child)
    this.#child.send(question)
    return (await answered) as BlobAnswers[Ask]
  }

  /** Tells its peers where another process's can be reached. */
  async meet(other: BlobProcess): Promise<void> {
    for (const { peer, addresses } of other.peers) await this.ask({ ask: 'learn', peer, addresses })
  }

  stop(): Promise<void> {
    return new Promise(resolve => {
      if (this.#child.exitCode !== null) return resolve()
      this.#child.once('exit', () => resolve())
      this.#child.disconnect()
    })
  }
}

function next(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new WorldlmError('BENCH_FAILED', why, 'See the lines above.'))
    const onExit = (code: number | null) => fail(`a peer’s process ended with code ${code}`)
    child.once('exit', onExit)
    child.once('message', (message: { answer: unknown } | { failed: string }) => {
      child.off('exit', onExit)
      if ('failed' in message) fail(message.failed)
      else resolve(message.answer)
    })
  })
}

/** A TCP port that leads to another over a slower, longer way (testnet/pipe.ts). Both directions are alike. */
export function slowLink(port: number, condition: LinkCondition): Promise<{ port: number; close: () => void }> {
  const lane = (label: string): Lane => ({ condition, cut: false, freeAt: 0, random: new Random(label) })
  const [there, back] = [lane('there'), lane('back')]
  const sockets = new Set<Socket>()
  const keep = (socket: Socket): Socket => {
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
    return socket.setNoDelay(true)
  }
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, near => {
    keep(near)
    const reach = (): Socket => {
      const far = keep(connect({ port, host: '127.0.0.1', allowHalfOpen: true }))
      new Pipe(
        far,
        back,
        () => near,
        () => near.destroy()
      )
      return far
    }
    new Pipe(near, there, reach, () => undefined).begin()
  })
  return new Promise(resolve => {
    server.listen(0, '127.0.0.1', () => {
      resolve({
        port: (server.address() as AddressInfo).port,
        close: () => {
          server.close()
          for (const socket of sockets) socket.destroy()
        }
      })
    })
  })
}
