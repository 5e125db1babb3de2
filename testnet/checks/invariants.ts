/**
 * The invariants that a testnet's records can show (docs/protocol.md, "Invariants"). Each is a function from records to violations.
 *
 * I1 two different entries are never certified for one (federation, index)
 * I2 a voter never signs two entries for one (federation, index, term), restarts included
 * I3 a certified round's inputs come from members of its roster, each once, on the base that it names
 * I4 an accepted update (receipt given) is counted in exactly one certified round, or excluded with a reason; of two that an organization
 *    made for one round, because it had lost the disk with the first, either
 * I6 a residual is used at most once per target and round
 * I7 replicas that apply the same entries hold the same bits
 */
import { targetUsingTwice, wronglyDeclared } from '../../src/federation/declared-residuals.ts'
import { applyMembers, genesisRoster, type Roster } from '../../src/federation/membership.ts'
import type { MembersEntry } from '../../src/federation/entry.ts'
import type { FederationId, Link } from '../../src/ids.ts'
import type { CertifiedEntry, TestnetRecords, Violation } from './records.ts'

export const checkedInvariants = ['I1', 'I2', 'I3', 'I4', 'I6', 'I7']

export function checkInvariants(records: TestnetRecords, founders: Map<FederationId, readonly string[]>): Violation[] {
  return [
    ...oneEntryAnIndex(records),
    ...oneSignatureATerm(records),
    ...inputsFromMembers(records, founders),
    ...acceptedOnce(records),
    ...residualsOnce(records),
    ...sameBits(records)
  ]
}

function oneEntryAnIndex({ entries }: TestnetRecords): Violation[] {
  return [...entries].flatMap(([federation, all]) => {
    const first = new Map<number, CertifiedEntry>()
    return all.flatMap(one => {
      const other = first.get(one.certificate.index)
      first.set(one.certificate.index, other ?? one)
      return other === undefined || other.link === one.link
        ? []
        : [
            violation(
              'I1',
              `${federation} index ${one.certificate.index}: ${one.link} at ${one.node}, ${other.link} at ${other.node}`
            )
          ]
    })
  })
}

function oneSignatureATerm({ entries, records }: TestnetRecords): Violation[] {
  const signed = new Map<string, Link>()
  const found: Violation[] = []
  const see = (who: string, federation: FederationId, index: number, term: number, link: Link) => {
    const key = `${who} ${federation} ${index} ${term}`
    const other = signed.get(key)
    if (other !== undefined && other !== link)
      found.push(violation('I2', `${who} signed ${link} and ${other} for index ${index}, term ${term} of ${federation}`))
    signed.set(key, link)
  }
  // What a voter noted, and what its signature certified, are to be one.
  for (const { node, voter = node, record } of records)
    if (record.record === 'accept') see(voter, record.federation, record.index, record.term, record.entry)
  for (const { certificate } of [...entries.values()].flat()) {
    for (const { voter } of certificate.signatures)
      see(voter, certificate.federation, certificate.index, certificate.term, certificate.entry)
  }
  return found
}

function inputsFromMembers({ entries, updates }: TestnetRecords, founders: Map<FederationId, readonly string[]>): Violation[] {
  return [...entries].flatMap(([federation, all]) => {
    let roster: Roster = genesisRoster({ founders: [...(founders.get(federation) ?? [])] })
    const found: Violation[] = []
    for (const { entry } of inOrder(all)) {
      if (entry.kind === 'members') {
        roster = applyMembers(roster, entry)
        continue
      }
      const where = `${federation} round ${entry.round}`
      const seen = new Set<string>()
      for (const input of entry.inputs) {
        const member = roster.members.get(input.member)
        if (member === undefined || member.kind === 'witness')
          found.push(violation('I3', `${where}: ${input.member} is not in its roster`))
        if (seen.has(input.member)) found.push(violation('I3', `${where}: ${input.member} is counted twice`))
        seen.add(input.member)
        const update = updates.get(input.update)
        if (update === undefined)
          found.push(violation('I3', `${where}: the update ${input.update} of ${input.member} is in nobody’s archive`))
        else if (
          update.federation !== federation ||
          update.member !== input.member ||
          !(member?.peers.includes(update.by) ?? false)
        )
          found.push(violation('I3', `${where}: ${input.update} is not ${input.member}’s`))
        else if (update.round === entry.round && update.base !== entry.base)
          found.push(
            violation('I3', `${where}: ${input.member} trained from ${update.base}, the round is based on ${entry.base}`)
          )
      }
    }
    return found
  })
}

/** Each certified entry once, in order of index. */
function inOrder(all: CertifiedEntry[]): CertifiedEntry[] {
  return [...new Map(all.map(one => [one.certificate.index, one])).values()].sort(
    (left, right) => left.certificate.index - right.certificate.index
  )
}

function acceptedOnce({ entries, records }: TestnetRecords): Violation[] {
  const found: Violation[] = []
  for (const [federation, all] of entries) {
    const rounds = inOrder(all).flatMap(({ entry }) => (entry.kind === 'round' ? [entry] : []))
    const gone = new Set(inOrder(all).flatMap(({ entry }) => (entry.kind === 'members' ? membersGone(entry) : [])))
    const countedIn = new Map<Link, number[]>()
    for (const { inputs, round } of rounds)
      for (const { update } of inputs) countedIn.set(update, [...(countedIn.get(update) ?? []), round])
    for (const [update, where] of countedIn)
      if (where.length > 1)
        found.push(violation('I4', `${federation}: update ${update} is counted in rounds ${where.join(', ')}`))
    const newest = rounds.at(-1)?.round ?? 0
    const counts = ({ member, round }: { member: string; round: number }) =>
      rounds.some(({ inputs }) => inputs.some(input => input.member === member && input.round === round))
    for (const { node, record, lost = false } of records) {
      if (
        record.record !== 'receipt' ||
        record.federation !== federation ||
        record.verdict !== 'accepted' ||
        record.round > newest
      )
        continue
      const excluded = rounds.some(
        ({ round, excluded: list }) => round >= record.round && list.some(({ member }) => member === record.member)
      )
      // Who left or was evicted is excluded by that very entry.
      const another = lost && counts(record)
      if (!countedIn.has(record.update) && !another && !excluded && !gone.has(record.member))
        found.push(
          violation(
            'I4',
            `${federation} round ${record.round}: ${node} has a receipt for ${record.update}, which no round counts or excludes`
          )
        )
    }
  }
  return found
}

const membersGone = ({ left, evicted }: MembersEntry): string[] => [
  ...left.map(({ member }) => member),
  ...evicted.map(({ peer }) => peer)
]

/** What nodes noted before they mixed a residual in, what members declared, and what was certified, each by itself and against the others. */
function residualsOnce({ entries, updates, records }: TestnetRecords): Violation[] {
  const found: Violation[] = []
  const [used, noted] = [new Set<string>(), new Set<string>()]
  for (const { node, record } of records) {
    if (record.record !== 'residual') continue
    for (const what of [record.from, record.model]) {
      const key = `${node} ${record.federation} ${record.round} ${what}`
      if (used.has(key)) found.push(violation('I6', `${node} used ${what} twice in round ${record.round}`))
      used.add(key)
    }
    noted.add(`${record.from} ${record.model}`)
  }
  for (const [federation, all] of entries) {
    for (const { entry } of inOrder(all)) {
      if (entry.kind !== 'round') continue
      const where = `${federation} round ${entry.round}`
      const twice = targetUsingTwice(entry)
      if (twice !== null) found.push(violation('I6', `${where}: ${twice} uses a residual twice`))
      const declared = entry.inputs.flatMap(({ update }) => updates.get(update) ?? [])
      const untrue = declared.length === entry.inputs.length ? wronglyDeclared(entry, declared) : null
      if (untrue !== null) found.push(violation('I6', `${where}: the residuals of ${untrue} are not those of its update`))
      for (const { from, to, model } of entry.residuals)
        if (!noted.has(`${from} ${model}`))
          found.push(violation('I6', `${where}: ${to} used ${model} of ${from}, which no node has noted`))
    }
  }
  return found
}

function sameBits({ records }: TestnetRecords): Violation[] {
  const first = new Map<string, { node: string; digest: string }>()
  return records.flatMap(({ node, record }) => {
    if (record.record !== 'applied') return []
    const key = `${record.federation} ${record.entry}`
    const other = first.get(key)
    first.set(key, other ?? { node, digest: record.digest })
    return other === undefined || other.digest === record.digest
      ? []
      : [violation('I7', `${record.federation} round ${record.round}: ${node} and ${other.node} hold different models`)]
  })
}

const violation = (invariant: string, detail: string): Violation => ({ invariant, detail })
