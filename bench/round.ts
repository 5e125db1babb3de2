/**
 * What a round costs besides training: four real processes in one federation, a model of some thousand parameters, so that messages, files
 * and elections are what is seen. Command: `worldlm bench round [--rounds N]`. The first two rounds warm up and are left out.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldlmError } from '../src/errors.ts'
import type { RoundSummary, RoundTimes } from '../src/node/status.ts'
import { type BenchReport, benchReport, median } from './report.ts'
import { openSmallTestnet } from './small-testnet.ts'

export interface RoundBenchOptions {
  rounds?: number
  seed?: number
  onProgress?: (line: string) => void
}

const giveUpMs = 180_000
const warmUpRounds = 2
const timings = { electionTimeoutMs: 1500, presenceMs: 1000, deadlineMs: 60_000 }

export async function benchRound({ rounds = 20, seed = 0, onProgress }: RoundBenchOptions = {}): Promise<BenchReport> {
  const summaries = new Map<number, { round: RoundSummary; atMs: number }>()
  const times: RoundTimes[] = []
  const testnet = await openSmallTestnet(
    { organizations: ['a', 'b', 'c', 'd'], seed, steps: 5, rounds: rounds + warmUpRounds, timings },
    {
      onEvent: (_node, event) => {
        if (event.type === 'times') times.push(event.times)
        if (event.type !== 'round') return
        const known = summaries.get(event.round.round)
        // Only the aggregator knows how long the commit took.
        if (known === undefined) summaries.set(event.round.round, { round: event.round, atMs: Date.parse(event.at) })
        else if (event.round.seconds.commit > 0) known.round = event.round
      },
      onEnd: node => onProgress?.(`${node.plan.path} ended by itself (${node.ended?.signal ?? node.ended?.code})`)
    }
  )
  try {
    // A member tells its round's times when it has taken the round over: of the only one that is measured, nobody has told any yet.
    const isMeasured = () => summaries.size >= rounds + warmUpRounds && times.some(({ round }) => round > warmUpRounds)
    for (const began = Date.now(); !isMeasured(); await sleep(50))
      if (Date.now() - began > giveUpMs)
        throw new WorldlmError(
          'BENCH_FAILED',
          `${summaries.size} of ${rounds + warmUpRounds} rounds after ${giveUpMs / 1000} s`,
          'See node.log of the nodes.'
        )
    await testnet.end()
  } catch (error) {
    await testnet.abandon()
    throw error
  }
  const measured = [...summaries.values()].filter(({ round }) => round.round > warmUpRounds)
  const wall = measured.map(({ round, atMs }) => (atMs - summaries.get(round.round - 1)!.atMs) / 1000)
  const mine = times.filter(({ round }) => round > warmUpRounds)
  const share = (pick: (one: RoundTimes) => number) =>
    mine.reduce((sum, one) => sum + pick(one), 0) / mine.reduce((sum, one) => sum + one.total, 0)
  const phase = (pick: (round: RoundSummary) => number) => median(measured.map(({ round }) => pick(round)))
  return benchReport('round', [
    {
      case: 'from one certified round to the next, median (baseline: the slowest member’s training)',
      value: median(wall),
      unit: 's',
      baseline: phase(({ seconds }) => seconds.train),
      ratio: median(wall) / phase(({ seconds }) => seconds.train)
    },
    { case: 'pulling all updates', value: phase(({ seconds }) => seconds.transfer), unit: 's' },
    { case: 'aggregation', value: phase(({ seconds }) => seconds.aggregate), unit: 's' },
    { case: 'commit: proposed, signed by a majority, on disk', value: phase(({ seconds }) => seconds.commit), unit: 's' },
    {
      case: 'of the time: neither training nor evaluation',
      value: share(({ attend, transfer, wait }) => attend + transfer + wait),
      unit: 'share'
    }
  ])
}
