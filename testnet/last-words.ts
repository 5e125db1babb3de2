/** Why a node ended by itself, as its log has it: who runs a testnet should not have to search six folders for one line. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

/** Of the log's end, so much is looked at. */
const bytesMax = 1 << 16
/** pino's level of what ends a process. */
const fatal = 60

/** @param log - node.log. @returns the last fatal error, one line; '' where there is none. */
export function lastWords(log: string): string {
  for (const line of tailOf(log).split('\n').reverse()) {
    const { level, error } = parse(line)
    if (level === fatal && typeof error?.message === 'string')
      return `${error.code ?? 'error'}: ${error.message.split('\n')[0]}`
  }
  return ''
}

function tailOf(path: string): string {
  let fd: number | null = null
  try {
    fd = openSync(path, 'r')
    const { size } = fstatSync(fd)
    const bytes = Buffer.alloc(Math.min(size, bytesMax))
    readSync(fd, bytes, 0, bytes.length, size - bytes.length)
    return bytes.toString()
  } catch {
    return '' // It ended before it had a log.
  } finally {
    if (fd !== null) closeSync(fd)
  }
}

function parse(line: string): { level?: number; error?: { code?: string; message?: string } } {
  try {
    return JSON.parse(line) ?? {}
  } catch {
    return {} // Cut off: the first of the tail, or the last of a process that was killed.
  }
}
