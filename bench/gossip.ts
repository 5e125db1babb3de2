/**
 * How long a gossip message takes to everybody who follows its topic: processes on loopback, 1 KB a message; beside a direct message between two
 * of them, over the stream that consensus uses. Command: `worldlm bench gossip [--peers N]`. Every message has to arrive everywhere.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { WorldlmError } from '../src/errors.ts'
import type { Order } from './gossip-peer.ts'
import { type BenchReport, benchReport, median } from './report.ts'

export interface GossipBenchOptions {
  peers?: number
  messages?: number
  onProgress?: (line: string) => void
}

type Told =
  | { peer: string; address: string }
  | { connected: true }
  | { said: number; atMs: number }
  | { heard: number; atMs: number }
  | { cpuMs: number }

const messageBytes = 1024
/** A mesh takes some heartbeats of gossipsub to form. */
const meshMs = 3_000
const pauseMs = 25
const settleMs = 2_000

export async function benchGossip({ peers = 8, messages = 200, onProgress }: GossipBenchOptions = {}): Promise<BenchReport> {
  const file = fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? './gossip-peer.ts' : './gossip-peer.js', import.meta.url)
  )
  const children = Array.from({ length: peers }, () => fork(file))
  const saidAtMs = new Map<number, number>()
  const delays = new Map<number, number[]>()
  try {
    const known = await Promise.all(children.map(child => answer(child, told => 'peer' in told)))
    const addresses = known.map(told => ('peer' in told ? told.address : ''))
    const names = known.map(told => ('peer' in told ? told.peer : ''))
    for (const child of children) await ask(child, { connect: addresses }, told => 'connected' in told)
    for (const child of children)
      child.on('message', (told: Told) => {
        if ('said' in told) saidAtMs.set(told.said, told.atMs)
        else if ('heard' in told) delays.set(told.heard, [...(delays.get(told.heard) ?? []), told.atMs])
      })
    await sleep(meshMs)
    const before = await cpu(children)
    onProgress?.(`${messages} messages of ${messageBytes} bytes among ${peers} processes`)
    // In turns, so that what the machine does meanwhile meets both: even numbers by gossip, odd ones directly.
    for (let number = 0; number < messages * 2; number++) {
      const from = Math.floor(number / 2) % peers
      const direct = number % 2 === 0 ? null : names[(from + 1) % peers]!
      children[from]!.send({ say: { number, bytes: messageBytes, direct } } satisfies Order)
      await sleep(pauseMs)
    }
    await sleep(settleMs)
    const spent = (await cpu(children)) - before
    return report(peers, messages, saidAtMs, delays, spent)
  } finally {
    for (const child of children) if (child.connected) child.disconnect()
  }
}

function report(
  peers: number,
  messages: number,
  saidAtMs: Map<number, number>,
  heard: Map<number, number[]>,
  cpuMs: number
): BenchReport {
  const delaysOf = (odd: number) =>
    [...heard]
      .filter(([number]) => number % 2 === odd)
      .flatMap(([number, times]) => times.map(atMs => atMs - saidAtMs.get(number)!))
  const [gossip, direct] = [delaysOf(0).sort(ascending), delaysOf(1).sort(ascending)]
  const expected = messages * (peers - 1)
  if (gossip.length !== expected || direct.length !== messages)
    throw new WorldlmError(
      'BENCH_WRONG',
      `${gossip.length} of ${expected} deliveries by gossip, ${direct.length} of ${messages} directly`,
      'Messages were lost, or came twice: look at src/net/gossip.ts and its budgets.'
    )
  const p99 = (values: number[]) => values[Math.floor(values.length * 0.99)] ?? Number.NaN
  const beside = (value: number, baseline: number) => ({ value, unit: 'ms', baseline, ratio: value / baseline })
  return benchReport('gossip', [
    { case: `1 KB to ${peers - 1} others, median (baseline: directly to one)`, ...beside(median(gossip), median(direct)) },
    { case: `1 KB to ${peers - 1} others, 99th percentile`, ...beside(p99(gossip), p99(direct)) },
    { case: 'CPU a delivery, all processes, both ways of sending', value: cpuMs / (expected + messages), unit: 'ms' }
  ])
}

const ascending = (left: number, right: number): number => left - right

async function cpu(children: ChildProcess[]): Promise<number> {
  const told = await Promise.all(children.map(child => ask(child, { cpu: true }, one => 'cpuMs' in one)))
  return told.reduce((sum, one) => sum + ('cpuMs' in one ? one.cpuMs : 0), 0)
}

function ask(child: ChildProcess, order: Order, isAnswer: (told: Told) => boolean): Promise<Told> {
  const answered = answer(child, isAnswer)
  child.send(order)
  return answered
}

function answer(child: ChildProcess, isAnswer: (told: Told) => boolean): Promise<Told> {
  return new Promise((resolve, reject) => {
    const onMessage = (told: Told) => {
      if (!isAnswer(told)) return
      child.off('message', onMessage)
      resolve(told)
    }
    child.on('message', onMessage)
    child.once('exit', code =>
      reject(new WorldlmError('BENCH_FAILED', `a peer ended with code ${code}`, 'See the lines above.'))
    )
  })
}
