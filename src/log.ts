/** The node's log: JSON lines (pino). Secrets never go in; peers' names and links do. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'
import { pino } from 'pino'
import type { WorldlmError } from './errors.ts'

export type Logger = pino.Logger
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error'] as const

/** A node stays on for months: a file this long becomes `node.log.1`, in place of the one before. */
const fileBytesMax = 64 * 1024 * 1024

/**
 * @param path - of the file, appended to, line by line, so that a killed node leaves its last words.
 * @param bytesMax - of it, before the next begins.
 */
export function createLogger(path: string, level: (typeof logLevels)[number], bytesMax = fileBytesMax): Logger {
  let file = openSync(path, 'a')
  let bytes = fstatSync(file).size
  const begin = () => {
    // Where this cannot be done, the file grows on, and it is tried again when it is twice as long.
    bytes = 0
    renameSync(path, `${path}.1`)
    const next = openSync(path, 'a')
    closeSync(file)
    file = next
  }
  const destination = {
    write(line: string) {
      try {
        bytes += writeSync(file, line)
        if (bytes >= bytesMax) begin()
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
