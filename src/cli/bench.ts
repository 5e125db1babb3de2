/** `worldlm bench …`: runs a benchmark of bench/ and prints its ratios. */
import type { BenchReport } from '../../bench/report.ts'
import type { Output } from './output.ts'
import { table } from './table.ts'

type BenchName =
  | 'engine'
  | 'trainer'
  | 'generate'
  | 'aggregate'
  | 'blob'
  | 'gossip'
  | 'discovery'
  | 'failover'
  | 'round'
  | 'api'
  | 'simulate'
type Options = {
  vs?: string
  sizes?: ('S' | 'M' | 'L')[]
  device?: 'cpu' | 'webgpu' | 'cuda'
  recompute?: 'none' | 'attention' | 'blocks'
  microBatch?: number
  threads?: number
  members?: number
  floats?: number
  megabytes?: number
  peers?: number
  times?: number
  rounds?: number
  steps?: number
  messages?: number
  seed?: number
}

export async function benchCommand(name: BenchName, options: Options, output: Output): Promise<void> {
  const report = await runBench(name, { ...options, onProgress: line => void process.stderr.write(`${line}\n`) })
  const { cpu, cores, memoryGiB, node, platform } = report.machine
  output.line(`${cpu}, ${cores} cores, ${memoryGiB} GiB, Node ${node}, ${platform}`)
  const rows = report.results.map(result => [
    result.case,
    amount(result.value),
    result.unit,
    result.baseline === undefined ? '' : amount(result.baseline),
    result.ratio === undefined ? '' : result.ratio.toFixed(3)
  ])
  output.line(table(['case', 'value', 'unit', 'baseline', 'ratio'], rows))
  output.document(report)
}

async function runBench(name: BenchName, options: Options & { onProgress: (line: string) => void }): Promise<BenchReport> {
  switch (name) {
    case 'engine':
      return (await import('../../bench/engine.ts')).benchEngine(options)
    case 'trainer':
      return (await import('../../bench/trainer.ts')).benchTrainer(options)
    case 'generate':
      return (await import('../../bench/generate.ts')).benchGenerate(options)
    case 'aggregate':
      return (await import('../../bench/aggregate.ts')).benchAggregate(options)
    case 'blob':
      return (await import('../../bench/blob.ts')).benchBlob(options)
    case 'gossip':
      return (await import('../../bench/gossip.ts')).benchGossip(options)
    case 'discovery':
      return (await import('../../bench/discovery.ts')).benchDiscovery(options)
    case 'failover':
      return (await import('../../bench/failover.ts')).benchFailover(options)
    case 'round':
      return (await import('../../bench/round.ts')).benchRound(options)
    case 'simulate':
      return (await import('../../bench/simulate.ts')).benchSimulate(options)
    case 'api':
      return (await import('../../bench/api.ts')).benchApi(options)
  }
}

const amount = (value: number): string =>
  value >= 1e9 ? `${(value / 1e9).toFixed(2)}e9` : value >= 100 ? value.toFixed(0) : value.toFixed(3)
