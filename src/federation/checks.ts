/**
 * What a peer decides about an update or a proposed round from its own state alone (docs/protocol.md, "A round").
 * Is: pure. Is not: the judge of bytes; signatures, proofs and blobs are checked by who performs the effects.
 */
import { areFinite } from '../aggregate/sketch.ts'
import { assert } from '../errors.ts'
import type { Link, MemberId } from '../ids.ts'
import { targetUsingTwice, usedTwice, wronglyDeclared } from './declared-residuals.ts'
import type { RoundEntry, Update } from './entry.ts'
import { describeUpdateFault, type EntryFault, type UpdateFault } from './fault.ts'
import type { Environment, FederationState } from './federation-state.ts'
import { staleRoundsMax } from './participation.ts'
import { discounted, totals } from './round-sums.ts'

/** How many rounds ago `base` was the newest; null if that is longer ago than late updates are counted. */
export function staleness(state: FederationState, base: Link): number | null {
  const found = state.bases.find(({ link }) => link === base)
  return found === undefined ? null : state.head.round - found.round
}

/** An update is looked at whenever it is said, and by all replicas in one process: its numbers once. */
const finite = new WeakSet<Update>()

function hasFiniteSketches(update: Update): boolean {
  if (finite.has(update)) return true
  const found = areFinite(update.sketches)
  if (found) finite.add(update)
  return found
}

export function checkUpdate(state: FederationState, update: Update, env: Environment): UpdateFault | null {
  // [IGNORE] Its entry into the roster may not have reached us yet.
  const member = state.roster.members.get(update.member)
  if (member === undefined || member.kind === 'witness')
    return { code: 'NOT_A_MEMBER', verdict: 'ignore', member: update.member }
  // [REJECT] A member speaks through its own peers: its key, or its delegates.
  if (!member.peers.includes(update.by))
    return { code: 'NOT_ITS_PEER', verdict: 'reject', member: update.member, by: update.by }
  // [IGNORE] It may know a round that we do not, or have been away for long.
  const late = staleness(state, update.base)
  const counted = state.counted.get(update.member) ?? 0
  // [IGNORE] Several delegates hand the same contribution in, and one of them may be late: it counts once (I4).
  if (update.round <= counted) return { code: 'SETTLED', verdict: 'ignore', round: update.round, counted }
  if (late === null || update.round !== state.head.round - late + 1)
    return { code: 'WRONG_BASE', verdict: 'ignore', base: update.base, want: state.head.link }
  if (late > 0 && (state.charter.algorithm.stale === 'drop' || late > staleRoundsMax))
    return { code: 'STALE', verdict: 'ignore', staleness: late }
  // [REJECT] The charter's model says how many groups there are.
  if (update.sketches.length !== env.sketchBytes) {
    return { code: 'WRONG_SKETCHES', verdict: 'reject', gotBytes: update.sketches.length, wantBytes: env.sketchBytes }
  }
  // [REJECT] One number that is none would make the whole round's attention, and so its model, none.
  if (!hasFiniteSketches(update)) return { code: 'SKETCHES_NOT_FINITE', verdict: 'reject', member: update.member }
  // [REJECT] Who counts for nothing, however late, sends nothing: a round of only such updates has no mean.
  if (!(discounted(update.weight, staleRoundsMax) > 0)) return { code: 'NO_WEIGHT', verdict: 'reject', weight: update.weight }
  // [REJECT] What it says of itself counts as often in the means of its federation and of those above.
  if (member.kind === 'organization' && update.organizations !== 1)
    return { code: 'WRONG_COUNT', verdict: 'reject', member: update.member, organizations: update.organizations }
  // [REJECT] It knows what it mixed in (I6).
  const twice = usedTwice(update.residuals ?? [])
  if (twice !== null) return { code: 'RESIDUAL_TWICE', verdict: 'reject', member: update.member, from: twice }
  // [REJECT] Nobody trains on more tokens than the charter's steps hold.
  const limit = env.roundTokens * (member.kind === 'organization' ? 1 : update.organizations)
  if (update.weight > limit) return { code: 'TOO_HEAVY', verdict: 'reject', weight: update.weight, limit }
  return null
}

/** What a voter checks of a round that is proposed, from what it knows itself. */
export function checkRound(state: FederationState, entry: RoundEntry): EntryFault | null {
  const { head, roster, charter, participation } = state
  if (entry.round !== head.round + 1) return { code: 'WRONG_ROUND', got: entry.round, want: head.round + 1 }
  if (entry.base !== head.link) return { code: 'WRONG_BASE', base: entry.base, want: head.link }
  const counted = new Set<MemberId>()
  for (const { member, round } of entry.inputs) {
    const before = state.counted.get(member) ?? 0
    if (round <= before) return { code: 'COUNTED_BEFORE', member, round, counted: before }
    const known = roster.members.get(member)
    if (known === undefined || known.kind === 'witness') return { code: 'NOT_A_MEMBER', member }
    if (counted.has(member)) return { code: 'COUNTED_TWICE', member }
    counted.add(member)
  }
  const both = entry.excluded.find(({ member }) => counted.has(member))
  if (both !== undefined) return { code: 'BOTH_COUNTED_AND_EXCLUDED', member: both.member }
  const twice = targetUsingTwice(entry)
  if (twice !== null) return { code: 'WRONG_RESIDUALS', member: twice }
  const want = Math.max(1, charter.minMembers)
  if (counted.size < want) return { code: 'TOO_FEW_MEMBERS', got: counted.size, want }
  if (participation.phase === 'announced' && participation.accepted) {
    const mine = entry.inputs.some(({ update }) => update === participation.link)
    if (!mine && !entry.excluded.some(({ member }) => member === state.self))
      return { code: 'OWN_UPDATE_MISSING', member: state.self }
  }
  return null
}

/**
 * What a voter checks of a round's inputs against the updates that they name: each is one that the aggregator may take, counts with the
 * tokens that it claims, less the discount, and the round's sums and residuals are theirs. @param updates - in the order of the inputs.
 */
export function checkInputs(
  state: FederationState,
  entry: RoundEntry,
  updates: readonly Update[],
  env: Environment
): EntryFault | null {
  const inputs = entry.inputs.map((input, place) => ({ ...input, update: updates[place]!, link: input.update }))
  for (const { member, round, weight, update, link } of inputs) {
    if (update.member !== member || update.round !== round)
      return { code: 'BAD_INPUT', update: link, detail: 'of another member or round' }
    const fault = checkUpdate(state, update, env)
    if (fault !== null) return { code: 'BAD_INPUT', update: link, detail: describeUpdateFault(fault) }
    const want = discounted(update.weight, staleness(state, update.base) ?? 0)
    if (weight !== want) return { code: 'WRONG_SUM', name: `weight of ${member}`, got: weight, want }
  }
  for (const [name, want] of Object.entries(totals(inputs)) as [keyof ReturnType<typeof totals>, number][])
    if (entry[name] !== want) return { code: 'WRONG_SUM', name, got: entry[name], want }
  const untrue = wronglyDeclared(entry, updates)
  return untrue === null ? null : { code: 'WRONG_RESIDUALS', member: untrue }
}

/** Before the first round. One for all, so that replicas in one process share what follows from it. */
export const nothingCounted: ReadonlyMap<MemberId, number> = new Map()

/** What a round made of the counts that it was applied to last (as `applyMembers` keeps it of rosters). */
const counts = new WeakMap<RoundEntry, { before: ReadonlyMap<MemberId, number>; after: ReadonlyMap<MemberId, number> }>()

export function countInputs(counted: ReadonlyMap<MemberId, number>, entry: RoundEntry): ReadonlyMap<MemberId, number> {
  const known = counts.get(entry)
  if (known?.before === counted) return known.after
  const after = new Map(counted)
  for (const { member, round } of entry.inputs) after.set(member, Math.max(round, after.get(member) ?? 0))
  counts.set(entry, { before: counted, after })
  return after
}

/** Replicas in one process share their entries: each is asserted once. */
const asserted = new WeakSet<RoundEntry>()

export function assertRound(entry: RoundEntry): void {
  if (asserted.has(entry)) return
  const { inputs, excluded, round } = entry
  const members = new Set(inputs.map(({ member }) => member))
  assert(members.size === inputs.length, 'I3: a member is counted twice', { round })
  assert(!excluded.some(({ member }) => members.has(member)), 'I4: both counted and excluded', { round })
  assert(targetUsingTwice(entry) === null, 'I6: a residual is used twice by one target', { round })
  asserted.add(entry)
}
