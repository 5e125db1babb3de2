/**
 * The folder that a benchmark works in: up to gigabytes of blobs, or the nodes of a testnet. It goes when the benchmark ends, and when it is
 * interrupted.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'

const open = new Set<string>()
const writers = new Set<() => readonly ChildProcess[]>()
/** Between the end of the writers and that of their folder. */
const endMs = 100
const signals = ['SIGINT', 'SIGTERM'] as const

export function openBenchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'worldlm-bench-'))
  if (open.size === 0) for (const signal of signals) process.on(signal, onSignal)
  open.add(folder)
  return folder
}

/** @param running - processes that write into such a folder, as they are when it ends. */
export function endWithBench(running: () => readonly ChildProcess[]): void {
  writers.add(running)
}

/** For whoever wants to know what went wrong. */
export function keepBenchFolder(folder: string): void {
  open.delete(folder)
  if (open.size > 0) return
  writers.clear()
  for (const signal of signals) process.off(signal, onSignal)
}

export function removeBenchFolder(folder: string): void {
  keepBenchFolder(folder)
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}

function onSignal(signal: (typeof signals)[number]): void {
  // Without a turn of the event loop: whoever waits for a writer would tell that it failed.
  const running = [...writers].flatMap(one => one())
  for (const child of running) child.kill('SIGKILL')
  if (running.length > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, endMs)
  for (const folder of open) rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  process.exit(128 + constants.signals[signal])
}
