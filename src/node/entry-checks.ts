/** What a voter checks of a proposed entry that only bytes can tell: proofs, signed updates, the attention, that the model is held here, and is one. */
import { softmax } from '../aggregate/attend.ts'
import { outerStateVectors } from '../aggregate/outer-step.ts'
import { isSketched, sketchLogits } from '../aggregate/sketch.ts'
import { checkInputs } from '../federation/checks.ts'
import type { RoundEntry, Update } from '../federation/entry.ts'
import type { EntryFault } from '../federation/fault.ts'
import type { Question } from '../federation/federation.ts'
import type { FederationState } from '../federation/federation-state.ts'
import { holdersOf } from '../federation/levels.ts'
import type { Link, PeerName } from '../ids.ts'
import { outerSections } from '../train/model-file.ts'
import { addEntry, readUpdate } from '../wire/certified-log.ts'
import { limits } from '../wire/limits.ts'
import { entryCodec } from '../wire/records.ts'
import type { FederationCore } from './federation-core.ts'
import { logStateOf } from './log-sync.ts'

const verifying = new WeakMap<FederationCore, Set<Link>>()

/** What only bytes can tell of a proposed entry. A repeated question waits for the first answer. */
export async function verify(node: FederationCore, question: Question): Promise<void> {
  const running = verifying.get(node) ?? new Set<Link>()
  verifying.set(node, running)
  if (running.has(question.link)) return
  running.add(question.link)
  try {
    const fault = await checkEntry(node, question)
    if (fault !== overtaken) node.dispatch({ type: 'verified', ...question, fault })
  } catch (error) {
    // A disk that cannot be read, or this node's own end.
    if (!node.stopped) node.options.services.fail(error)
  } finally {
    running.delete(question.link)
  }
}

/** It was certified meanwhile: nobody waits for this voter's word any more. */
const overtaken = 'overtaken'

/** As the log is now, when it is asked about: what comes while updates are fetched changes nothing. */
async function checkEntry(
  node: FederationCore,
  { from, link, entry }: Question
): Promise<EntryFault | typeof overtaken | null> {
  const { state } = node
  if (entry.kind === 'round') await fetchMissing(node, from, entry)
  // Nothing is signed that the offline check would refuse, under no other name than its bytes have.
  const added = addEntry(logStateOf(state), entryCodec.encode(entry), node.signedUpdates)
  if ('code' in added) return { code: 'NOT_VERIFIABLE', detail: `${added.code}: ${added.detail}` }
  if (added.link !== link) return { code: 'NOT_VERIFIABLE', detail: `proposed as ${link}, its bytes are ${added.link}` }
  return entry.kind === 'round' ? checkRound(node, state, from, entry) : null
}

/** The updates that are counted, the attention that follows from them, and the model: a voter holds it before it signs. */
async function checkRound(
  node: FederationCore,
  state: FederationState,
  from: PeerName,
  entry: RoundEntry
): Promise<EntryFault | typeof overtaken | null> {
  const updates: Update[] = []
  for (const { update: link } of entry.inputs) {
    const bytes = node.signedUpdates.get(link)
    const read = bytes === undefined ? null : readUpdate(bytes)
    if (read === null) return { code: 'UPDATE_UNKNOWN', update: link }
    updates.push(read.update)
  }
  const wrong = checkInputs(state, entry, updates, node.environment) ?? checkAttention(node, entry, updates)
  if (wrong !== null) return wrong
  if (!(await mayFetch(node, entry))) return overtaken
  const missing = await fetchModel(node, from, entry)
  if (missing !== null) return missing
  const detail = await faultOfModels(node, entry)
  return detail === null ? null : { code: 'NOT_A_MODEL', detail }
}

interface Fetch {
  index: number
  ended: Promise<unknown>
}
const fetches = new WeakMap<FederationCore, Set<Fetch>>()

async function fetchModel(node: FederationCore, from: PeerName, entry: RoundEntry): Promise<EntryFault | null> {
  const { exchange } = node.options.services
  const running = fetches.get(node) ?? new Set<Fetch>()
  fetches.set(node, running)
  const holders = () => [from, entry.proposer, ...holdersOf(node.state)]
  const pulled = exchange
    .pull(entry.model, holders())
    .then(() => (entry.outer === null ? 0 : exchange.pull(entry.outer, holders())))
    .then(
      () => null,
      (error: Error): EntryFault => ({ code: 'MODEL_MISSING', detail: error.message })
    )
  const fetch = { index: entry.index, ended: pulled }
  running.add(fetch)
  return pulled.finally(() => running.delete(fetch))
}

/**
 * Where others certify rounds faster than their models come over this voter's line, each fetch would slow down all the others, and what
 * else the line is for: no further one begins while one goes on that was overtaken. @returns false when this one was meanwhile, too.
 */
async function mayFetch(node: FederationCore, { index }: RoundEntry): Promise<boolean> {
  const isCertified = (place: number) => place <= node.state.consensus.commitIndex
  for (;;) {
    const late = [...(fetches.get(node) ?? [])].find(fetch => isCertified(fetch.index))
    if (late === undefined) return true
    await late.ended
    if (isCertified(index)) return false
  }
}

/** Certified, it would be the base of the next round for good: its members, and each aggregator, would end on what is no model. */
async function faultOfModels({ layout, options }: FederationCore, { model, outer }: RoundEntry): Promise<string | null> {
  const { mixer, blobs } = options.services
  const { parent, algorithm } = options.charter
  const fault = await mixer.faultOf(layout, blobs.path(model))
  const vectors = parent === null ? outerStateVectors[algorithm.outer] : 0
  if (fault !== null || outer === null || vectors === 0) return fault
  return mixer.faultOf(layout, blobs.path(outer), outerSections(vectors))
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

/** Asks `from` for updates until none is missing, or nothing new comes: an answer holds a page of them. */
export async function fetchMissing(
  node: Pick<FederationCore, 'id' | 'signedUpdates' | 'keepUpdate' | 'ask'>,
  from: PeerName,
  { inputs }: Pick<RoundEntry, 'inputs'>
): Promise<void> {
  const missing = new Set(inputs.map(({ update }) => update).filter(link => !node.signedUpdates.has(link)))
  for (let before = missing.size + 1; missing.size > 0 && missing.size < before; ) {
    before = missing.size
    const links = [...missing].slice(0, limits.fetchUpdatesMax)
    const answer = await node.ask(from, { kind: 'updates', federation: node.id, links })
    if (answer?.kind !== 'updates') return
    for (const bytes of answer.updates) {
      const read = readUpdate(bytes)
      if (read !== null && missing.delete(read.link)) node.keepUpdate(read.link, bytes)
    }
  }
}
