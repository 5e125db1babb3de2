/**
 * What the daemon does with an effect of a federation. Storing effects end before the next begins; long ones are started here and
 * come back as events. The simulator has its own answer to each.
 */
import { rmSync } from 'node:fs'
import { isSketched, sketchLogits } from '../aggregate/sketch.ts'
import { softmax } from '../aggregate/attend.ts'
import { assertNever } from '../errors.ts'
import type { Entry, RoundEntry, Update } from '../federation/entry.ts'
import { describeEntryFault, describeUpdateFault, type EntryFault } from '../federation/fault.ts'
import type { Question } from '../federation/federation.ts'
import type { RoundHead } from '../federation/participation.ts'
import type { ParentHead, Received } from '../federation/round.ts'
import type { Link, PeerName } from '../ids.ts'
import { backboneRanges } from '../model/layout.ts'
import { checkProof, readUpdate } from '../wire/certified-log.ts'
import { limits } from '../wire/limits.ts'
import { certificateCodec, entryCodec } from '../wire/records.ts'
import { acceptBytes } from '../wire/signature.ts'
import type { EffectToPerform as Effect, FederationNode } from './federation-node.ts'
import { updateRecord } from './organization.ts'
import { readSigned, signUpdate } from './signed.ts'
import { writeConsensus } from './store.ts'
import { summarize } from './summary.ts'

export async function performEffect(node: FederationNode, effect: Effect): Promise<void> {
  const { services } = node.options
  switch (effect.do) {
    case 'persist':
      writeConsensus(services.folder.consensus(node.id), effect)
      return
    case 'send':
      node.send(effect.to, { federation: node.id, message: effect.message })
      return
    case 'sign':
      sign(node, effect)
      return
    case 'verify':
      void verify(node, effect)
      return
    case 'store':
      store(node, effect)
      return
    case 'publish':
      publish(node, effect)
      return
    case 'became-aggregator':
      node.measured = { bytesIn: 0, transferSeconds: 0, proposedAt: 0 }
      return
    case 'stepped-down':
      return
    case 'aggregator-changed':
      services.events.emit({ type: 'aggregator', federation: node.path, peer: effect.peer, term: effect.term })
      return
    case 'pull':
      void pull(node, effect.link, effect.update)
      return
    case 'receipt':
      receipt(node, effect)
      return
    case 'aggregate':
      void aggregate(node, effect.round, effect.inputs)
      return
    case 'contribute':
      contribute(node, effect.update)
      return
    case 'combine':
      void combine(node, effect.model, effect.parent)
      return
    case 'train':
      void train(node, effect.round, effect.base)
      return
    case 'announce':
      announce(node, effect.link)
      return
    case 'apply':
      void apply(node, effect.head)
      return
    case 'finish':
      services.events.emit({ type: 'finished', round: effect.round })
      return
    case 'tell':
      services.events.emit({ type: 'warning', code: effect.code, message: `${node.path}: ${effect.message}` })
      return
    case 'refused':
      // Late or early messages of honest peers are no news.
      if (effect.fault.verdict === 'reject')
        services.events.emit({
          type: 'fault',
          federation: node.path,
          peer: effect.peer,
          code: effect.fault.code,
          detail: describeUpdateFault(effect.fault)
        })
      return
    case 'refused-entry':
      services.events.emit({
        type: 'warning',
        code: 'ENTRY_REFUSED',
        message: `${node.path}: a proposed entry was refused: ${describeEntryFault(effect.fault)}`
      })
      return
    default:
      assertNever(effect)
  }
}

// ── consensus ──

function sign(node: FederationNode, { to, index, term, link }: Extract<Effect, { do: 'sign' }>): void {
  const { host, records } = node.options.services
  // I2: what was signed is on disk before the signature leaves.
  records.append({ record: 'accept', federation: node.id, index, term, entry: link })
  const signature = host.sign(acceptBytes(node.id, index, term, link))
  if (to === node.self) node.dispatch({ type: 'consensus', event: { type: 'signed', index, term, link, signature } })
  else node.send(to, { federation: node.id, message: { type: 'accept', term, index, link, signature } })
}

const verifying = new WeakMap<FederationNode, Set<Link>>()

/** What only bytes can tell of a proposed entry. A repeated question waits for the first answer. */
async function verify(node: FederationNode, question: Question): Promise<void> {
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

function checkJoined(node: FederationNode, entry: Extract<Entry, { kind: 'members' }>): EntryFault | null {
  for (const member of entry.joined) {
    const why = checkProof(node.id, member)
    if (why !== null) return { code: 'NOT_ADMITTED', member: member.member, detail: why }
  }
  return null
}

/** The updates that are counted, the attention that follows from them, and the model: a voter holds it before it signs. */
async function checkRound(node: FederationNode, from: PeerName, entry: RoundEntry): Promise<EntryFault | null> {
  const missing = entry.inputs.map(({ update }) => update).filter(link => !node.signedUpdates.has(link))
  if (missing.length > 0) await fetchUpdates(node, from, missing)
  const updates: Update[] = []
  for (const { update: link, member, round } of entry.inputs) {
    const bytes = node.signedUpdates.get(link)
    const read = bytes === undefined ? null : readUpdate(bytes)
    if (read === null) return { code: 'UPDATE_UNKNOWN', update: link }
    if (
      read.update.member !== member ||
      read.update.round !== round ||
      !(node.state.roster.members.get(member)?.peers.includes(read.update.by) ?? false)
    )
      return { code: 'NOT_A_MEMBER', member }
    updates.push(read.update)
  }
  const wrong = checkAttention(node, entry, updates)
  if (wrong !== null) return wrong
  try {
    const { exchange } = node.options.services
    await exchange.pull(entry.model, [from, entry.proposer, ...node.holders()])
    if (entry.outer !== null) await exchange.pull(entry.outer, [from, entry.proposer, ...node.holders()])
    return null
  } catch (error) {
    return { code: 'MODEL_MISSING', detail: (error as Error).message }
  }
}

/** Logarithms and powers may differ in their last bit between machines. */
const attentionTolerance = 1e-6

function checkAttention(node: FederationNode, entry: RoundEntry, updates: Update[]): EntryFault | null {
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

async function fetchUpdates(node: FederationNode, from: PeerName, links: Link[]): Promise<void> {
  const answer = await node.ask(from, { kind: 'updates', federation: node.id, links })
  if (answer?.kind !== 'updates') return
  for (const bytes of answer.updates) {
    const read = readUpdate(bytes)
    if (read !== null && links.includes(read.link)) node.keepUpdate(read.link, bytes)
  }
}

function store(node: FederationNode, { link, entry, certificate }: Extract<Effect, { do: 'store' }>): void {
  const { car, events } = node.options.services
  const bytes = { entry: entryCodec.encode(entry), certificate: certificateCodec.encode(certificate) }
  const inputs = entry.kind === 'round' ? entry.inputs : []
  const updates = inputs.flatMap(({ update }) => {
    const signed = node.signedUpdates.get(update)
    return signed === undefined ? [] : [{ link: update, bytes: signed }]
  })
  car.addEntry(bytes, updates)
  node.log.push(bytes)
  if (entry.kind === 'members') {
    for (const { member, name } of entry.joined)
      events.emit({ type: 'member', federation: node.path, member, name, change: 'joined' })
    return
  }
  const commit =
    node.measured.proposedAt > 0 && entry.proposer === node.self ? (performance.now() - node.measured.proposedAt) / 1000 : 0
  node.measured = { bytesIn: 0, transferSeconds: 0, proposedAt: 0 }
  events.emit({ type: 'round', round: summarize(node, entry, link, certificate.term, commit) })
  const head = node.asParentOf(entry, link)
  for (const child of node.options.children(node.id)) child.dispatch({ type: 'parent-head', head })
  node.options.onRound()
}

function publish(node: FederationNode, { entry, certificate }: Extract<Effect, { do: 'publish' }>): void {
  const message = { kind: 'head', entry: entryCodec.encode(entry), certificate: certificateCodec.encode(certificate) } as const
  // A larger one is fetched: the next heartbeat and presence tell of it.
  if (message.entry.length + message.certificate.length < limits.gossipBytesMax - 1024) node.say(message)
}

// ── the round, as its aggregator ──

async function pull(node: FederationNode, link: Link, update: Update): Promise<void> {
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
    const { fault, keysDistance } = await mixer.inspect(node.layout, blobs.path(update.blob), await previousModel(node))
    if (fault === null) node.dispatch({ type: 'pulled', link, keysDistance })
    else node.dispatch({ type: 'unpulled', link, fault: { code: 'DAMAGED', verdict: 'reject', detail: fault } })
  } catch (error) {
    node.dispatch({ type: 'unpulled', link, fault: { code: 'NOT_FOUND', verdict: 'ignore', detail: (error as Error).message } })
  }
}

/** The federation's newest model as a file: the head's, or what the tree began with. */
async function previousModel(node: FederationNode): Promise<string> {
  const { folder, exchange, blobs } = node.options.services
  const { entry } = node.state.head
  if (entry === null) return folder.model('initial')
  await exchange.pull(entry.model, node.holders())
  return blobs.path(entry.model)
}

function receipt(node: FederationNode, { member, update, verdict }: Extract<Effect, { do: 'receipt' }>): void {
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

async function aggregate(node: FederationNode, round: number, inputs: Received[]): Promise<void> {
  const { services, charter } = node.options
  const { mixer, blobs, folder, exchange } = services
  const began = performance.now()
  try {
    const previous = await previousModel(node)
    const output = folder.model(`aggregate-${charter.name}`)
    const outerOutput = folder.model(`outer-${charter.name}`)
    const sketched = inputs.map(({ link, weight, update, keysDistance }) => ({
      link,
      weight,
      path: blobs.path(update.blob),
      sketches: update.sketches,
      keysDistance
    }))
    const hasOuter = charter.parent === null && charter.algorithm.outer !== 'average' && backboneRanges(node.layout).length > 0
    const outerFrom = node.state.head.entry?.outer ?? null
    if (outerFrom !== null) await exchange.pull(outerFrom, node.holders())
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
    node.dispatch({ type: 'aggregated', round, result })
  } catch (error) {
    services.fail(error)
  }
}

/** With a backbone, what goes up is its change against the parent's; without one, the model itself. */
async function contributionOf(node: FederationNode, model: string): Promise<{ link: Link; bytes: number } | null> {
  const { services, charter } = node.options
  const { mixer, blobs, folder, exchange } = services
  if (backboneRanges(node.layout).length === 0) return null
  const { parentHead } = node.state
  if (parentHead !== null) await exchange.pull(parentHead.model, parentHead.holders)
  const base = parentHead === null ? folder.model('initial') : blobs.path(parentHead.model)
  const output = folder.model(`contribution-${charter.name}`)
  await mixer.difference(node.layout, model, base, output, charter.algorithm.encoding)
  return blobs.put(output)
}

function contribute(node: FederationNode, update: Update): void {
  const { host } = node.options.services
  const { signed, bytes, link } = signUpdate(host.sign.bind(host), update)
  node.keepUpdate(link, bytes)
  node.contribution = { signed: bytes, parentRound: update.round }
  node.say({ kind: 'contribution', signed })
  node.handIn(node.self, signed)
}

/** The parent's backbone under the federation's own key layers; with `down: chain` these attend to the parent's first. */
async function combine(node: FederationNode, model: Link, parent: ParentHead): Promise<void> {
  const { services, charter } = node.options
  const { exchange, blobs, mixer, folder } = services
  const round = node.state.round.phase === 'idle' ? 0 : node.state.round.round
  const began = performance.now()
  try {
    const { down, downTemperature } = charter.algorithm
    const hasBackbone = backboneRanges(node.layout).length > 0
    if (hasBackbone || down === 'chain' || down === 'replace')
      node.measured.bytesIn += await exchange.pull(parent.model, parent.holders)
    const output = folder.model(`combined-${charter.name}`)
    const [own, above] = [blobs.path(model), blobs.path(parent.model)]
    if (down === 'chain' && node.layout.groups.length > 0) {
      const scores = await mixer.score({
        layout: node.layout,
        query: own,
        candidates: [own, above],
        score: 'cosine',
        reference: folder.model('initial')
      })
      const candidates = [own, above].map((path, place) => ({
        path,
        logits: scores[place]!.map(score => score / downTemperature)
      }))
      await mixer.mix({ layout: node.layout, backboneFrom: above, candidates, output })
    } else if (down === 'replace') await mixer.combine(node.layout, above, above, output)
    else if (hasBackbone) await mixer.combine(node.layout, above, own, output)
    else {
      node.measured.proposedAt = performance.now()
      node.dispatch({ type: 'combined', round, model, modelBytes: blobs.bytes(model) })
      return
    }
    const { link, bytes } = await blobs.put(output)
    node.measured.transferSeconds += (performance.now() - began) / 1000
    node.measured.proposedAt = performance.now()
    node.dispatch({ type: 'combined', round, model: link, modelBytes: bytes })
  } catch (error) {
    // The parent's model cannot be had: its next certified round, or the parent's timeout, moves the federation on.
    services.events.emit({ type: 'warning', code: 'PARENT_MODEL_AWAY', message: `${node.path}: ${(error as Error).message}` })
    rmSync(folder.model(`combined-${charter.name}`), { force: true })
    setTimeout(() => void combine(node, model, node.state.parentHead ?? parent), 1_000).unref()
  }
}

// ── the round, as a member ──

async function train(node: FederationNode, round: number, base: RoundHead): Promise<void> {
  const { services } = node.options
  const { organization } = node
  if (organization === null) return
  try {
    const { trained, blob, blobBytes, sketches } = await organization.train(round)
    const facts = {
      federation: node.id,
      round,
      base: base.link,
      member: node.self,
      by: node.self,
      blob,
      blobBytes,
      holders: [node.self],
      textBytes: organization.textBytes,
      sketches
    }
    const update = updateRecord(facts, trained)
    const { link, bytes } = signUpdate(services.host.sign.bind(services.host), update)
    organization.announce(link, bytes)
    node.keepUpdate(link, bytes)
    services.events.emit({ type: 'trained', round, loss: trained.loss, tokens: trained.tokens, seconds: trained.seconds })
    node.dispatch({ type: 'participation', event: { type: 'trained', link, update } })
    await organization.evaluatePersonal(round)
  } catch (error) {
    services.fail(error)
  }
}

function announce(node: FederationNode, link: Link): void {
  const bytes = node.signedUpdates.get(link)
  if (bytes === undefined) return
  const signed = readSigned(bytes)
  node.say({ kind: 'update', signed })
  node.takeUpdate(node.self, { kind: 'update', signed })
}

/** A model that nobody gives is asked for again, until a newer round makes it needless. */
async function apply(node: FederationNode, head: RoundHead): Promise<void> {
  const { services } = node.options
  const { organization } = node
  if (organization === null) return
  try {
    await organization.apply(head)
    node.dispatch({ type: 'participation', event: { type: 'applied', link: head.link } })
  } catch (error) {
    if (!/no holder/.test((error as Error).message)) {
      services.fail(error)
      return
    }
    services.events.emit({
      type: 'warning',
      code: 'MODEL_AWAY',
      message: `${node.path}: round ${head.round} waits for its model: ${(error as Error).message}`
    })
    setTimeout(() => void apply(node, node.state.head), 1_000).unref()
  }
}
