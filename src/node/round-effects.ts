/** A round on its aggregator: updates pulled and inspected, aggregated in the mixer, contributed above, combined with the parent's result. */
import { rmSync } from 'node:fs'
import { federationDown } from '../aggregate/down.ts'
import { isBlockEncoding } from '../aggregate/encode.ts'
import { BlobAway } from '../errors.ts'
import type { Entry, Update } from '../federation/entry.ts'
import { describeUpdateFault } from '../federation/fault.ts'
import { holdersOf, holdersOfUpdate } from '../federation/levels.ts'
import { staleRoundsMax } from '../federation/participation.ts'
import type { ParentHead, Received } from '../federation/round-state.ts'
import type { Link, PeerName } from '../ids.ts'
import { backboneRanges } from '../model/layout.ts'
import { readUpdate } from '../wire/certified-log.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { entryCodec } from '../wire/records.ts'
import { forbiddenHere } from './blob-gate.ts'
import type { EffectToPerform as Effect, FederationCore } from './federation-core.ts'

export async function pull(node: FederationCore, link: Link, update: Update): Promise<void> {
  const { exchange, blobs, mixer } = node.options.services
  const began = performance.now()
  const forbidden = forbiddenHere(node, update)
  if (forbidden !== null) {
    node.dispatch({ type: 'unpulled', link, fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: forbidden } })
    return
  }
  try {
    const bytes = await exchange.pull(update.blob, holdersOfUpdate(node.state, update))
    // Not in one expression: that begins with what was measured before the others that are pulled meanwhile.
    node.measured.bytesIn += bytes
  } catch (error) {
    node.dispatch({ type: 'unpulled', link, fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: (error as Error).message } })
    return
  }
  node.measured.transferSeconds += (performance.now() - began) / 1000
  try {
    const previous = await previousModel(node)
    if (previous === null) return
    const base = await keysBase(node, update.base, previous)
    const { fault, keysDistance } = await mixer.inspect(node.layout, blobs.path(update.blob), base, previous)
    if (fault === null) node.dispatch({ type: 'pulled', link, keysDistance })
    else node.dispatch({ type: 'unpulled', link, fault: { code: 'DAMAGED', verdict: 'reject', detail: fault } })
  } catch (error) {
    node.dispatch({ type: 'unpulled', link, fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: (error as Error).message } })
  }
}

/** Updates of one aggregator that its deputy keeps in a round: it makes one, another after it lost its disk; whoever makes more fills no disk. */
const heldMax = 4
const holding = new WeakMap<FederationCore, { by: PeerName; round: number; blobs: Set<Link> }>()

/** In its own time: it is announced again as long as it may be wanted. */
export function hold(node: FederationCore, { by, blob, holders }: Update): void {
  const { exchange, log } = node.options.services
  const { round } = node.state.head
  const known = holding.get(node)
  const { blobs } = known?.by === by && known.round === round ? known : { blobs: new Set<Link>() }
  if (!blobs.has(blob) && blobs.size >= heldMax) return
  holding.set(node, { by, round, blobs: blobs.add(blob) })
  exchange.pull(blob, holders).catch(error => log.debug({ blob, error: (error as Error).message }, 'not held'))
}

/** What an aggregator needs and nobody gives is asked for again so late, … */
const retryMs = 1_000
/** … so often, before it leaves the round to one that may hold it, or a child goes on without its parent. */
const triesMax = 5

const pulling = new WeakMap<FederationCore, Map<Link, Promise<boolean>>>()

/**
 * Brings here what this node cannot aggregate without, as long as it leads: a holder may be starting again. After `triesMax` tries it
 * hands over, for another may hold it. @returns false when it leads no more: the round is made elsewhere.
 */
function pullToLead(node: FederationCore, blob: Link): Promise<boolean> {
  const running = pulling.get(node) ?? new Map<Link, Promise<boolean>>()
  pulling.set(node, running)
  const known = running.get(blob)
  if (known !== undefined) return known
  const pulled = pullWhileLeading(node, blob).finally(() => running.delete(blob))
  running.set(blob, pulled)
  return pulled
}

const warn = (node: FederationCore, what: string) =>
  node.options.services.events.emit({ type: 'warning', code: 'MODEL_AWAY', message: `${node.path}: the aggregator ${what}` })

/** Another may hold what is lacking here. */
function handOver(node: FederationCore, why: string): void {
  warn(node, `hands over, ${why}`)
  node.dispatch({ type: 'consensus', event: { type: 'hand-over' } })
}

async function pullWhileLeading(node: FederationCore, blob: Link): Promise<boolean> {
  const { exchange } = node.options.services
  for (let tries = 1; ; tries++) {
    try {
      await exchange.pull(blob, holdersOf(node.state))
      return true
    } catch (error) {
      if (!(error instanceof BlobAway)) throw error
      const what = `the model before is away: ${error.message}`
      if (tries % triesMax === 0) handOver(node, what)
      else if (tries === 1) warn(node, `asks again, ${what}`)
    }
    await new Promise(resolve => setTimeout(resolve, retryMs).unref())
    if (node.stopped || node.state.consensus.role !== 'leader') return false
  }
}

/** The federation's newest model as a file: the head's, or what the tree began with. Null: this node does not lead any more. */
async function previousModel(node: FederationCore): Promise<string | null> {
  const { folder, blobs } = node.options.services
  const { entry } = node.state.head
  if (entry === null) return folder.model('initial')
  return (await pullToLead(node, entry.model)) ? blobs.path(entry.model) : null
}

/** With a block encoding: the file of the model that a member's K is taken against, which is the round's that it trained from. */
async function keysBase(node: FederationCore, base: Link, previous: string): Promise<string | null> {
  const { folder, exchange, blobs } = node.options.services
  if (!isBlockEncoding(node.options.charter.algorithm.encoding)) return null
  if (base === node.id) return folder.model('initial')
  if (base === node.state.head.link) return previous
  // A late update's: it stands a few entries before the head.
  const entry = entryOf(node, base)
  if (entry?.kind !== 'round') throw new Error(`its base ${base} is no round of this federation`)
  await exchange.pull(entry.model, [entry.proposer, ...holdersOf(node.state)])
  return blobs.path(entry.model)
}

function entryOf({ log }: FederationCore, wanted: Link): Entry | null {
  const bytes = log.rounds(staleRoundsMax + 1).find(({ entry }) => linkOf(entry) === wanted)
  const entry = bytes === undefined ? null : entryCodec.decode(bytes.entry)
  return entry === null || isMalformed(entry) ? null : entry
}

export function receipt(node: FederationCore, { member, update, verdict }: Extract<Effect, { do: 'receipt' }>): void {
  const known = node.signedUpdates.get(update)
  const read = known === undefined ? null : readUpdate(known)
  const word = verdict === 'accepted' ? 'accepted' : verdict.code
  if (verdict !== 'accepted') {
    node.options.services.events.emit({
      type: 'fault',
      federation: node.path,
      peer: read?.update.by ?? member,
      code: verdict.code,
      detail: describeUpdateFault(verdict)
    })
  }
  if (read === null) return
  if (read.update.by !== node.self) {
    void node.ask(read.update.by, { kind: 'receipt', federation: node.id, update, verdict: word })
    return
  }
  node.takeReceipt(node.self, update, word)
}

const aggregating = new WeakMap<FederationCore, Promise<void>>()

/** One at a time: a round that is opened again writes the same files. */
export function aggregate(node: FederationCore, round: number, inputs: Received[]): void {
  const before = aggregating.get(node) ?? Promise.resolve()
  const isWanted = () => node.state.round.phase === 'aggregating' && node.state.round.inputs === inputs
  const made = before
    .then(() => (isWanted() ? aggregateNow(node, round, inputs) : undefined))
    .catch(error => {
      // Of a round that is made elsewhere by now the updates may have been removed already.
      if (!isWanted()) return
      if (error instanceof BlobAway) handOver(node, `the base of a late update is away: ${error.message}`)
      else node.options.services.fail(error)
    })
  aggregating.set(node, made)
}

/** Answers `aggregated`, unless this node leads no more. */
async function aggregateNow(node: FederationCore, round: number, inputs: Received[]): Promise<void> {
  const { services, charter } = node.options
  const { mixer, blobs, folder, exchange } = services
  const began = performance.now()
  const previous = await previousModel(node)
  const outerFrom = node.state.head.entry?.outer ?? null
  if (previous === null || (outerFrom !== null && !(await pullToLead(node, outerFrom)))) return
  const output = folder.model(`aggregate-${charter.name}`)
  const outerOutput = folder.model(`outer-${charter.name}`)
  const sketched = []
  for (const { link, weight, update, keysDistance } of inputs) {
    const { sketches } = update
    const base = await keysBase(node, update.base, previous)
    sketched.push({ link, weight, path: blobs.path(update.blob), base, sketches, keysDistance })
  }
  const hasOuter = charter.parent === null && charter.algorithm.outer !== 'average' && backboneRanges(node.layout).length > 0
  const outer =
    charter.parent === null ? { from: outerFrom === null ? null : blobs.path(outerFrom), output: outerOutput } : null
  const { attention, sketches } = await mixer.aggregate({
    layout: node.layout,
    algorithm: charter.algorithm,
    previous,
    genesis: folder.model('initial'),
    inputs: sketched,
    outer,
    seed: charter.seed,
    output
  })
  const { link: model, bytes: modelBytes } = await blobs.put(output)
  const contribution = charter.parent === null ? null : await contributionOf(node, { link: model, bytes: modelBytes })
  const measured = {
    bytesIn: node.measured.bytesIn,
    bytesOut: exchange.bytes.out - node.measured.bytesOutBefore,
    transferSeconds: node.measured.transferSeconds,
    aggregateSeconds: (performance.now() - began) / 1000
  }
  const result = {
    model,
    modelBytes,
    outer: hasOuter ? (await blobs.put(outerOutput)).link : null,
    contribution: contribution?.link ?? null,
    contributionBytes: contribution?.bytes ?? 0,
    contributionBase: contribution?.base ?? null,
    sketches,
    attention,
    measured
  }
  node.measured.proposedAt = performance.now()
  node.dispatch({ type: 'aggregated', round, inputs: inputs.map(({ link }) => link), result })
}

/**
 * With a backbone, what goes up is its change against the parent's; without one, the model itself. Where members' updates have a block
 * encoding, this is bf16: the aggregator changes, and what it would owe with it; and it is one a federation, not one a member.
 * @returns null when nobody gives the parent's model.
 */
async function contributionOf(
  node: FederationCore,
  model: { link: Link; bytes: number }
): Promise<{ link: Link; bytes: number; base: Link | null } | null> {
  const { services, charter } = node.options
  const { mixer, blobs, folder } = services
  const isBlock = isBlockEncoding(charter.algorithm.encoding)
  if (backboneRanges(node.layout).length === 0 && !isBlock) return { ...model, base: null }
  const output = folder.model(`contribution-${charter.name}`)
  const encoding = isBlock ? 'bf16' : charter.algorithm.encoding
  const parent = await pullParent(node)
  if (parent === null) return null
  const start = parent === 'none yet' ? folder.model('initial') : blobs.path(parent.model)
  await mixer.difference({ layout: node.layout, model: blobs.path(model.link), start, output, encoding, block: null })
  // The parent may have certified its next round meanwhile: that is noticed where the answer is taken (round.ts).
  return { ...(await blobs.put(output)), base: parent === 'none yet' ? charter.parent : parent.entry }
}

/**
 * Brings the parent's model here, the newest at each try. Where the parent's rounds are so short that a model is gone before it has come, the next
 * goes the same way.
 * @returns whose model it is; null when nobody gives one after `triesMax` tries, or none came in `parentTimeoutMs`.
 */
async function pullParent(node: FederationCore): Promise<ParentHead | 'none yet' | null> {
  const { services, charter } = node.options
  const { exchange, events } = services
  const until = performance.now() + charter.timings.parentTimeoutMs
  for (let tries = 1; tries <= triesMax && (tries === 1 || performance.now() < until); tries++) {
    const { parentHead } = node.state
    if (parentHead === null) return 'none yet'
    try {
      await exchange.pull(parentHead.model, parentHead.holders)
      return parentHead
    } catch (error) {
      if (!(error instanceof BlobAway)) throw error
      events.emit({ type: 'warning', code: 'PARENT_MODEL_AWAY', message: `${node.path}: ${error.message}` })
    }
    await new Promise(resolve => setTimeout(resolve, retryMs).unref())
  }
  return null
}

/** The parent's backbone under the federation's own key layers; with `down: chain` these attend to the parent's first. */
export async function combine(node: FederationCore, model: Link, parent: ParentHead): Promise<void> {
  const { services, charter } = node.options
  const { exchange, blobs, mixer, folder } = services
  const round = node.state.round.phase === 'idle' ? 0 : node.state.round.round
  try {
    const { down } = charter.algorithm
    const { layout } = node
    const hasBackbone = backboneRanges(layout).length > 0
    if (hasBackbone || down === 'chain' || down === 'replace') await exchange.pull(parent.model, parent.holders)
    const output = folder.model(`combined-${charter.name}`)
    const operations = mixer.operations(layout, folder.model('initial'), output)
    const parts = { groups: layout.groups.length, hasBackbone }
    const own = blobs.path(model)
    const made = await federationDown(operations, charter.algorithm, parts, own, blobs.path(parent.model))
    if (made === null) {
      node.measured.proposedAt = performance.now()
      node.dispatch({ type: 'combined', round, own: model, parent, model, modelBytes: blobs.bytes(model) })
      return
    }
    const { link, bytes } = await blobs.put(output)
    node.measured.proposedAt = performance.now()
    node.dispatch({ type: 'combined', round, own: model, parent, model: link, modelBytes: bytes })
  } catch (error) {
    // The parent's model cannot be had: its next certified round, or the parent's timeout, moves the federation on.
    services.events.emit({ type: 'warning', code: 'PARENT_MODEL_AWAY', message: `${node.path}: ${(error as Error).message}` })
    rmSync(folder.model(`combined-${charter.name}`), { force: true })
    setTimeout(() => {
      // The parent's timeout may have let the round go on without.
      const { round: open } = node.state
      if (open.phase === 'combining' && open.result.model === model) void combine(node, model, node.state.parentHead ?? parent)
    }, 1_000).unref()
  }
}
