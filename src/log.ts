/** The node's log: JSON lines (pino). Secrets never go in; peers' names and links do. */
import { pino } from 'pino'

export type Logger = pino.Logger
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error'] as const

/** @param path - of the file, appended to, line by line, so that a killed node leaves its last words. */
export function createLogger(path: string, level: (typeof logLevels)[number]): Logger {
  return pino(
    { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: path, sync: true, append: true, mkdir: true })
  )
}
