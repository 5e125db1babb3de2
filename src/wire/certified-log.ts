/**
 * A federation's certified log, checked offline from its genesis charter on: nobody is asked, nobody is believed.
 *
 * Each entry follows the one before, and its certificate holds signatures of a majority of the voters in force before it. Rounds
 * count from 1 without gaps; their inputs are members, each once, on the base that the update names, signed by the member's own peer.
 */
import { countInputs } from '../federation/checks.ts'
import { targetUsingTwice } from '../federation/declared-residuals.ts'
import type { Certificate, Entry, Member, RoundEntry } from '../federation/entry.ts'
import { applyMembers, checkMembers, genesisRoster, type Roster } from '../federation/membership.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, MemberId } from '../ids.ts'
import { isMalformed, linkOf } from './codec.ts'
import { checkProof } from './join-proofs.ts'
import { type CertifiedBytes, signedCodec } from './messages.ts'
import { checkMemberProofs } from './member-proofs.ts'
import { certificateCodec, charterCodec, entryCodec, updateCodec } from './records.ts'
import { checkCertificate, signedBytes, verifyPeerSignature } from './signature.ts'

export interface LogFault {
  federation: FederationId
  /** Of the entry concerned; 0: the charter. */
  index: number
  code: string
  detail: string
}

export interface LogState {
  id: FederationId
  charter: Charter
  roster: Roster
  index: number
  head: Link
  rounds: number
  /** Newest bases, the current one last. */
  bases: Link[]
  /** The highest round of each member that is counted. */
  counted: ReadonlyMap<MemberId, number>
}

/** Signed update records by link, as far as they are at hand. */
type UpdatesAtHand = Pick<ReadonlyMap<Link, Uint8Array>, 'get'>

/** @returns the state before entry 1, or why these bytes are no charter. */
export function beginLog(charterBytes: Uint8Array): LogState | LogFault {
  const id = linkOf(charterBytes)
  const charter = charterCodec.decode(charterBytes)
  if (isMalformed(charter)) return { federation: id, index: 0, code: 'MALFORMED', detail: charter.detail }
  return { id, charter, roster: genesisRoster(charter), index: 0, head: id, rounds: 0, bases: [id], counted: new Map() }
}

/**
 * Adds one certified entry.
 * @param updates - signed update records by link, as far as they are at hand; those at hand are checked.
 */
export function extendLog(
  log: LogState,
  { entry: entryBytes, certificate: certificateBytes }: CertifiedBytes,
  updates: UpdatesAtHand = new Map()
): { log: LogState; entry: Entry; certificate: Certificate; link: Link } | LogFault {
  const fail = (code: string, detail: string): LogFault => ({ federation: log.id, index: log.index + 1, code, detail })
  const certificate = certificateCodec.decode(certificateBytes)
  if (isMalformed(certificate)) return fail('MALFORMED', certificate.detail)
  const added = addEntry(log, entryBytes, updates)
  if ('code' in added) return added
  const { link } = added
  if (certificate.federation !== log.id) return fail('WRONG_FEDERATION', certificate.federation)
  if (certificate.index !== added.entry.index) return fail('GAP', `index ${certificate.index}`)
  if (certificate.entry !== link) return fail('WRONG_CERTIFICATE', `is for ${certificate.entry}, the entry is ${link}`)
  const unsigned = checkCertificate(log.roster.voters, certificate)
  return unsigned === null ? { ...added, certificate } : fail('WRONG_CERTIFICATE', unsigned)
}

/**
 * The log with one more entry, if that follows from it: all that is checked but the certificate. A voter asks this before it signs, so that
 * nothing is ever certified that this file would refuse afterwards.
 */
export function addEntry(
  log: LogState,
  entryBytes: Uint8Array,
  updates: UpdatesAtHand
): { log: LogState; entry: Entry; link: Link } | LogFault {
  const fail = (code: string, detail: string): LogFault => ({ federation: log.id, index: log.index + 1, code, detail })
  const entry = entryCodec.decode(entryBytes)
  if (isMalformed(entry)) return fail('MALFORMED', entry.detail)
  const link = linkOf(entryBytes)
  if (entry.federation !== log.id) return fail('WRONG_FEDERATION', entry.federation)
  if (entry.index !== log.index + 1) return fail('GAP', `index ${entry.index}`)
  if (entry.prev !== log.head) return fail('BROKEN_CHAIN', `follows ${entry.prev}, not ${log.head}`)
  const next = { ...log, index: entry.index, head: link }
  if (entry.kind === 'members') {
    const fault = checkMembers(log.roster, log.charter, entry)
    if (fault !== null) return fail(fault.code, 'a change of members that the charter does not allow')
    for (const member of entry.joined) {
      const why = checkProof(log.id, member, log.roster.proofs.get(member.member))
      if (why !== null) return fail('WRONG_PROOF', `${member.name}: ${why}`)
    }
    const wrong = checkMemberProofs(log.id, entry)
    if (wrong !== null) return fail('WRONG_PROOF', `${wrong.who}: ${wrong.why}`)
    return { log: { ...next, roster: applyMembers(log.roster, entry) }, entry, link }
  }
  const wrong = checkRoundOf(log, entry, updates)
  if (wrong !== null) return fail('WRONG_ROUND', wrong)
  const bases = [...log.bases, link].slice(-8)
  return { log: { ...next, rounds: entry.round, bases, counted: countInputs(log.counted, entry) }, entry, link }
}

function checkRoundOf(log: LogState, entry: RoundEntry, updates: UpdatesAtHand): string | null {
  if (entry.round !== log.rounds + 1) return `round ${entry.round} after round ${log.rounds}`
  if (entry.base !== log.bases.at(-1)) return `is based on ${entry.base}, not on the round before`
  const counted = new Set<MemberId>()
  for (const input of entry.inputs) {
    const member = log.roster.members.get(input.member)
    if (member === undefined || member.kind === 'witness') return `I3: ${input.member} is not in the roster`
    if (counted.has(input.member)) return `I3: ${member.name} is counted twice`
    if (input.round <= (log.counted.get(input.member) ?? 0))
      return `I4: ${member.name}'s update for round ${input.round} is counted a second time`
    counted.add(input.member)
    const bytes = updates.get(input.update)
    const why = bytes === undefined ? null : checkUpdateRecord(log, member, input.update, bytes)
    if (why !== null) return `I3: ${member.name}: ${why}`
  }
  const twice = targetUsingTwice(entry)
  if (twice !== null) return `I6: ${twice} uses a residual twice`
  const both = entry.excluded.find(({ member }) => counted.has(member))
  return both === undefined ? null : `I4: ${both.member} is both counted and excluded`
}

function checkUpdateRecord(log: LogState, member: Member, link: Link, bytes: Uint8Array): string | null {
  const update = readUpdate(bytes)
  if (update === null || update.link !== link) return 'its update is damaged or wrongly signed'
  if (update.update.federation !== log.id || update.update.member !== member.member)
    return 'its update names another member or federation'
  if (!member.peers.includes(update.update.by)) return `its update is signed by ${update.update.by}, who does not speak for it`
  return log.bases.includes(update.update.base) ? null : `its update is based on ${update.update.base}`
}

/** A signed update record, checked: its link, its fields, its signature. */
export function readUpdate(bytes: Uint8Array) {
  const signed = signedCodec.decode(bytes)
  if (isMalformed(signed)) return null
  const update = updateCodec.decode(signed.record)
  if (isMalformed(update) || update.by !== signed.by) return null
  if (!verifyPeerSignature(signed.by, signedBytes('update', signed.record), signed.signature)) return null
  return { link: linkOf(signed.record), update }
}
