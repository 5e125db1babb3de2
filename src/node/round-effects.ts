/** A round on its aggregator: updates pulled and inspected, aggregated in the mixer, contributed above, combined with the parent's result. */
import { rmSync } from 'node:fs'
import { federationDown } from '../aggregate/down.ts'
import { isBlockEncoding } from '../aggregate/encode.ts'
import type { Update } from '../federation/entry.ts'
import { describeUpdateFault } from '../federation/fault.ts'
import { holdersOf } from '../federation/levels.ts'
import type { ParentHead, Received } from '../federation/round.ts'
import type { Link } from '../ids.ts'
import { backboneRanges } from '../model/layout.ts'
import { readUpdate } from '../wire/certified-log.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { entryCodec } from '../wire/records.ts'
import type { EffectToPerform as Effect, FederationCore } from './federation-core.ts'

export async function pull(node: FederationCore, link: Link, update: Update): Promise<void> {
  const { exchange, blobs, mixer } = node.options.services
  const began = performance.now()
  try {
    node.measured.bytesIn += await exchange.pull(update.blob, [...update.holders, update.by])
  } catch (error) {
    node.dispatch({ type: 'unpulled', link, fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: (error as Error).message } })
    return
  }
  node.measured.transferSeconds += (performance.now() - began) / 1000
  try {
    const base = await keysBase(node, update.base)
    const previous = await previousModel(node)
    const { fault, keysDistance } = await mixer.inspect(node.layout, blobs.path(update.blob), base, previous)
    if (fault === null) node.dispatch({ type: 'pulled', link, keysDistance })
    else node.dispatch({ type: 'unpulled', link, fault: { code: 'DAMAGED', verdict: 'reject', detail: fault } })
  } catch (error) {
    node.dispatch({ type: 'unpulled', link, fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: (error as Error).message } })
  }
}

/** The federation's newest model as a file: the head's, or what the tree began with. */
async function previousModel(node: FederationCore): Promise<string> {
  const { folder, exchange, blobs } = node.options.services
  const { entry } = node.state.head
  if (entry === null) return folder.model('initial')
  await exchange.pull(entry.model, holdersOf(node.state))
  return blobs.path(entry.model)
}

/** With a block encoding: the file of the model that a member's K is taken against, which is the round's that it trained from. */
async function keysBase(node: FederationCore, base: Link): Promise<string | null> {
  const { folder, exchange, blobs } = node.options.services
  if (!isBlockEncoding(node.options.charter.algorithm.encoding)) return null
  if (base === node.id) return folder.model('initial')
  if (base === node.state.head.link) return previousModel(node)
  // A late update's: it stands a few entries before the head.
  const bytes = node.log.findLast(({ entry }) => linkOf(entry) === base)
  const entry = bytes === undefined ? null : entryCodec.decode(bytes.entry)
  if (entry === null || isMalformed(entry) || entry.kind !== 'round')
    throw new Error(`its base ${base} is no round of this federation`)
  await exchange.pull(entry.model, [entry.proposer, ...holdersOf(node.state)])
  return blobs.path(entry.model)
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
  node.recordReceipt(node.self, update, word)
  node.dispatch({ type: 'participation', event: { type: 'receipt', link: update, accepted: verdict === 'accepted' } })
}

export async function aggregate(node: FederationCore, round: number, inputs: Received[]): Promise<void> {
  const { services, charter } = node.options
  const { mixer, blobs, folder, exchange } = services
  const began = performance.now()
  try {
    const previous = await previousModel(node)
    const output = folder.model(`aggregate-${charter.name}`)
    const outerOutput = folder.model(`outer-${charter.name}`)
    const sketched = []
    for (const { link, weight, update, keysDistance } of inputs) {
      const { sketches } = update
      const base = await keysBase(node, update.base)
      sketched.push({ link, weight, path: blobs.path(update.blob), base, sketches, keysDistance })
    }
    const hasOuter = charter.parent === null && charter.algorithm.outer !== 'average' && backboneRanges(node.layout).length > 0
    const outerFrom = node.state.head.entry?.outer ?? null
    if (outerFrom !== null) await exchange.pull(outerFrom, holdersOf(node.state))
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
    const contribution = charter.parent === null ? null : await contributionOf(node, output)
    const { link: model, bytes: modelBytes } = await blobs.put(output)
    const measured = {
      bytesIn: node.measured.bytesIn,
      bytesOut: exchange.bytes.out,
      transferSeconds: node.measured.transferSeconds,
      aggregateSeconds: (performance.now() - began) / 1000
    }
    const made = contribution ?? { link: model, bytes: modelBytes }
    const result = {
      model,
      modelBytes,
      outer: hasOuter ? (await blobs.put(outerOutput)).link : null,
      contribution: charter.parent === null ? null : made.link,
      contributionBytes: made.bytes,
      sketches,
      attention,
      measured
    }
    node.measured.proposedAt = performance.now()
    node.dispatch({ type: 'aggregated', round, inputs: inputs.map(({ link }) => link), result })
  } catch (error) {
    services.fail(error)
  }
}

/**
 * With a backbone, what goes up is its change against the parent's; without one, the model itself. Where members' updates have a block
 * encoding, this is bf16: the aggregator changes, and what it would owe with it; and it is one a federation, not one a member.
 */
async function contributionOf(node: FederationCore, model: string): Promise<{ link: Link; bytes: number } | null> {
  const { services, charter } = node.options
  const { mixer, blobs, folder, exchange } = services
  const isBlock = isBlockEncoding(charter.algorithm.encoding)
  if (backboneRanges(node.layout).length === 0 && !isBlock) return null
  const { parentHead } = node.state
  if (parentHead !== null) await exchange.pull(parentHead.model, parentHead.holders)
  const base = parentHead === null ? folder.model('initial') : blobs.path(parentHead.model)
  const output = folder.model(`contribution-${charter.name}`)
  const encoding = isBlock ? 'bf16' : charter.algorithm.encoding
  await mixer.difference({ layout: node.layout, model, start: base, output, encoding, block: null })
  return blobs.put(output)
}

/** The parent's backbone under the federation's own key layers; with `down: chain` these attend to the parent's first. */
export async function combine(node: FederationCore, model: Link, parent: ParentHead): Promise<void> {
  const { services, charter } = node.options
  const { exchange, blobs, mixer, folder } = services
  const round = node.state.round.phase === 'idle' ? 0 : node.state.round.round
  const began = performance.now()
  try {
    const { down } = charter.algorithm
    const { layout } = node
    const hasBackbone = backboneRanges(layout).length > 0
    if (hasBackbone || down === 'chain' || down === 'replace')
      node.measured.bytesIn += await exchange.pull(parent.model, parent.holders)
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
    node.measured.transferSeconds += (performance.now() - began) / 1000
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
