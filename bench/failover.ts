/**
 * How long a federation stands still when its aggregator dies: seven real processes, SIGKILL at random moments, until the next certified round.
 * Goal: within two election timeouts and one deadline, every time. Command: `worldlm bench failover [--times N]`.
 *
 * Between two kills the killed one is started again with its disk, and counted in a round again. An election that nobody's death explains is a
 * false one, and is counted.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldlmError } from '../src/errors.ts'
import { Random } from '../src/math/random.ts'
import type { RoundSummary } from '../src/node/status.ts'
import { lastWords } from '../testnet/spawn.ts'
import { type BenchReport, benchReport, median } from './report.ts'
import { openSmallTestnet, type SmallTestnet } from './small-testnet.ts'

export interface FailoverBenchOptions {
  times?: number
  seed?: number
  onProgress?: (line: string) => void
}

const organizations = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
/** The defaults of a testnet, but for a deadline that lets the bound be short. */
const timings = { electionTimeoutMs: 1500, presenceMs: 1000, deadlineMs: 5000 }
const boundMs = 2 * timings.electionTimeoutMs + timings.deadlineMs
/** A kill comes within this time after the one before is over: in any step of a round. */
const momentMs = 3000
const giveUpMs = 120_000

/** What is seen of the federation, folded from the nodes' events. */
class Watch {
  /** A node that ended though nobody killed it. */
  lost: string | null = null
  round = 0
  term = 0
  aggregator: string | null = null
  /** Elections since the last look. */
  elections: { term: number; atMs: number }[] = []
  included = new Set<string>()
  roundAtMs = 0

  onRound(round: RoundSummary): void {
    if (round.round <= this.round) return
    this.round = round.round
    this.roundAtMs = performance.now()
    this.included = new Set(round.included.map(({ member }) => member))
  }

  onAggregator(peer: string, term: number): void {
    if (term <= this.term) return
    this.term = term
    this.aggregator = peer
    this.elections.push({ term, atMs: performance.now() })
  }
}

interface Failover {
  electedAfterMs: number
  certifiedAfterMs: number
}

export async function benchFailover({ times = 20, seed = 0, onProgress }: FailoverBenchOptions = {}): Promise<BenchReport> {
  const random = new Random(`failover/${seed}`)
  const watch = new Watch()
  const testnet = await openSmallTestnet(
    { organizations, seed, steps: 2, rounds: 0, timings },
    {
      onEvent: (_node, event) => {
        if (event.type === 'round') watch.onRound(event.round)
        else if (event.type === 'aggregator' && event.peer !== null) watch.onAggregator(event.peer, event.term)
      },
      onEnd: node => {
        if (!node.endPlanned) watch.lost = `${node.plan.path} ended by itself: ${lastWords(node)}`
      }
    }
  )
  try {
    await until(watch, () => watch.included.size === organizations.length, 'all seven were counted in a round')
    const failovers: Failover[] = []
    const began = performance.now()
    let falseElections = 0
    watch.elections = []
    for (let time = 1; time <= times; time++) {
      await sleep(random.float() * momentMs)
      // What was elected while the aggregator lived.
      falseElections += watch.elections.splice(0).length
      const failover = await failOver(testnet, watch)
      failovers.push(failover)
      falseElections += Math.max(0, watch.elections.splice(0).length - 1)
      const [elected, certified] = [failover.electedAfterMs, failover.certifiedAfterMs].map(ms => (ms / 1000).toFixed(2))
      onProgress?.(`${time} of ${times}: elected after ${elected} s, certified after ${certified} s (term ${watch.term})`)
    }
    const minutes = (performance.now() - began) / 60_000
    await testnet.end()
    return report(failovers, falseElections, minutes)
  } catch (error) {
    await testnet.abandon()
    throw error
  }
}

/** Kills the aggregator, waits for the next round, and brings it back. */
async function failOver({ fleet }: SmallTestnet, watch: Watch): Promise<Failover> {
  const node = fleet.nodes.find(({ peer }) => peer === watch.aggregator)
  if (node === undefined || !fleet.running.includes(node))
    throw new WorldlmError(
      'BENCH_FAILED',
      `the aggregator ${watch.aggregator} is none of the running nodes`,
      'See the lines above.'
    )
  const [round, term] = [watch.round, watch.term]
  const killedAtMs = performance.now()
  node.endPlanned = true
  node.process?.kill('SIGKILL')
  await until(watch, () => watch.round > round && watch.term > term, `a round after ${round} was certified`)
  const electedAtMs = watch.elections[0]?.atMs ?? Number.NaN
  const certifiedAtMs = watch.roundAtMs
  await fleet.start(node)
  await until(watch, () => watch.included.has(node.peer), `${node.plan.path} was counted again`)
  return { electedAfterMs: electedAtMs - killedAtMs, certifiedAfterMs: certifiedAtMs - killedAtMs }
}

async function until(watch: Watch, happened: () => boolean, what: string): Promise<void> {
  for (const began = performance.now(); !happened(); await sleep(5)) {
    if (watch.lost !== null) throw new WorldlmError('BENCH_FAILED', watch.lost, 'See its node.log.')
    if (performance.now() - began > giveUpMs)
      throw new WorldlmError('BENCH_FAILED', `after ${giveUpMs / 1000} s still not: ${what}`, 'See node.log of the nodes.')
  }
}

function report(failovers: Failover[], falseElections: number, minutes: number): BenchReport {
  const certified = failovers.map(({ certifiedAfterMs }) => certifiedAfterMs)
  const elected = failovers.map(({ electedAfterMs }) => electedAfterMs)
  const against = (value: number) => ({ value, unit: 'ms', baseline: boundMs, ratio: value / boundMs })
  const late = certified.filter(ms => ms > boundMs).length
  return benchReport('failover', [
    { case: 'next certified round, median (baseline: 2 election timeouts + deadline)', ...against(median(certified)) },
    { case: `next certified round, worst of ${failovers.length}`, ...against(Math.max(...certified)) },
    { case: `next certified round later than that, of ${failovers.length}`, value: late, unit: 'times' },
    { case: 'new aggregator, median', value: median(elected), unit: 'ms' },
    { case: 'new aggregator, worst', value: Math.max(...elected), unit: 'ms' },
    { case: `elections that no death explains, in ${minutes.toFixed(1)} minutes`, value: falseElections, unit: 'times' }
  ])
}
