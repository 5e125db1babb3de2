/** What a voter checks of a proposed entry beyond its own state (node/entry-checks.ts): the updates, their attention, that the model is held. */
import { softmax } from '../aggregate/attend.ts'
import { checkInputs } from '../federation/checks.ts'
import type { RoundEntry, Update } from '../federation/entry.ts'
import type { EntryFault } from '../federation/fault.ts'
import type { Question } from '../federation/federation.ts'
import { holdersOf } from '../federation/levels.ts'
import type { Link, PeerName } from '../ids.ts'
import type { ReplicaCore } from './core.ts'
import { checkProofs } from './stand-ins.ts'

const attentionTolerance = 1e-6
const verifying = new WeakMap<ReplicaCore, Set<Link>>()

/** A repeated question waits for the first answer. */
export function verify(replica: ReplicaCore, question: Question): void {
  const running = verifying.get(replica) ?? new Set<Link>()
  verifying.set(replica, running)
  if (running.has(question.link)) return
  running.add(question.link)
  const answer = (fault: EntryFault | null) => {
    running.delete(question.link)
    replica.dispatch({ type: 'verified', ...question, fault })
  }
  const { entry } = question
  if (entry.kind === 'members') {
    const wrong = checkProofs(entry)
    replica.later(0.1, () => answer(wrong && { code: 'WRONG_CHANGE', member: wrong.who, detail: wrong.why }))
  } else withUpdates(replica, question.from, entry, () => checkRound(replica, question.from, entry, answer))
}

function withUpdates(replica: ReplicaCore, from: PeerName, entry: RoundEntry, then: () => void): void {
  replica.glance()
  const missing = entry.inputs.map(({ update }) => update).filter(link => !replica.updates.has(link))
  if (missing.length === 0) {
    then()
    return
  }
  replica.ask(from, { kind: 'updates', links: missing }, answer => {
    if (answer?.kind === 'updates') for (const record of answer.updates) replica.keepUpdate(record)
    then()
  })
}

function checkRound(replica: ReplicaCore, from: PeerName, entry: RoundEntry, answer: (fault: EntryFault | null) => void): void {
  const updates: Update[] = []
  for (const { update: link, member, round } of entry.inputs) {
    const update = replica.updates.get(link)
    if (update === undefined) {
      answer({ code: 'UPDATE_UNKNOWN', update: link })
      return
    }
    const known = replica.memberOf(member)
    if (update.member !== member || update.round !== round || !(known?.peers.includes(update.by) ?? false)) {
      answer({ code: 'NOT_A_MEMBER', member })
      return
    }
    updates.push(update)
  }
  const wrong = checkInputs(replica.state, entry, updates, replica.topic.env) ?? checkAttention(replica, entry, updates)
  if (wrong !== null) {
    answer(wrong)
    return
  }
  fetchModel(replica, from, entry, answer)
}

interface Fetches {
  /** Entries whose models are on their way. */
  running: Set<RoundEntry>
  waiting: (() => void)[]
}
const fetches = new WeakMap<ReplicaCore, Fetches>()

/** No further one begins while one goes on whose entry was certified meanwhile (node/entry-checks.ts). */
function fetchModel(replica: ReplicaCore, from: PeerName, entry: RoundEntry, answer: (fault: EntryFault | null) => void): void {
  const { peer, topic, state } = replica
  const { running, waiting } = fetches.get(replica) ?? { running: new Set(), waiting: [] }
  fetches.set(replica, { running, waiting })
  const isCertified = ({ index }: RoundEntry) => index <= replica.state.consensus.commitIndex
  if ([...running].some(isCertified)) {
    waiting.push(() => {
      if (!isCertified(entry)) fetchModel(replica, from, entry, answer)
    })
    return
  }
  running.add(entry)
  peer.pull(entry.model, [from, entry.proposer, ...holdersOf(state)], topic, entry.round, got => {
    if (!replica.alive) return
    running.delete(entry)
    answer(got ? null : { code: 'MODEL_MISSING', detail: 'no holder gave it' })
    for (const go of waiting.splice(0)) go()
  })
}

function checkAttention({ services, topic }: ReplicaCore, entry: RoundEntry, updates: Update[]): EntryFault | null {
  const groups = services.learner.shape.keys.length
  if (groups === 0) return null
  const inputs = entry.inputs.map(({ weight }, place) => ({ weight, sketches: updates[place]!.sketches }))
  const want = softmax(services.mixing.logits(inputs, topic.charter.algorithm))
  for (const [place, { attention, member }] of entry.inputs.entries()) {
    for (const [group, weight] of want[place]!.entries()) {
      const got = attention[group] ?? Number.NaN
      if (!(Math.abs(got - weight) <= attentionTolerance)) return { code: 'WRONG_ATTENTION', member, got, want: weight }
    }
  }
  return null
}
