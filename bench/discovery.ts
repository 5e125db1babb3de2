/**
 * How long it takes until processes that know one address of one of them are all in their federations' rosters: found through the DHT, asked
 * for a place, certified by a majority. Goal: 30 processes within 10 s of the last start. Command: `worldlm bench discovery [--peers N]`.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldlmError } from '../src/errors.ts'
import { type BenchReport, benchReport, median } from './report.ts'
import { openSmallTestnet } from './small-testnet.ts'

export interface DiscoveryBenchOptions {
  peers?: number
  seed?: number
  onProgress?: (line: string) => void
}

const goalSeconds = 10
const federationPeers = 6
const giveUpMs = 120_000
const timings = { electionTimeoutMs: 1500, presenceMs: 2000, deadlineMs: 60_000, startTimeoutMs: 120_000 }

export async function benchDiscovery({ peers = 30, seed = 0, onProgress }: DiscoveryBenchOptions = {}): Promise<BenchReport> {
  const organizations = Array.from(
    { length: peers },
    (_, place) => `f${Math.floor(place / federationPeers)}/o${place % federationPeers}`
  )
  /** When each node held the certified entry with itself in its federation's roster, in milliseconds since 1970. */
  const joinedAtMs = new Map<string, number>()
  const began = Date.now()
  const testnet = await openSmallTestnet(
    { organizations, seed, steps: 1, rounds: 1, timings },
    {
      onEvent: ({ plan, peer }, event) => {
        if (
          event.type === 'member' &&
          event.change === 'joined' &&
          event.member === peer &&
          event.federation === plan.federation
        )
          joinedAtMs.set(plan.path, Date.parse(event.at))
      },
      onEnd: node => onProgress?.(`${node.plan.path} ended by itself (${node.ended?.signal ?? node.ended?.code})`)
    }
  )
  const allListenMs = Date.now()
  try {
    const lastStartMs = Math.max(...testnet.fleet.nodes.map(({ startedAtMs }) => startedAtMs))
    for (let told = 0; joinedAtMs.size < peers; await sleep(20)) {
      if (Math.floor(joinedAtMs.size / 10) > told) onProgress?.(`${joinedAtMs.size} of ${peers} are in a roster`)
      told = Math.floor(joinedAtMs.size / 10)
      if (Date.now() - began > giveUpMs)
        throw new WorldlmError(
          'BENCH_FAILED',
          `${joinedAtMs.size} of ${peers} are in a roster after ${giveUpMs / 1000} s`,
          'See node.log of the others.'
        )
    }
    await testnet.end()
    const seconds = [...joinedAtMs.values()].map(ms => (ms - lastStartMs) / 1000)
    const worst = Math.max(...seconds)
    return benchReport('discovery', [
      {
        case: `all ${peers} in their federation’s roster, from the last start (baseline: the goal)`,
        value: worst,
        unit: 's',
        baseline: goalSeconds,
        ratio: worst / goalSeconds
      },
      { case: 'half of them', value: median(seconds), unit: 's' },
      {
        case: 'all, from when the last of them listened',
        value: Math.max(0, worst - (allListenMs - lastStartMs) / 1000),
        unit: 's'
      },
      { case: 'all, from the first start', value: worst + (lastStartMs - began) / 1000, unit: 's' }
    ])
  } catch (error) {
    await testnet.abandon()
    throw error
  }
}
