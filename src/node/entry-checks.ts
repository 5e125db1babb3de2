/** What a voter checks of a proposed entry that only bytes can tell: proofs, signed updates, the attention, that the model is held here. */
import { softmax } from '../aggregate/attend.ts'
import { isSketched, sketchLogits } from '../aggregate/sketch.ts'
import { checkInputs } from '../federation/checks.ts'
import type { Entry, RoundEntry, Update } from '../federation/entry.ts'
import type { EntryFault } from '../federation/fault.ts'
import type { Question } from '../federation/federation.ts'
import { holdersOf } from '../federation/levels.ts'
import type { Link, PeerName } from '../ids.ts'
import { checkProof, readUpdate } from '../wire/certified-log.ts'
import { checkMemberProofs } from '../wire/member-proofs.ts'
import type { FederationCore } from './federation-core.ts'

const verifying = new WeakMap<FederationCore, Set<Link>>()

/** What only bytes can tell of a proposed entry. A repeated question waits for the first answer. */
export async function verify(node: FederationCore, question: Question): Promise<void> {
  const running = verifying.get(node) ?? new Set<Link>()
  verifying.set(node, running)
  if (running.has(question.link)) return
  running.add(question.link)
  try {
    const fault =
      question.entry.kind === 'members'
        ? checkJoined(node, question.entry)
        : await checkRound(node, question.from, question.entry)
    node.dispatch({ type: 'verified', ...question, fault })
  } finally {
    running.delete(question.link)
  }
}

function checkJoined(node: FederationCore, entry: Extract<Entry, { kind: 'members' }>): EntryFault | null {
  for (const member of entry.joined) {
    const why = checkProof(node.id, member)
    if (why !== null) return { code: 'NOT_ADMITTED', member: member.member, detail: why }
  }
  const wrong = checkMemberProofs(node.id, entry)
  return wrong === null ? null : { code: 'WRONG_CHANGE', member: wrong.who, detail: wrong.why }
}

/** The updates that are counted, the attention that follows from them, and the model: a voter holds it before it signs. */
async function checkRound(node: FederationCore, from: PeerName, entry: RoundEntry): Promise<EntryFault | null> {
  // As it is now, when the round is asked about: what comes while its updates are fetched changes nothing.
  const { state } = node
  const missing = entry.inputs.map(({ update }) => update).filter(link => !node.signedUpdates.has(link))
  if (missing.length > 0) await fetchUpdates(node, from, missing)
  const updates: Update[] = []
  for (const { update: link } of entry.inputs) {
    const bytes = node.signedUpdates.get(link)
    const read = bytes === undefined ? null : readUpdate(bytes)
    if (read === null) return { code: 'UPDATE_UNKNOWN', update: link }
    updates.push(read.update)
  }
  const wrong = checkInputs(state, entry, updates, node.environment) ?? checkAttention(node, entry, updates)
  if (wrong !== null) return wrong
  try {
    const { exchange } = node.options.services
    await exchange.pull(entry.model, [from, entry.proposer, ...holdersOf(node.state)])
    if (entry.outer !== null) await exchange.pull(entry.outer, [from, entry.proposer, ...holdersOf(node.state)])
    return null
  } catch (error) {
    return { code: 'MODEL_MISSING', detail: (error as Error).message }
  }
}

/** Logarithms and powers may differ in their last bit between machines. */
const attentionTolerance = 1e-6

function checkAttention(node: FederationCore, entry: RoundEntry, updates: Update[]): EntryFault | null {
  const { algorithm } = node.options.charter
  if (!isSketched(algorithm)) return null
  const inputs = entry.inputs.map(({ weight }, place) => ({ weight, sketches: updates[place]!.sketches }))
  const want = softmax(sketchLogits(inputs, node.layout.groups.length, algorithm))
  for (const [place, { attention, member }] of entry.inputs.entries()) {
    for (const [group, weight] of want[place]!.entries()) {
      const got = attention[group] ?? Number.NaN
      if (!(Math.abs(got - weight) <= attentionTolerance)) return { code: 'WRONG_ATTENTION', member, got, want: weight }
    }
  }
  return null
}

async function fetchUpdates(node: FederationCore, from: PeerName, links: Link[]): Promise<void> {
  const answer = await node.ask(from, { kind: 'updates', federation: node.id, links })
  if (answer?.kind !== 'updates') return
  for (const bytes of answer.updates) {
    const read = readUpdate(bytes)
    if (read !== null && links.includes(read.link)) node.keepUpdate(read.link, bytes)
  }
}
