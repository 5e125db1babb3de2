/** A certified round as people and programs see it. */
import type { FederationCore } from './federation-core.ts'
import { isFederationId, type Link, type MemberId } from '../ids.ts'
import type { RoundEntry } from '../federation/entry.ts'
import type { RoundSummary } from './status.ts'

export function summarize(
  node: Pick<FederationCore, 'layout' | 'path' | 'id' | 'state'>,
  entry: RoundEntry,
  link: Link,
  term: number,
  commitSeconds: number
): RoundSummary {
  const { groups } = node.layout
  const nameOf = (member: MemberId): string =>
    node.state.roster.members.get(member)?.name ?? (isFederationId(member) ? member.slice(-8) : member.slice(-6))
  return {
    federation: node.path,
    federationId: node.id,
    round: entry.round,
    index: entry.index,
    term,
    aggregator: entry.proposer,
    entry: link,
    included: entry.inputs.map(({ member, weight, attention }) => ({
      member,
      name: nameOf(member),
      weight,
      attention: Object.fromEntries(groups.map((group, place) => [group, attention[place] ?? 0]))
    })),
    excluded: entry.excluded.map(({ member, reason }) => ({ member, name: nameOf(member), reason })),
    residuals: entry.residuals.map(({ model: _model, ...residual }) => residual),
    bytesIn: entry.measured.bytesIn,
    bytesOut: entry.measured.bytesOut,
    seconds: {
      train: entry.measured.trainSeconds,
      transfer: entry.measured.transferSeconds,
      aggregate: entry.measured.aggregateSeconds,
      commit: commitSeconds
    },
    alone: entry.alone,
    organizations: entry.organizations
  }
}
