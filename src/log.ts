/** The node's log: JSON lines (pino). Secrets never go in; peers' names and links do. */
import { openSync, writeSync } from 'node:fs'
import { pino } from 'pino'
import type { WorldlmError } from './errors.ts'

export type Logger = pino.Logger
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error'] as const

/** @param path - of the file, appended to, line by line, so that a killed node leaves its last words. */
export function createLogger(path: string, level: (typeof logLevels)[number]): Logger {
  const file = openSync(path, 'a')
  const destination = {
    write(line: string) {
      try {
        writeSync(file, line)
      } catch {
        // On a full disk lines are lost; that must not end a node before it has stopped and said why on its standard error.
      }
    }
  }
  return pino({ level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, destination)
}

/** An error as a field of a line, its code with it. */
export const inLog = (error: unknown): unknown =>
  error instanceof Error ? { code: (error as Partial<WorldlmError>).code, message: error.message, stack: error.stack } : error
