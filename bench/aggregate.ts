/**
 * Attention over many updates, as bytes a second, beside a plain copy of as many bytes: what the memory allows at best.
 * Goals: ratio ≥ 0.3; memory of at most 4 models. Command: `worldlm bench aggregate`. Checked against the plain formula before it is timed.
 */
import { Attention, softmax } from '../src/aggregate/attend.ts'
import { WorldlmError } from '../src/errors.ts'
import { Random } from '../src/math/random.ts'
import { Vectors } from '../src/math/vector.ts'
import type { Range } from '../src/model/layout.ts'
import { type BenchReport, benchReport, median } from './report.ts'

export interface AggregateBenchOptions {
  members?: number
  floats?: number
  onProgress?: (line: string) => void
}

export async function benchAggregate({
  members = 64,
  floats = 25_000_000,
  onProgress
}: AggregateBenchOptions = {}): Promise<BenchReport> {
  check()
  const size = Math.ceil(floats / 4) * 4
  const modelBytes = size * 4
  const before = process.memoryUsage().rss
  const vectors = new Vectors(size * 2 + 64)
  const candidate = vectors.allocate(size)
  const result = vectors.allocate(size)
  const target = new Float32Array(size)
  const random = new Random('bench')
  for (let place = 0; place < size; place += 7) candidate[place] = random.float()
  const ranges = groupsOf(size, 8)
  const logits = Array.from({ length: members }, () => ranges.map(() => random.float()))
  const [attending, copying]: [number[], number[]] = [[], []]
  let rss = 0
  for (let turn = 0; turn < 3; turn++) {
    const attention = new Attention(vectors, ranges, result)
    let began = performance.now()
    for (const row of logits) attention.add(candidate, row)
    attention.finish()
    attending.push((members * modelBytes) / ((performance.now() - began) / 1000))
    rss = Math.max(rss, process.memoryUsage().rss)
    began = performance.now()
    for (let member = 0; member < members; member++) target.set(candidate)
    copying.push((members * modelBytes) / ((performance.now() - began) / 1000))
    onProgress?.(
      `turn ${turn + 1} of 3: attention ${(attending.at(-1)! / 1e9).toFixed(2)} GB/s, copy ${(copying.at(-1)! / 1e9).toFixed(2)} GB/s`
    )
  }
  const [value, baseline] = [median(attending), median(copying)]
  return benchReport('aggregate', [
    {
      case: `attention over ${members} updates of ${floats} parameters`,
      value,
      unit: 'B/s',
      baseline,
      ratio: value / baseline
    },
    // The copy's target is the benchmark's own and not counted.
    { case: 'memory', value: (rss - before - modelBytes) / modelBytes, unit: 'models' }
  ])
}

/** A wrong kernel has no speed. */
function check(): void {
  const floats = 1024
  const vectors = new Vectors(floats * 8)
  const ranges = groupsOf(floats, 2)
  const random = new Random('check')
  const candidates = Array.from({ length: 5 }, () => vectors.allocate(floats).map(() => 0))
  const result = vectors.allocate(floats)
  const scratch = vectors.allocate(floats)
  const attention = new Attention(vectors, ranges, result)
  const logits = candidates.map(() => ranges.map(() => random.normal()))
  for (const [place, candidate] of candidates.entries()) {
    for (let at = 0; at < floats; at++) candidate[at] = random.normal()
    scratch.set(candidate)
    attention.add(scratch, logits[place]!)
  }
  attention.finish()
  const weights = softmax(logits)
  for (const [group, { offset, floats: length }] of ranges.entries()) {
    for (let at = offset; at < offset + length; at++) {
      const want = candidates.reduce((sum, candidate, place) => sum + weights[place]![group]! * candidate[at]!, 0)
      if (Math.abs(result[at]! - want) > 1e-5)
        throw new WorldlmError(
          'BENCH_WRONG',
          `attention gives ${result[at]} where the plain sum gives ${want}`,
          'The kernels are wrong: run the tests.'
        )
    }
  }
}

function groupsOf(floats: number, count: number): Range[] {
  const each = Math.floor(floats / count / 4) * 4
  return Array.from({ length: count }, (_, group) => ({
    offset: group * each,
    floats: group === count - 1 ? floats - group * each : each
  }))
}
