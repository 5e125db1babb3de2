/** What evidence (federation/evidence.ts) asks of a simulated replica, and what an equivocating peer makes of what it has to tell. */
import type { Evidence, EvidenceHost } from '../federation/evidence.ts'
import type { ReplicaCore } from './core.ts'
import { acceptOther } from './lies.ts'
import { checkEvidence, evidenceOf, isSignedBy } from './stand-ins.ts'

export function evidenceHost(replica: ReplicaCore): EvidenceHost {
  const { peer, topic, services } = replica
  return {
    get state() {
      return replica.state
    },
    speakers: () => replica.rosterPeers(),
    isSigned: (voter, acceptance) => isSignedBy(voter, topic.id, acceptance),
    prove: evidenceOf,
    check: checkEvidence,
    say: message => {
      replica.voice.evidence(message)
      const other = peer.equivocating ? acceptOther(replica, message) : null
      if (other === null) return
      replica.voice.evidence(other)
      services.observer.signedTwice(peer, topic, other.accepts.index)
    },
    accuse: evicted => replica.dispatch({ type: 'accuse', evicted }),
    fault: (_, code) => services.measures.told(topic, code)
  }
}

/** What was found out, at each of its presences: whoever hears it for the first time needs it. */
export function sayAgain(replica: ReplicaCore, evidence: Evidence): void {
  replica.later(replica.topic.charter.timings.presenceMs, () => {
    evidence.again()
    sayAgain(replica, evidence)
  })
}
