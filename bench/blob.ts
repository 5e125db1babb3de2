/**
 * The blob exchange between two processes on loopback, from disk to disk, every chunk hashed; beside a raw socket between two
 * processes, which does nothing with what it carries. Goal: ratio ≥ 0.2. Command: `worldlm bench blob`.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { WorldlmError } from '../src/errors.ts'
import { BlobExchange } from '../src/net/blob-exchange.ts'
import { createIdentity, Host } from '../src/net/host.ts'
import { Blobs } from '../src/node/blobs.ts'
import { Random } from '../src/math/random.ts'
import { type BenchReport, benchReport, median } from './report.ts'

export interface BlobBenchOptions {
  megabytes?: number
  turns?: number
  onProgress?: (line: string) => void
}

export async function benchBlob({ megabytes = 256, turns = 3, onProgress }: BlobBenchOptions = {}): Promise<BenchReport> {
  const folder = mkdtempSync(join(tmpdir(), 'worldlm-bench-'))
  const bytes = megabytes * 1_000_000
  writeRandom(join(folder, 'source'), bytes)
  const child = fork(
    fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './blob-holder.ts' : './blob-holder.js', import.meta.url)),
    [folder, String(bytes)]
  )
  const host = await Host.start({
    identity: await createIdentity(),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    bootstrap: [],
    mdns: false,
    onWarning: () => undefined
  })
  try {
    const { link, peer, addresses, port } = await answer(child)
    await host.learn(peer, addresses)
    const { blobs } = await Blobs.open(join(folder, 'received'))
    const exchange = await BlobExchange.start({ host, store: blobs, allow: () => true, onLiar: () => undefined })
    const [pulled, raw]: [number[], number[]] = [[], []]
    for (let turn = 0; turn <= turns; turn++) {
      blobs.remove(link)
      let began = performance.now()
      await exchange.pull(link, [peer])
      const pullSeconds = (performance.now() - began) / 1000
      if (blobs.bytes(link) !== bytes)
        throw new WorldlmError('BENCH_WRONG', `${blobs.bytes(link)} bytes arrived of ${bytes}`, 'Run the tests.')
      began = performance.now()
      await readRaw(port, bytes)
      const rawSeconds = (performance.now() - began) / 1000
      // The first turn warms both up.
      if (turn === 0) continue
      pulled.push(bytes / 1e6 / pullSeconds)
      raw.push(bytes / 1e6 / rawSeconds)
      onProgress?.(
        `turn ${turn} of ${turns}: exchange ${Math.round(pulled.at(-1)!)} MB/s, raw socket ${Math.round(raw.at(-1)!)} MB/s`
      )
    }
    const [value, baseline] = [median(pulled), median(raw)]
    return benchReport('blob', [
      {
        case: `${megabytes} MB between two processes, disk to disk, hashed`,
        value,
        unit: 'MB/s',
        baseline,
        ratio: value / baseline
      }
    ])
  } finally {
    await host.stop()
    child.disconnect()
    rmSync(folder, { recursive: true, force: true })
  }
}

function writeRandom(path: string, bytes: number): void {
  const random = new Random('blob')
  const block = new Uint32Array(Math.ceil(Math.min(bytes, 1_000_000) / 4))
  for (let place = 0; place < block.length; place++) block[place] = random.uint32()
  const whole = Buffer.alloc(bytes)
  for (let offset = 0; offset < bytes; offset += block.byteLength) Buffer.from(block.buffer).copy(whole, offset)
  writeFileSync(path, whole)
}

function answer(child: ChildProcess): Promise<{ link: string; peer: string; addresses: string[]; port: number }> {
  return new Promise((resolve, reject) => {
    child.once('message', message => resolve(message as never))
    child.once('exit', code =>
      reject(new WorldlmError('BENCH_FAILED', `the holder ended with code ${code}`, 'See the lines above.'))
    )
  })
}

function readRaw(port: number, bytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let received = 0
    const socket = connect(port, '127.0.0.1')
    socket.on('data', chunk => {
      received += chunk.length
      if (received >= bytes) {
        socket.destroy()
        resolve()
      }
    })
    socket.on('error', reject)
  })
}
