/**
 * Why an update, a join or a proposed entry was refused: a closed list of values. Sentences for people are made here once.
 *
 * Verdicts: `ignore`: an honest peer may send this (late, twice, ahead of us); `reject`: whoever signed it could have known.
 */
import type { Link, MemberId, PeerName } from '../ids.ts'

export type UpdateFault =
  | { code: 'NOT_A_MEMBER'; verdict: 'ignore'; member: MemberId }
  | { code: 'NOT_ITS_PEER'; verdict: 'reject'; member: MemberId; by: PeerName }
  | { code: 'WRONG_BASE'; verdict: 'ignore'; base: Link; want: Link }
  | { code: 'SETTLED'; verdict: 'ignore'; round: number; counted: number }
  | { code: 'STALE'; verdict: 'ignore'; staleness: number }
  | { code: 'WRONG_SKETCHES'; verdict: 'reject'; gotBytes: number; wantBytes: number }
  | { code: 'SKETCHES_NOT_FINITE'; verdict: 'reject'; member: MemberId }
  | { code: 'NO_WEIGHT'; verdict: 'reject'; weight: number }
  | { code: 'WRONG_COUNT'; verdict: 'reject'; member: MemberId; organizations: number }
  | { code: 'TOO_HEAVY'; verdict: 'reject'; weight: number; limit: number }
  | { code: 'RESIDUAL_TWICE'; verdict: 'reject'; member: MemberId; from: MemberId }
  | { code: 'NOT_FOUND'; verdict: 'ignore'; detail: string }
  | { code: 'DAMAGED'; verdict: 'reject'; detail: string }

export type EntryFault =
  | { code: 'WRONG_ROUND'; got: number; want: number }
  | { code: 'WRONG_BASE'; base: Link; want: Link }
  | { code: 'NOT_A_MEMBER'; member: MemberId }
  | { code: 'COUNTED_TWICE'; member: MemberId }
  | { code: 'COUNTED_BEFORE'; member: MemberId; round: number; counted: number }
  | { code: 'BOTH_COUNTED_AND_EXCLUDED'; member: MemberId }
  | { code: 'OWN_UPDATE_MISSING'; member: MemberId }
  | { code: 'TOO_FEW_MEMBERS'; got: number; want: number }
  | { code: 'UPDATE_UNKNOWN'; update: Link }
  | { code: 'BAD_INPUT'; update: Link; detail: string }
  | { code: 'WRONG_SUM'; name: string; got: number; want: number }
  | { code: 'WRONG_ATTENTION'; member: MemberId; got: number; want: number }
  | { code: 'WRONG_VOTERS'; detail: string }
  | { code: 'WRONG_RESIDUALS'; member: MemberId }
  | { code: 'NOT_ADMITTED'; member: MemberId; detail: string }
  | { code: 'MODEL_MISSING'; detail: string }
  | { code: 'NOT_A_MODEL'; detail: string }
  | { code: 'NOT_VERIFIABLE'; detail: string }
  | { code: 'WRONG_CHANGE'; member: MemberId; detail: string }
  | { code: 'STILL_PRESENT'; peer: PeerName }

const unfetched = 'its model could not be fetched'

export function describeUpdateFault(fault: UpdateFault): string {
  switch (fault.code) {
    case 'NOT_A_MEMBER':
      return `${fault.member} is not in the roster`
    case 'NOT_ITS_PEER':
      return `${fault.by} does not speak for ${fault.member}`
    case 'WRONG_BASE':
      return `trained from ${fault.base}, the round is based on ${fault.want}`
    case 'SETTLED':
      return `made for round ${fault.round}, round ${fault.counted} of it is counted already`
    case 'STALE':
      return `${fault.staleness} rounds late`
    case 'WRONG_SKETCHES':
      return `sketches of ${fault.gotBytes} bytes, the model's groups need ${fault.wantBytes}`
    case 'SKETCHES_NOT_FINITE':
      return `the sketches of ${fault.member} hold numbers that are not finite`
    case 'NO_WEIGHT':
      return `claims ${fault.weight} tokens, which count for nothing`
    case 'WRONG_COUNT':
      return `${fault.member} is one organization, and speaks for ${fault.organizations}`
    case 'TOO_HEAVY':
      return `claims ${fault.weight} tokens, a round has at most ${fault.limit}`
    case 'RESIDUAL_TWICE':
      return `${fault.member} used the residual of ${fault.from} twice in one round`
    case 'NOT_FOUND':
      return `${unfetched}: ${fault.detail}`
    case 'DAMAGED':
      return `its model was refused: ${fault.detail}`
  }
}

/** The longest text in a record (wire/codec.ts): what is longer is no record. */
export const textCharactersMax = 300

/** @returns what fits into a record. */
export const shortened = (text: string): string =>
  text.length > textCharactersMax ? `${text.slice(0, textCharactersMax - 1)}…` : text

/** Why an update is not counted, as its round's entry says it. What each holder answered stands in the log of who asked. */
export const exclusionReason = (fault: UpdateFault): string => shortened(describeUpdateFault(fault))

/** Whether a round that leaves an update out for this reason leaves it to the next one: nothing is wrong with it. */
export const isForLater = (reason: string): boolean => reason === 'late' || reason === 'absent' || reason.startsWith(unfetched)

export function describeEntryFault(fault: EntryFault): string {
  const { code, ...facts } = fault
  return `${code.toLowerCase().replaceAll('_', ' ')} (${Object.entries(facts)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')})`
}
