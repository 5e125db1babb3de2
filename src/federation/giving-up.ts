/**
 * When an aggregator may give its open entry up (docs/protocol.md, "What too many refuse"): too few voters are left that could still sign
 * it, and nobody can have certified it, in this term or in an earlier one.
 *
 * A certificate is made by the aggregator of a term, of signatures that were given to it. A voter that has refused the entry in this term
 * has never signed it, and one that has signed it in this term tells for which aggregators it ever did; both have a memory of their votes
 * and a log that ends below the entry, so they have certified nothing, and in an earlier term they will not any more. What the others have
 * signed or certified is not known: one of them may have a certificate if, all of them together with those that signed for it, they are a majority.
 *
 * Is: pure, of what a leader knows. The moves are in consensus-log.ts.
 */
import type { PeerName } from '../ids.ts'
import { type ConsensusState, type LogEntry, majority } from './consensus-state.ts'

type Leader<Entry extends LogEntry> = Extract<ConsensusState<Entry>, { role: 'leader' }>

/** Whether the open entry cannot be certified as things stand, and can be given up. */
export function isStuck<Entry extends LogEntry>(leader: Leader<Entry>): boolean {
  const { voters, refused, signatures } = leader
  if (voters.length - refused.size < majority(voters)) return true
  const silent = voters.filter(voter => !refused.has(voter) && !signatures.has(voter))
  // Who is there may yet sign: it is fetching what the entry names.
  const unable = silent.filter(voter => leader.forgetful.has(voter) || !leader.heard.has(voter))
  if (refused.size === 0 || voters.length - refused.size - unable.length >= majority(voters)) return false
  // Fewer could certify nothing else.
  return voters.length - silent.length >= majority(voters) && !mayBeCertified(leader)
}

function mayBeCertified<Entry extends LogEntry>({ voters, refused, signatures }: Leader<Entry>): boolean {
  const signedFor = (voter: PeerName) => signatures.get(voter)?.signedFor
  const unknown = voters.filter(voter => !refused.has(voter) && signedFor(voter) === undefined)
  const signers = (maker: PeerName) => voters.filter(voter => signedFor(voter)?.includes(maker)).length
  return unknown.some(maker => unknown.length + signers(maker) >= majority(voters))
}
