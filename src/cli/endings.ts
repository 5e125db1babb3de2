/**
 * What tells a command to end: Ctrl-C, `kill`, and its terminal when that is closed. (`nohup` keeps the last from no program of Node, which at its start
 * sets every signal back to what it does by itself; `setsid` does.)
 */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** @returns what takes it back. */
export function onEnding(act: () => void): () => void {
  for (const signal of signals) process.on(signal, act)
  return () => {
    for (const signal of signals) process.off(signal, act)
  }
}
