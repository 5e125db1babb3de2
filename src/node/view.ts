/** A federation as this node's status shows it. */
import type { FederationNode } from './federation-node.ts'
import type { FederationStatus } from './status.ts'

export function federationStatus(node: FederationNode): FederationStatus {
  const { state, self } = node
  const { consensus, roster, round } = state
  const isPresent = (peer: string) => peer === self || state.present.has(peer)
  const members = [...roster.members.values()].map(({ member, kind, name, peers }) => ({
    member,
    kind,
    name,
    peers,
    present: peers.some(isPresent),
    announced: state.known.has(member)
  }))
  const mine = roster.members.get(self)
  const delegated = [...roster.members.values()].some(({ kind, peers }) => kind === 'federation' && peers.includes(self))
  return {
    id: state.id,
    path: state.charter.path,
    parent: state.charter.parent,
    role:
      mine?.kind === 'organization' || mine?.kind === 'witness'
        ? mine.kind
        : delegated
          ? 'delegate'
          : node.options.as === null
            ? 'observer'
            : 'joining',
    leaving: node.leaving,
    leavingWaitsFor: node.joining.waitsFor,
    term: consensus.term,
    aggregator: consensus.aggregator ?? node.heard.aggregator,
    phase: round.phase === 'idle' ? null : round.phase,
    index: consensus.commitIndex,
    head: consensus.head,
    round: state.head.round,
    rounds: state.charter.algorithm.rounds,
    members,
    voters: [...roster.voters],
    delegates: [...roster.delegates]
  }
}
