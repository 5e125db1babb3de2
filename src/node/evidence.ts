/** What evidence (federation/evidence.ts) asks of the daemon: real signatures, the topic, the log of faults. */
import type { EvidenceHost } from '../federation/evidence.ts'
import { rosterPeers } from '../federation/membership.ts'
import type { FederationId } from '../ids.ts'
import { checkEvidence, evidenceOf } from '../wire/member-proofs.ts'
import { acceptBytes, verifyPeerSignature } from '../wire/signature.ts'
import type { FederationCore } from './federation-core.ts'

/** By real signatures. @param federation - asked when it is needed: a node makes this before it knows its own. */
export const signedProofs = (federation: () => FederationId): Pick<EvidenceHost, 'isSigned' | 'prove' | 'check'> => ({
  isSigned: (peer, { index, term, link, signature }) =>
    verifyPeerSignature(peer, acceptBytes(federation(), index, term, link), signature),
  prove: (peer, one, other) =>
    evidenceOf(peer, {
      index: one.index,
      term: one.term,
      entries: [one.link, other.link],
      signatures: [one.signature, other.signature]
    }),
  check: checkEvidence
})

export function evidenceHost(node: FederationCore): EvidenceHost {
  return {
    get state() {
      return node.state
    },
    speakers: () => rosterPeers(node.state.roster, node.options.charter),
    ...signedProofs(() => node.id),
    say: message => node.say(message),
    accuse: evicted => node.dispatch({ type: 'accuse', evicted }),
    fault: (peer, code, detail) =>
      node.options.services.events.emit({ type: 'fault', federation: node.path, peer, code, detail })
  }
}
