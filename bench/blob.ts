/**
 * The blob exchange, from disk to disk, every chunk hashed. Command: `worldlm bench blob`. Goals (issue 4):
 *
 *   two processes on loopback     ≥ 0.25 of a raw socket, which does nothing with what it carries
 *   one holder → 8 receivers      the holder uploads ≤ 2 copies
 *   the same at 100 Mbit/s        ≤ 0.4 of the time that 8 copies from one holder take, which is computed: 8 × bytes / uplink
 *   50 ms round trip, 1 Gbit/s    ≥ 0.8 of the link
 *
 * Uplinks are held by the exchange's own limit (`network.uploadBytesPerSecond`); the long link is a proxy of ours between the two processes
 * (testnet/pipe.ts): it delays and paces bytes, but TCP's own windows see loopback.
 */
import { connect } from 'node:net'
import { WorldlmError } from '../src/errors.ts'
import { openBenchFolder, removeBenchFolder } from './bench-folder.ts'
import { BlobProcess, slowLink } from './blob-process.ts'
import { type BenchReport, type BenchResult, benchReport, median } from './report.ts'

export interface BlobBenchOptions {
  /** Of the blob between two; to 8 receivers goes a quarter of it. */
  megabytes?: number
  /** On loopback; over the long link, where one is much like another, less than half. */
  turns?: number
  onProgress?: (line: string) => void
}

/** Not counted: V8 compiles the exchange meanwhile; the fifth gigabyte goes a fifth faster than the first. */
const warmUpTurns = 4
const receiverProcesses = 2
const receiversPerProcess = 4
const uplinkBytesPerSecond = 12_500_000
const linkBytesPerSecond = 125_000_000
const roundTripMs = 50

export async function benchBlob({
  megabytes = 256,
  turns = 7,
  onProgress = () => undefined
}: BlobBenchOptions = {}): Promise<BenchReport> {
  const folder = openBenchFolder()
  const shared = Math.max(9, Math.round(megabytes / 4))
  try {
    return benchReport('blob', [
      await loopback(folder, megabytes, turns, onProgress),
      ...(await toMany(folder, shared, 0, onProgress)),
      ...(await toMany(folder, shared, uplinkBytesPerSecond, onProgress)),
      await farAway(folder, megabytes, Math.ceil(turns / 3), onProgress)
    ])
  } finally {
    removeBenchFolder(folder)
  }
}

async function loopback(
  folder: string,
  megabytes: number,
  turns: number,
  onProgress: (line: string) => void
): Promise<BenchResult> {
  const bytes = megabytes * 1_000_000
  const [holder, receiver] = [await BlobProcess.start(folder), await BlobProcess.start(folder)]
  try {
    const { blob, rawPort } = await holder.ask({ ask: 'make', bytes })
    await receiver.meet(holder)
    const [pulled, raw]: [number[], number[]] = [[], []]
    for (let turn = 1 - warmUpTurns; turn <= turns; turn++) {
      const exchange = megabytes / (await pull(receiver, blob, holder, bytes))
      const began = performance.now()
      await readRaw(rawPort, bytes)
      const socket = megabytes / ((performance.now() - began) / 1000)
      if (turn < 1) continue
      pulled.push(exchange)
      raw.push(socket)
      onProgress(`turn ${turn} of ${turns}: exchange ${Math.round(exchange)} MB/s, raw socket ${Math.round(socket)} MB/s`)
    }
    const [value, baseline] = [median(pulled), median(raw)]
    return {
      case: `${megabytes} MB between two processes, beside a raw socket`,
      value,
      unit: 'MB/s',
      baseline,
      ratio: value / baseline
    }
  } finally {
    await Promise.all([holder.stop(), receiver.stop()])
  }
}

/** Pulls, checks, forgets. @returns seconds. */
async function pull(receiver: BlobProcess, blob: string, holder: BlobProcess, bytes: number): Promise<number> {
  const { seconds, bytes: received } = await receiver.ask({ ask: 'pull', blob, holders: holder.peers.map(({ peer }) => peer) })
  if (received < bytes) throw new WorldlmError('BENCH_WRONG', `${received} bytes arrived of ${bytes}`, 'Run the tests.')
  await receiver.ask({ ask: 'forget', blob })
  return seconds
}

/** @param limit - bytes a second that each peer may send; 0: none. */
async function toMany(
  folder: string,
  megabytes: number,
  limit: number,
  onProgress: (line: string) => void
): Promise<BenchResult[]> {
  const bytes = megabytes * 1_000_000
  const count = receiverProcesses * receiversPerProcess
  const holder = await BlobProcess.start(folder, 1, limit)
  const receivers = await Promise.all(
    Array.from({ length: receiverProcesses }, () => BlobProcess.start(folder, receiversPerProcess, limit))
  )
  try {
    const { blob } = await holder.ask({ ask: 'make', bytes })
    for (const receiver of receivers) await receiver.meet(holder)
    const all = await Promise.all(receivers.map(receiver => pull(receiver, blob, holder, bytes * receiversPerProcess)))
    const seconds = Math.max(...all)
    const copies = (await holder.ask({ ask: 'sent' })) / bytes
    const how = limit === 0 ? '' : ', every uplink 100 Mbit/s'
    onProgress(
      `${megabytes} MB to ${count} receivers${how}: ${seconds.toFixed(1)} s, the holder sent ${copies.toFixed(2)} copies`
    )
    const sent = {
      case: `copies that the holder sent of ${megabytes} MB to ${count} receivers${how}`,
      value: copies,
      unit: 'copies'
    }
    if (limit === 0) return [sent]
    const baseline = (count * bytes) / limit
    const last = { case: `last of ${count} receivers done${how}; beside ${count} copies from one`, value: seconds, unit: 's' }
    return [sent, { ...last, baseline, ratio: seconds / baseline }]
  } finally {
    await Promise.all([holder, ...receivers].map(one => one.stop()))
  }
}

async function farAway(
  folder: string,
  megabytes: number,
  turns: number,
  onProgress: (line: string) => void
): Promise<BenchResult> {
  const bytes = megabytes * 1_000_000
  const [holder, receiver] = [await BlobProcess.start(folder), await BlobProcess.start(folder)]
  const { peer, addresses } = holder.peers[0]!
  const port = Number(/\/tcp\/(\d+)/.exec(addresses[0]!)?.[1])
  const link = await slowLink(port, { latencyMs: roundTripMs / 2, bytesPerSecond: linkBytesPerSecond, loss: 0 })
  try {
    const { blob } = await holder.ask({ ask: 'make', bytes })
    await receiver.ask({ ask: 'learn', peer, addresses: [`/ip4/127.0.0.1/tcp/${link.port}`] })
    const speeds: number[] = []
    for (let turn = 1; turn <= turns; turn++) {
      const speed = megabytes / (await pull(receiver, blob, holder, bytes))
      speeds.push(speed)
      onProgress(`${roundTripMs} ms and 1 Gbit/s, turn ${turn} of ${turns}: ${Math.round(speed)} MB/s`)
    }
    const [value, baseline] = [median(speeds), linkBytesPerSecond / 1e6]
    const name = `${megabytes} MB over ${roundTripMs} ms round trip and 1 Gbit/s (a proxy), beside the link`
    return { case: name, value, unit: 'MB/s', baseline, ratio: value / baseline }
  } finally {
    link.close()
    await Promise.all([holder.stop(), receiver.stop()])
  }
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
