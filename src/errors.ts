/**
 * Errors that a person reads: what happened, where, and what to do next (docs/errors.md lists every code).
 * A fault of another peer is not an error but a value (federation/fault.ts); a broken assertion is our own mistake.
 */
export class WorldlmError extends Error {
  /** Stable, upper case; programs match on it. */
  readonly code: string
  /** What to do next, one sentence. */
  readonly hint: string

  constructor(code: string, message: string, hint: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'WorldlmError'
    this.code = code
    this.hint = hint
  }
}

/** No peer gives a blob now. One that holds it may come back: whoever needs it asks again, or says so. */
export class BlobAway extends Error {
  /** `BLOB_FORBIDDEN`: whoever was asked and holds it may not give it to this node (docs/governance.md, "Egress"). */
  readonly code: 'BLOB_AWAY' | 'BLOB_FORBIDDEN'

  constructor(message: string, code: BlobAway['code'] = 'BLOB_AWAY') {
    super(message)
    this.code = code
  }
}

/** Our own mistake: a state that the design excludes. Carries what was found. Never caught to go on. */
export class AssertionError extends Error {
  readonly found: unknown

  constructor(message: string, found?: unknown) {
    super(found === undefined ? message : `${message}: ${JSON.stringify(found)}`)
    this.name = 'AssertionError'
    this.found = found
  }
}

/** @throws {AssertionError} unless `condition` holds. Kept in production: a wrong state must not spread. */
export function assert(condition: boolean, message: string, found?: unknown): asserts condition {
  if (!condition) throw new AssertionError(message, found)
}

/** The end of a `switch` over a union: the compiler rejects a case that was forgotten. */
export function assertNever(value: never): never {
  throw new AssertionError('unreachable case', value)
}

/** No room: on the disk, in the quota, or past the largest file that this process may write (`ulimit -f`). */
export const isDiskFull = (error: unknown): boolean =>
  ['ENOSPC', 'EDQUOT', 'EFBIG'].includes((error as NodeJS.ErrnoException | null)?.code ?? '')
