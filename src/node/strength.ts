/** How well this machine would do as an aggregator, for the order in which voters stand for election. */
import { availableParallelism, totalmem } from 'node:os'
import { uptime } from 'node:process'

/** A process that has lived for so long is as likely as any to go on. */
const provenSeconds = 600

/** ≥ 0, in steps of a half so that it does not waver: cores and memory count by their logarithms, a proven process one more. */
export function strength(): number {
  const proven = Math.min(1, uptime() / provenSeconds)
  const raw = Math.log2(availableParallelism()) + Math.log2(1 + totalmem() / 2 ** 30) / 2 + proven
  return Math.round(raw * 2) / 2
}
