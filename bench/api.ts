/**
 * Requests a second of a running node's `/v1/status`, and how long one takes; beside a bare node:http server that sends the same bytes, in turns.
 * Command: `worldlm bench api`. The node is one of three that have finished their only round, so that it has something to tell and nothing to do.
 */
import { fork } from 'node:child_process'
import { Agent, get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { WorldlmError } from '../src/errors.ts'
import { type BenchReport, benchReport, median } from './report.ts'
import { openSmallTestnet } from './small-testnet.ts'

export interface ApiBenchOptions {
  turns?: number
  onProgress?: (line: string) => void
}

const connections = 8
const turnMs = 1_000
const giveUpMs = 60_000

export async function benchApi({ turns = 5, onProgress }: ApiBenchOptions = {}): Promise<BenchReport> {
  const finished = new Set<string>()
  const timings = { electionTimeoutMs: 1500, presenceMs: 1000, deadlineMs: 30_000 }
  const testnet = await openSmallTestnet(
    { organizations: ['a', 'b', 'c'], seed: 0, steps: 1, rounds: 1, timings },
    { onEvent: ({ peer }, { type }) => void (type === 'finished' && finished.add(peer)), onEnd: () => undefined }
  )
  const child = fork(
    fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './api-bare.ts' : './api-bare.js', import.meta.url))
  )
  try {
    for (const began = Date.now(); finished.size < 3; await sleep(50))
      if (Date.now() - began > giveUpMs)
        throw new WorldlmError('BENCH_FAILED', 'the testnet did not finish its round', 'Run the tests.')
    const node = `${testnet.fleet.nodes[1]!.api}/v1/status`
    const body = await (await fetch(node)).text()
    if (JSON.parse(body).schema !== 'worldlm.status/1')
      throw new WorldlmError('BENCH_WRONG', `${node} answers ${body.slice(0, 80)}`, 'Run the tests.')
    const port = await new Promise<number>(resolve => {
      child.once('message', message => resolve(message as number))
      child.send(body)
    })
    const [ours, bare]: [Turn[], Turn[]] = [[], []]
    for (let turn = 0; turn <= turns; turn++) {
      const [one, other] = [await hammer(node), await hammer(`http://127.0.0.1:${port}/`)]
      // The first turn warms both up.
      if (turn === 0) continue
      ours.push(one)
      bare.push(other)
      onProgress?.(`turn ${turn} of ${turns}: ${Math.round(one.perSecond)} requests/s, bare ${Math.round(other.perSecond)}`)
    }
    await testnet.end()
    const beside = (pick: (turn: Turn) => number) => {
      const [value, baseline] = [median(ours.map(pick)), median(bare.map(pick))]
      return { value, baseline, ratio: value / baseline }
    }
    return benchReport('api', [
      {
        case: `/v1/status, ${body.length} bytes, ${connections} connections`,
        unit: 'requests/s',
        ...beside(({ perSecond }) => perSecond)
      },
      { case: 'one request, median', unit: 'ms', ...beside(({ medianMs }) => medianMs) },
      { case: 'one request, 99th percentile', unit: 'ms', ...beside(({ p99Ms }) => p99Ms) }
    ])
  } catch (error) {
    await testnet.abandon()
    throw error
  } finally {
    child.disconnect()
  }
}

interface Turn {
  perSecond: number
  medianMs: number
  p99Ms: number
}

async function hammer(url: string): Promise<Turn> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const took: number[] = []
  const began = performance.now()
  const worker = async () => {
    while (performance.now() - began < turnMs) {
      const at = performance.now()
      await once(url, agent)
      took.push(performance.now() - at)
    }
  }
  await Promise.all(Array.from({ length: connections }, worker))
  const seconds = (performance.now() - began) / 1000
  agent.destroy()
  took.sort((left, right) => left - right)
  return { perSecond: took.length / seconds, medianMs: median(took), p99Ms: took[Math.floor(took.length * 0.99)]! }
}

function once(url: string, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    get(url, { agent }, response => {
      if (response.statusCode !== 200)
        reject(new WorldlmError('BENCH_WRONG', `${url} answers ${response.statusCode}`, 'Run the tests.'))
      response.on('end', resolve).on('error', reject).resume()
    }).on('error', reject)
  })
}
