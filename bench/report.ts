/** What every benchmark gives: `worldlm.bench/1`. A figure without the machine that it was measured on says little. */
import { availableParallelism, cpus, totalmem } from 'node:os'

export interface BenchResult {
  case: string
  value: number
  unit: string
  /** The same unit, measured in turns in the same run. */
  baseline?: number
  /** value / baseline. */
  ratio?: number
}

export interface BenchReport {
  schema: 'worldlm.bench/1'
  name: string
  machine: { cpu: string; cores: number; memoryGiB: number; node: string; platform: string }
  results: BenchResult[]
}

export function benchReport(name: string, results: BenchResult[]): BenchReport {
  const machine = {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`
  }
  return { schema: 'worldlm.bench/1', name, machine, results }
}

export function median(values: number[]): number {
  const sorted = [...values].sort((left, right) => left - right)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
