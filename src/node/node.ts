/**
 * A node: everything put together, started in order and stopped in reverse.
 *
 *   folder locked → certified log read → host → gossip, direct, directory, blobs → charters → federations → a place in the roster → organization
 *
 * It follows its own federations and all above them. Above it votes only where a child names it a delegate; elsewhere it listens, and
 * so checks every certificate itself.
 */
import type { NodeConfig } from '../config.ts'
import { WorldlmError } from '../errors.ts'
import type { FederationId } from '../ids.ts'
import { inLog, type Logger } from '../log.ts'
import type { Trainer } from '../train/trainer.ts'
import { isMalformed } from '../wire/codec.ts'
import { answerCodec, consensusCodec, questionCodec } from '../wire/messages.ts'
import { limits } from '../wire/limits.ts'
import { certificateCodec, entryCodec } from '../wire/records.ts'
import { BlobGate } from './blob-gate.ts'
import { largestBlobBytes } from './blob-size.ts'
import type { CertifiedArchive } from './certified-car.ts'
import { fetchCharter, verifyOwn } from './charters.ts'
import { noteLeaving, removeFederation } from './config-file.ts'
import { performEffect } from './effects.ts'
import { EventLog } from './events.ts'
import type { FederationNodeOptions } from './federation-core.ts'
import { FederationNode } from './federation-node.ts'
import { collectGarbage } from './garbage.ts'
import type { NodeFolder } from './folder.ts'
import { lingerMs, untilNothingFlows } from './linger.ts'
import { Metrics } from './metrics.ts'
import { type Beginning, openOrganization, prepareOrganization, untilInRoster } from './open-organization.ts'
import { openServices } from './open-services.ts'
import type { Organization } from './organization.ts'
import type { Services } from './services.ts'
import type { NodePhase, NodeStatus, NodeView, RoundSummary } from './status.ts'
import { federationStatus } from './view.ts'
import { summarize } from './summary.ts'

export interface RunningNode extends NodeView {
  readonly addresses: string[]
  readonly peer: string
  /** Whether it has stopped but for a step that its training is in the middle of. */
  readonly awaitsStep: boolean
  /** Resolves when the node has stopped by itself: with what went wrong, or null. */
  readonly done: Promise<unknown>
}

export const version = '0.1.0'

export interface NodeOptions {
  folder: NodeFolder
  config: NodeConfig
  log: Logger
  /** See crash-point.ts; left out in every node that is no test's. */
  beforeEffect?: FederationNodeOptions['beforeEffect']
}

/** @throws {WorldlmError} of the folder, the configuration, the text, a used port, a damaged log. */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const node = new Node(options)
  try {
    await node.start()
    return node
  } catch (error) {
    await node.stop()
    throw error
  }
}

class Node implements RunningNode {
  awaitsStep = false
  readonly done: Promise<unknown>
  readonly #folder: NodeFolder
  readonly #config: NodeConfig
  readonly #log: Logger
  readonly #beforeEffect: FederationNodeOptions['beforeEffect']
  readonly #events = new EventLog()
  readonly #metrics = new Metrics()
  readonly #federations = new Map<FederationId, FederationNode>()
  /** Left a moment ago. */
  readonly #left = new Map<FederationId, FederationNode>()
  readonly #gate = new BlobGate(
    () => [...this.#federations.values(), ...this.#left.values()],
    (peer, detail) => this.#events.emit({ type: 'fault', federation: '', peer, code: 'EGRESS_FORBIDDEN', detail })
  )
  readonly #startedAt = new Date().toISOString()
  #services: Services | null = null
  #organization: Organization | null = null
  #trainer: Trainer | null = null
  #progress: NodeStatus['training'] = null
  #stopping: Promise<void> | null = null
  #failure: unknown = null
  #end: (error: unknown) => void = () => undefined

  constructor({ folder, config, log, beforeEffect }: NodeOptions) {
    this.#folder = folder
    this.#config = config
    this.#log = log
    this.#beforeEffect = beforeEffect
    this.done = new Promise(resolve => {
      this.#end = resolve
    })
    this.#events.subscribe(event => {
      this.#metrics.count(event)
      if (event.type !== 'progress')
        this.#log[event.type === 'fault' || event.type === 'warning' ? 'warn' : 'info'](event, event.type)
    })
  }

  get addresses(): string[] {
    return this.#services?.host.addresses() ?? []
  }
  get peer(): string {
    return this.#services?.host.peer ?? ''
  }

  async start(): Promise<void> {
    const { services, archive } = await openServices({
      version,
      folder: this.#folder,
      config: this.#config,
      events: this.#events,
      log: this.#log,
      fail: error => this.#fail(error),
      mayFetch: (peer, blob) => this.#gate.permission(peer, blob),
      blobBytesMax: () => largestBlobBytes([...this.#federations.values()].map(({ layout }) => layout)),
      onBlobBytes: peer => {
        for (const federation of this.#federations.values()) federation.alive(peer)
      },
      onConsensus: (from, bytes) => this.#onConsensus(from, bytes),
      onQuestion: (from, bytes) => this.#onQuestion(from, bytes)
    })
    this.#services = services
    services.host.onDisconnect(peer => {
      for (const federation of this.#federations.values()) federation.lost(peer)
    })
    this.#events.emit({ type: 'phase', phase: 'joining' })
    void this.#joinAll(archive).catch(services.fail)
  }

  /** Federations need their charters, which a newcomer fetches from whoever follows them. */
  async #joinAll(archive: CertifiedArchive): Promise<void> {
    const leaf = this.#config.federations.find(({ as, leaving }) => as === 'organization' && !leaving)
    for (const { id, as, leaving } of this.#config.federations) {
      const isSecond = as === 'organization' && id !== leaf?.id && !leaving
      const own = await this.#follow(id, isSecond ? 'witness' : as, archive)
      // It was told so before it ended.
      own.leaving = leaving
      // Its others would wait in every round for an update that never comes.
      if (isSecond)
        this.#events.emit({
          type: 'warning',
          code: 'TRAINS_ELSEWHERE',
          message: `a node trains in one federation, this one in ${this.#federations.get(leaf!.id)!.path}: in ${own.path} it is a witness. Leave the first to train in the other.`
        })
      for (let parent = own.state.charter.parent; parent !== null; )
        parent = (await this.#follow(parent, null, archive)).state.charter.parent
    }
    const services = this.#services!
    const stopping = () => this.#stopping !== null
    const beginning =
      leaf === undefined ? null : await prepareOrganization(this.#federations.get(leaf.id)!, services, this.#config, stopping)
    for (const federation of this.#federations.values()) {
      const { parent } = federation.state.charter
      const head = parent === null ? null : (this.#federations.get(parent)?.asParent() ?? null)
      if (head !== null) federation.dispatch({ type: 'parent-head', head })
      if (!this.#stopping) federation.start()
    }
    if (beginning !== null) {
      await untilInRoster(beginning.federation, stopping)
      if (!stopping()) await this.#openOrganization(beginning, services)
    }
    this.#events.emit({ type: 'phase', phase: leaf === undefined ? 'waiting' : 'training' })
  }

  async #follow(id: FederationId, as: 'organization' | 'witness' | null, archive: CertifiedArchive): Promise<FederationNode> {
    const known = this.#federations.get(id)
    if (known !== undefined) return known
    const services = this.#services!
    const charterBytes =
      archive.charters.get(id) ??
      this.#folder.charters().get(id) ??
      (await fetchCharter(services, id, () => this.#stopping !== null))
    services.car.addCharter(charterBytes)
    const entries = archive.logs.get(id) ?? services.car.newLog()
    const { charter, folded } = await verifyOwn(this.#folder, id, charterBytes, entries, () => this.#stopping !== null)
    const node = new FederationNode({
      services,
      charter,
      charterBytes,
      id,
      entries,
      folded,
      as,
      name: this.#config.name,
      sibling: other => this.#federations.get(other) ?? null,
      children: parent => [...this.#federations.values()].filter(one => one.state.charter.parent === parent),
      perform: performEffect,
      beforeEffect: this.#beforeEffect,
      onLeft: () => this.#onLeft(id),
      onRound: () => this.#collectGarbage(services)
    })
    for (const link of archive.updates.links().slice(-limits.updatesKeptMax)) node.keepUpdate(link, archive.updates.get(link)!)
    this.#federations.set(id, node)
    return node
  }

  async #openOrganization(beginning: Beginning, services: Services): Promise<void> {
    const { trainer, organization } = await openOrganization(beginning, {
      services,
      config: this.#config,
      holders: other => this.#federations.get(other)?.holders() ?? [],
      onProgress: progress => this.#onProgress(beginning.federation, progress)
    })
    this.#trainer = trainer
    this.#organization = organization
    // Told to stop while it opened.
    if (this.#stopping !== null) await trainer.close()
  }

  #collectGarbage({ blobs }: Services): void {
    const trains = this.#config.federations.some(({ as }) => as === 'organization')
    // Until its organization is open, nobody says which of its blobs it still needs.
    if (trains && this.#organization === null) return
    collectGarbage(blobs, [...this.#federations.values()], this.#organization)
  }

  #onProgress(
    federation: FederationNode,
    progress: { step: number; steps: number; loss: number; tokensPerSecond: number }
  ): void {
    const { participation } = federation.state
    this.#progress = {
      round: participation.phase === 'training' ? participation.round : federation.state.head.round,
      ...progress
    }
    this.#events.emit({ type: 'progress', ...this.#progress })
  }

  #onConsensus(from: string, bytes: Uint8Array): void {
    const envelope = consensusCodec.decode(bytes)
    if (isMalformed(envelope))
      this.#events.emit({ type: 'fault', federation: '', peer: from, code: 'MALFORMED', detail: envelope.detail })
    else this.#answering(envelope.federation)?.onConsensus(from, envelope)
  }

  async #onQuestion(from: string, bytes: Uint8Array): Promise<Uint8Array> {
    const question = questionCodec.decode(bytes)
    if (isMalformed(question)) throw new Error(question.detail)
    const federation = this.#answering(question.federation)
    return answerCodec.encode(
      federation === undefined ? { kind: 'unknown-federation' } : await federation.answer(from, question)
    )
  }

  #answering(id: FederationId): FederationNode | undefined {
    return this.#federations.get(id) ?? this.#left.get(id)
  }

  #fail(error: unknown): void {
    if (this.#stopping !== null) return
    this.#log.fatal({ error: inLog(error) }, 'the node cannot go on')
    this.#failure = error
    void this.stop()
  }

  // ── NodeView ──

  status(): NodeStatus {
    const services = this.#services
    const federations = [...this.#federations.values()]
    return {
      schema: 'worldlm.status/1',
      version,
      pid: process.pid,
      peer: this.peer,
      organization: { name: this.#config.name, path: this.#config.path === '' ? this.#config.name : this.#config.path },
      addresses: this.addresses,
      startedAt: this.#startedAt,
      phase: this.#phase(),
      training: this.#progress,
      evaluations: this.#organization?.evaluations ?? {},
      data: this.#trainer?.data ?? { trainBytes: 0, validBytes: 0 },
      bytes: services?.exchange.bytes ?? { in: 0, out: 0 },
      federations: federations.map(federationStatus)
    }
  }

  #phase(): NodePhase {
    if (this.#stopping !== null) return 'stopping'
    const own = [...this.#federations.values()].find(({ organization }) => organization !== null)
    switch (own?.state.participation.phase) {
      case 'training':
        return 'training'
      case 'announced':
        return 'waiting'
      case 'applying':
        return 'applying'
      case 'finished':
        return 'finished'
      default:
        if (this.#services === null) return 'starting'
        return this.#config.federations.length === 0 ? 'waiting' : 'joining'
    }
  }

  peers() {
    const { host } = this.#services!
    const federations = [...this.#federations.values()]
    const names = new Set([...host.connectedPeers(), ...federations.flatMap(({ state }) => [...state.present])])
    return [...names].map(peer => ({
      peer,
      addresses: host.libp2p
        .getConnections()
        .filter(one => one.remotePeer.toString() === peer)
        .map(one => one.remoteAddr.toString()),
      connected: host.connected(peer),
      federations: federations.filter(({ state }) => state.present.has(peer)).map(({ path }) => path)
    }))
  }

  rounds(id: FederationId, { last, before }: { last: number; before: number }): RoundSummary[] {
    const federation = this.#federations.get(id)
    if (federation === undefined) return []
    return federation.log.rounds(last, before).flatMap(({ entry, certificate }) => {
      const record = entryCodec.decode(entry)
      const certified = certificateCodec.decode(certificate)
      if (isMalformed(record) || isMalformed(certified) || record.kind !== 'round') return []
      return [summarize(federation, record, certified.entry, certified.term, 0)]
    })
  }

  leave(id: FederationId, now: boolean): void {
    const federation = this.#federations.get(id)
    if (federation === undefined || federation.options.as === null)
      throw new WorldlmError('NOT_JOINED', `this node is no member of ${id}`, 'See `worldlm federation list`.')
    noteLeaving(this.#folder.config, id)
    federation.joining.goesUnseen = now
    federation.leave()
  }

  /** Its federation has certified that it is gone; a parent's topic stays open until the next start, for others may be delegates there. */
  #onLeft(id: FederationId): void {
    const federation = this.#federations.get(id)
    if (federation === undefined) return
    this.#federations.delete(id)
    removeFederation(this.#folder.config, id)
    this.#config.federations = this.#config.federations.filter(one => one.id !== id)
    if (federation.organization !== null) this.#organization = null
    this.#left.set(id, federation)
    setTimeout(() => {
      this.#left.delete(id)
      void federation.stop()
    }, lingerMs).unref()
  }

  eventsSince = (seq: number) => this.#events.since(seq)
  subscribe = (listener: Parameters<EventLog['subscribe']>[0]) => this.#events.subscribe(listener)

  async metrics(): Promise<string> {
    return this.#metrics.render(this.status())
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    this.#events.emit({ type: 'phase', phase: 'stopping' })
    const flow = this.#services === null ? null : untilNothingFlows(this.#services.exchange.bytes)
    await Promise.all([...this.#federations.values(), ...this.#left.values()].map(federation => federation.stop()))
    // A step of a large model takes long: nothing else waits for it.
    const trained = this.#trainer?.close()
    await flow
    const services = this.#services
    if (services !== null) {
      await services.directory.stop()
      await services.mixer.close()
      await services.host.stop()
      await services.blobs.close()
      services.car.close()
      services.records.close()
    }
    this.awaitsStep = true
    await trained
    this.#end(this.#failure)
  }
}
