/**
 * How long it takes until processes that know one address of one of them are all in their federations' rosters: found through the DHT, asked
 * for a place, certified by a majority. Goal: 30 processes within 10 s of the last start. Command: `worldlm bench discovery [--peers N]`.
 *
 * Measured twice: started one after another, each when the one before listens, as organizations come to a network; and all at once, which
 * on few cores is a measure of what a start costs, for nobody can do anything before most have loaded.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldlmError } from '../src/errors.ts'
import { type BenchReport, type BenchResult, benchReport, median } from './report.ts'
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

type Starts = 'one after another' | 'at once'

export async function benchDiscovery({ peers = 30, seed = 0, onProgress }: DiscoveryBenchOptions = {}): Promise<BenchReport> {
  const results: BenchResult[] = []
  for (const starts of ['one after another', 'at once'] as const) {
    onProgress?.(`${peers} processes, started ${starts}`)
    const { startMs, listenMs, joinedMs } = await discover(starts, peers, seed, onProgress)
    const [firstStart, lastStart] = [Math.min(...startMs.values()), Math.max(...startMs.values())]
    const lastJoined = Math.max(...joinedMs.values())
    const worst = (lastJoined - lastStart) / 1000
    results.push(
      {
        case: `${peers} started ${starts}: all in their federation’s roster, from the last start (baseline: the goal)`,
        value: worst,
        unit: 's',
        baseline: goalSeconds,
        ratio: worst / goalSeconds
      },
      { case: '… from when the last of them listened', value: Math.max(0, lastJoined - listenMs) / 1000, unit: 's' },
      { case: '… from the first start', value: (lastJoined - firstStart) / 1000, unit: 's' },
      {
        case: '… half of them, each from its own start',
        value: median([...joinedMs].map(([path, ms]) => (ms - startMs.get(path)!) / 1000)),
        unit: 's'
      }
    )
  }
  return benchReport('discovery', results)
}

/** When each process was started, and when it held the certified entry with itself in the roster, by path, in milliseconds since 1970. */
async function discover(
  starts: Starts,
  peers: number,
  seed: number,
  onProgress?: (line: string) => void
): Promise<{ startMs: Map<string, number>; listenMs: number; joinedMs: Map<string, number> }> {
  const organizations = Array.from(
    { length: peers },
    (_, place) => `f${Math.floor(place / federationPeers)}/o${place % federationPeers}`
  )
  const joinedMs = new Map<string, number>()
  const late = new Set(starts === 'at once' ? [] : organizations.slice(1))
  const testnet = await openSmallTestnet(
    { organizations, seed, steps: 1, rounds: 1, timings, late },
    {
      onEvent: ({ plan, peer }, event) => {
        if (
          event.type === 'member' &&
          event.change === 'joined' &&
          event.member === peer &&
          event.federation === plan.federation
        )
          joinedMs.set(plan.path, Date.parse(event.at))
      },
      onEnd: node => onProgress?.(`${node.plan.path} ended by itself (${node.ended?.signal ?? node.ended?.code})`)
    }
  )
  const { nodes } = testnet.fleet
  try {
    for (const node of nodes) if (late.has(node.plan.path)) await testnet.fleet.start(node, 1)
    const listenMs = Date.now()
    for (let told = 0; joinedMs.size < peers; await sleep(20)) {
      if (Math.floor(joinedMs.size / 10) > told) onProgress?.(`${joinedMs.size} of ${peers} are in a roster`)
      told = Math.floor(joinedMs.size / 10)
      if (Date.now() - listenMs > giveUpMs)
        throw new WorldlmError(
          'BENCH_FAILED',
          `${joinedMs.size} of ${peers} are in a roster ${giveUpMs / 1000} s after the last of them listened`,
          'See node.log of the others.'
        )
    }
    await testnet.end()
    return { startMs: new Map(nodes.map(({ plan, startedAtMs }) => [plan.path, startedAtMs])), listenMs, joinedMs }
  } catch (error) {
    await testnet.abandon()
    throw error
  }
}
