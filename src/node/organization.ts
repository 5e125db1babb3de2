/**
 * The organization's own side of a round: train on its text, make the update, take a certified round over.
 *
 *   models/initial      what the whole tree began with
 *   models/start        what the next round trains from: B of the federation, K mixed by the organization's own text
 *   models/mixed        what may become the next start
 *   models/personal     after local training
 *   models/checkpoint-R parameters, moments and place in the data after round R's training
 *   participation.json  which certified round `start` is from, which checkpoint belongs to it, the update that is not settled yet
 *
 * Is not: a party to the protocol. What to do, and when, comes from federation/participation.ts as effects.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { isDue, type Memory, remember } from '../aggregate/asking.ts'
import { declaredTextBytes } from '../aggregate/attend.ts'
import { type Judgement, type MemberOperations, memberDown, type Share } from '../aggregate/down.ts'
import type { MemberResidual, RoundEntry, Update } from '../federation/entry.ts'
import type { RoundHead } from '../federation/participation.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link, PeerName } from '../ids.ts'
import { backboneRanges, type Layout } from '../model/layout.ts'
import type { Evaluated, Trained } from '../train/session.ts'
import { downAt, stepsBefore } from '../train/schedule.ts'
import type { Trainer } from '../train/trainer.ts'
import { fetchAncestors } from './ancestor-models.ts'
import { renameDurably, writeFileDurably } from './files.ts'
import type { Services } from './services.ts'
import { likeNothing, Soundness } from './soundness.ts'
import type { ModelKind, NodeStatus, RoundTimes } from './status.ts'
import { makeUpdate, type MadeUpdate } from './update-making.ts'

/** On disk: what survives a restart. */
interface Saved {
  federation: FederationId
  applied: Link
  /** Rounds trained so far; the checkpoint's number. */
  trained: number
  pending: { link: Link; signed: string } | null
  /** How the candidates of the way down were weighed last. */
  asked?: Memory
  /** Residuals in `start`. */
  residuals?: MemberResidual[]
  /** What a bridge may be given: the newest key layers' blob. */
  newest?: { model: Link; modelBytes: number }
}

export interface OrganizationOptions {
  services: Pick<Services, 'folder' | 'mixer' | 'blobs' | 'exchange' | 'events' | 'records' | 'log'>
  federation: FederationId
  charter: Charter
  layout: Layout
  trainer: Trainer
  /** Between checkpoints within a round, milliseconds; 0: none. */
  saveEveryMs: number
  /** Path of the organization in the tree, for reports. */
  path: string
  /** Who is likely to hold a model of that federation. */
  holders: (federation: FederationId) => PeerName[]
  /** Key layers from federations elsewhere in the tree (residual-target.ts). */
  residuals: ResidualCandidates
}

/** A residual as a candidate of a round's attention. */
export interface ResidualCandidate {
  /** Path of its source. */
  name: string
  /** Its file. */
  model: string
  textBytes: number
}

export interface ResidualCandidates {
  /** Those of `round`, marked as used on disk: a second call gives none (I6). */
  use(round: number): ResidualCandidate[]
  /** How they were weighed. @returns what the next update declares. */
  weighed(round: number, shares: readonly Share[]): MemberResidual[]
}

interface TrainedRound extends MadeUpdate {
  trained: Trained
  /** Of the change of K in this round. */
  sketches: Uint8Array
  /** Of K after a first round minus the common start: made once, and where residuals are exchanged. */
  fingerprint: Uint8Array | null
}

export class Organization {
  readonly #options: OrganizationOptions
  readonly #layout: Layout
  readonly #hasBackbone: boolean
  #saved: Saved
  evaluations: NodeStatus['evaluations'] = {}
  #times: RoundTimes
  #roundBegan = performance.now()
  /** Of the personal model, where no backbone comes over it: known while the round is still waited for. */
  #ownJudgement: Judgement | null = null
  /** Training, evaluating and applying happen one after the other. */
  #queue: Promise<unknown> = Promise.resolve()

  constructor(options: OrganizationOptions) {
    this.#options = options
    this.#layout = options.layout
    this.#hasBackbone = backboneRanges(options.layout).length > 0
    this.#saved = this.#load()
    this.#times = noTimes(1)
  }

  get applied(): Link {
    return this.#saved.applied
  }

  /** The signed update that no certified round has settled yet, as it was on disk. */
  get pending(): { link: Link; signed: Uint8Array } | null {
    const { pending } = this.#saved
    return pending === null ? null : { link: pending.link, signed: Buffer.from(pending.signed, 'base64') }
  }

  /** The newest trained key layers, as their blob; null before the first round. */
  get newest(): { model: Link; modelBytes: number } | null {
    return this.#saved.newest ?? null
  }

  /** Residuals that the next round is trained from. */
  get residuals(): MemberResidual[] {
    return this.#saved.residuals ?? []
  }

  /**
   * Rounds are counted by the federation, and its schedule with them.
   * @param fingerprint - whether one is to be made.
   */
  async train(round: number, base: RoundHead, fingerprint: boolean): Promise<TrainedRound> {
    return this.#inTurn(() => this.#train(round, base, fingerprint))
  }

  async #train(round: number, base: RoundHead, wantsFingerprint: boolean): Promise<TrainedRound> {
    const { services, charter, trainer } = this.#options
    const { folder, mixer } = services
    const { algorithm } = charter
    this.#beginTimes(round)
    this.#ownJudgement = null
    const checkpoint = folder.model(`checkpoint-${this.#saved.trained}`)
    const next = this.#saved.trained + 1
    const start = this.#startModel()
    const isCommon = start === folder.model('initial')
    const apart = wantsFingerprint && !isCommon ? await this.#trainApart() : null
    const trained = await trainer.train({
      start,
      checkpoint: existsSync(checkpoint) ? checkpoint : null,
      keepOptimizer: algorithm.keepOptimizer && this.#saved.trained > 0,
      steps: algorithm.steps,
      startStep: stepsBefore(round, this.#saved.trained, algorithm.steps),
      ownStartStep: this.#saved.trained * algorithm.steps,
      output: folder.model('personal'),
      saveTo: folder.model(`checkpoint-${next}`),
      within: { path: folder.model('checkpoint-partial'), everyMs: this.#options.saveEveryMs }
    })
    this.#times.train += trained.seconds
    const sketches = await mixer.sketch(this.#layout, folder.model('personal'), start, charter.seed)
    const { federation, holders } = this.#options
    const making = { services, layout: this.#layout, algorithm, federation, holders }
    const made = await makeUpdate(making, base, this.#saved.trained, start)
    return { trained, ...made, sketches, fingerprint: wantsFingerprint && isCommon ? sketches : apart }
  }

  /** One round from the common start, for its fingerprint alone: a newcomer's first round begins elsewhere. */
  async #trainApart(): Promise<Uint8Array> {
    const { services, charter, trainer } = this.#options
    const { folder, mixer } = services
    const [initial, output, saveTo] = ['initial', 'fingerprint', 'fingerprint-checkpoint'].map(name => folder.model(name)) as [
      string,
      string,
      string
    ]
    const { steps } = charter.algorithm
    const { seconds } = await trainer.train({
      start: initial,
      checkpoint: null,
      keepOptimizer: false,
      steps,
      startStep: 0,
      output,
      saveTo
    })
    this.#times.train += seconds
    const sketches = await mixer.sketch(this.#layout, output, initial, charter.seed)
    for (const path of [output, saveTo]) rmSync(path, { force: true })
    return sketches
  }

  /** The update is durable before it is announced. */
  announce(link: Link, signed: Uint8Array, newest: { model: Link; modelBytes: number }): void {
    this.#save({
      ...this.#saved,
      trained: this.#saved.trained + 1,
      pending: { link, signed: Buffer.from(signed).toString('base64') },
      newest
    })
    const { folder } = this.#options.services
    const old = ['checkpoint', 'rest'].map(kind => `${kind}-${this.#saved.trained - 2}`)
    for (const name of [...old, 'checkpoint-partial']) rmSync(folder.model(name), { force: true })
  }

  /** The personal model after training: on the fixed validation set, and by what the way down will ask of it. */
  evaluatePersonal(round: number): Promise<void> {
    return this.#inTurn(async () => {
      const { services, charter } = this.#options
      const personal = services.folder.model('personal')
      await this.#evaluate('personal', personal, round)
      if (this.#hasBackbone || charter.algorithm.down !== 'likelihood') return
      this.#ownJudgement = await this.#judge(personal)
    })
  }

  /** Takes a certified round over: mixes K by the charter's rule and evaluates what came of it. */
  apply(head: RoundHead): Promise<void> {
    return this.#inTurn(() => this.#apply(head))
  }

  async #judge(path: string): Promise<Judgement> {
    const judged = await this.#options.trainer.evaluate(path, 'kept-back')
    this.#times.judge += judged.seconds
    return judged
  }

  async #apply({ round, link, entry }: RoundHead): Promise<void> {
    if (entry === null) return
    const { services, federation, holders } = this.#options
    const { folder, blobs, exchange, records } = services
    const { timings, algorithm } = this.#options.charter
    const { down } = algorithm
    const pullBegan = performance.now()
    // Only likelihood asks for more than one's own federation, and not for light ones every round.
    const ancestors = (down === 'likelihood' ? entry.ancestors : [])
      .filter(({ path }) => isDue(this.#asked, path, round))
      .map(one => ({ name: one.path, ...one }))
    await exchange.pull(entry.model, [entry.proposer, ...holders(federation)])
    const reached = await fetchAncestors(ancestors, {
      pull: (blob, from, signal) => exchange.pull(blob, from, signal),
      holders,
      patienceMs: timings.parentTimeoutMs,
      onAway: (name, { message }) =>
        services.events.emit({
          type: 'warning',
          code: 'MODEL_AWAY',
          message: `round ${round} goes on without the model of ${name}: ${message}`
        })
    })
    this.#times.transfer += (performance.now() - pullBegan) / 1000
    const [attendBegan, judgedBefore] = [performance.now(), this.#times.judge]
    await this.#mix(round, entry, reached)
    this.#times.attend += (performance.now() - attendBegan) / 1000 - (this.#times.judge - judgedBefore)
    const digest = await blobs.digest(entry.model)
    records.append({ record: 'applied', federation, index: entry.index, round, entry: link, model: entry.model, digest })
    this.#save({ ...this.#saved, applied: link, pending: null })
    await this.#evaluate('aggregated', folder.model('start'), round)
    await this.#evaluate('federation', blobs.path(entry.model), round)
    this.#endTimes(round)
  }

  /** @param reached - models of federations above that could be had; the federation's is here for sure. */
  async #mix(round: number, entry: RoundEntry, reached: { name: string; model: Link; textBytes: number }[]): Promise<void> {
    const { services, charter } = this.#options
    const { folder, mixer, blobs, events } = services
    const layout = this.#layout
    const sound = new Soundness(services, layout)
    const operations: MemberOperations<string> = {
      ...mixer.operations(layout, folder.model('initial'), folder.model('mixed')),
      judge: async (backboneFrom, keysFrom) => {
        if (keysFrom === folder.model('personal') && this.#ownJudgement !== null) return this.#ownJudgement
        // One's own is sound, and a mix is of what has been looked at; what it becomes is looked at once more.
        const isOthers = ![folder.model('personal'), folder.model('mixed')].includes(keysFrom)
        if (isOthers && !(await sound.isModel(round, keysFrom))) return likeNothing
        const judged = this.#hasBackbone ? folder.model('candidate') : keysFrom
        if (this.#hasBackbone) await mixer.combine(layout, backboneFrom, keysFrom, judged)
        return this.#judge(judged)
      }
    }
    const personal = existsSync(folder.model('personal')) ? folder.model('personal') : folder.model('initial')
    // Trained since it last took something over, or as it was.
    const start = this.#saved.pending === null ? personal : this.#startModel()
    const own = { name: 'own', model: personal, start, textBytes: this.textBytes }
    const federation = { name: 'federation', model: blobs.path(entry.model), textBytes: entry.textBytes }
    const ancestors = reached.map(one => ({ ...one, model: blobs.path(one.model) }))
    const brought = this.#options.residuals.use(round).map(one => ({ ...one, isResidual: true }))
    const isJudged = charter.algorithm.down !== 'chain'
    const residuals = isJudged ? brought : await sound.drawn(brought, [personal, federation.model])
    const above: Parameters<typeof memberDown<string>>[4] = [federation, ...ancestors, ...residuals]
    const isResidual = (name: string) => residuals.some(one => one.name === name)
    const isAsked = (name: string) => isResidual(name) || isDue(this.#asked, name, round)
    const { algorithm } = charter
    const options = { ...algorithm, ...downAt(stepsBefore(round + 1, this.#saved.trained, algorithm.steps), algorithm) }
    const { model, weighed, shares } = await memberDown(operations, options, layout.groups.length, own, above, isAsked)
    // By likelihood it has been looked at, where there was anything to choose by.
    const given = weighed.length > 0 ? null : (path: string) => this.#judge(path)
    renameDurably(await sound.orOwn(round, model, personal, given), folder.model('start'))
    const levels = weighed.filter(({ name }) => !isResidual(name))
    const declared = this.#options.residuals.weighed(round, shares)
    this.#saved = { ...this.#saved, asked: remember(this.#asked, round, levels), residuals: declared }
    const candidates = weighed
      // What gives no numbers has no weight either; JSON could not say it.
      .filter(({ nllPerByte }) => Number.isFinite(nllPerByte))
      .map(({ name, nllPerByte, weight }) => ({ name, nllPerByte, weight }))
    if (candidates.length > 0) events.emit({ type: 'attention', round, candidates })
  }

  get #asked(): Memory {
    return this.#saved.asked ?? {}
  }

  /** Bytes of training text, rounded to a power of two: what is declared to others. */
  get textBytes(): number {
    return declaredTextBytes(this.#options.trainer.data.trainBytes)
  }

  async #evaluate(model: ModelKind, path: string, round: number): Promise<void> {
    const { services, trainer, path: organization } = this.#options
    const evaluated: Evaluated = await trainer.evaluate(path, 'validation')
    this.#times.evaluate += evaluated.seconds
    const { perplexity, bitsPerByte } = evaluated
    // JSON could not say it, and an older round's is not this one's.
    if (!Number.isFinite(perplexity)) {
      const { [model]: _spoiled, ...others } = this.evaluations
      this.evaluations = others
      return
    }
    this.evaluations = { ...this.evaluations, [model]: { round, perplexity, bitsPerByte } }
    services.events.emit({ type: 'evaluation', path: organization, round, model, perplexity, bitsPerByte })
  }

  #startModel(): string {
    const { folder } = this.#options.services
    return existsSync(folder.model('start')) ? folder.model('start') : folder.model('initial')
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = this.#queue.then(work)
    this.#queue = done.catch(() => undefined)
    return done
  }

  #beginTimes(round: number): void {
    this.#times = noTimes(round)
    this.#roundBegan = performance.now()
  }

  #endTimes(round: number): void {
    const total = (performance.now() - this.#roundBegan) / 1000
    const { train, evaluate, judge, attend, transfer } = this.#times
    const wait = Math.max(0, total - train - evaluate - judge - attend - transfer)
    if (train > 0)
      this.#options.services.events.emit({
        type: 'times',
        times: { round, total, train, evaluate, judge, attend, transfer, wait }
      })
  }

  #load(): Saved {
    const { services, federation } = this.#options
    const fresh: Saved = { federation, applied: federation, trained: 0, pending: null }
    if (!existsSync(services.folder.participation)) return fresh
    try {
      const saved = JSON.parse(readFileSync(services.folder.participation, 'utf8')) as Saved
      if (saved.federation !== federation) return fresh
      // Without what was mixed of the round that it applied there is nothing to train from: it is applied again.
      return existsSync(services.folder.model('start')) ? saved : { ...saved, applied: federation }
    } catch (error) {
      services.events.emit({
        type: 'warning',
        code: 'PARTICIPATION_DAMAGED',
        message: `participation.json is not readable, starting from the newest certified round: ${(error as Error).message}`
      })
      return fresh
    }
  }

  #save(saved: Saved): void {
    this.#saved = saved
    writeFileDurably(this.#options.services.folder.participation, JSON.stringify(saved))
  }
}

const noTimes = (round: number): RoundTimes => {
  return { round, total: 0, train: 0, evaluate: 0, judge: 0, attend: 0, transfer: 0, wait: 0 }
}

/** An organization's update record, before it is signed. */
export function updateRecord(
  facts: Omit<Update, 'organizations' | 'term' | 'loss' | 'trainSeconds' | 'weight'>,
  trained: Trained
): Update {
  return { ...facts, term: 0, organizations: 1, weight: trained.tokens, loss: trained.loss, trainSeconds: trained.seconds }
}
