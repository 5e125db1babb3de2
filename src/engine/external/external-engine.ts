/**
 * The `external` engine: an organization's own program trains, on whatever hardware it has. A round is one call; batches go there as a
 * file, parameters and moments come back as one (docs/trainer-protocol.md).
 *
 * The last good state is kept here. A trainer that dies, hangs or says rubbish is started again, given that state, and asked again; what it
 * answered is taken over only when it is whole and finite. Is not: a guard against a trainer that learns badly.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { assert, WorldlmError } from '../../errors.ts'
import { firstNotFinite } from '../../math/finite.ts'
import type { Batch } from '../../model/batch.ts'
import type { Layout } from '../../model/layout.ts'
import { ropeDivisors } from '../../model/rope.ts'
import {
  adamw,
  assertBase,
  assertBatch,
  assertState,
  type Engine,
  type EngineOptions,
  type EngineState,
  type ExternalOptions,
  type OptimizerState,
  type Pull
} from '../engine.ts'
import { type NamedTensor, TensorFile, writeTensorFile } from '../tensor-file.ts'
import { TrainerProcess } from './trainer-process.ts'

const trainerProtocol = 1

/** Times that a call is made before its failure is the engine's. */
const attemptsMax = 3
/** What another try may mend. */
const retried = new Set(['TRAINER_DIED', 'TRAINER_SILENT', 'TRAINER_RUBBISH', 'TRAINER_RESULT'])

export class ExternalEngine implements Engine {
  readonly name = 'external'
  readonly options: EngineOptions
  readonly #external: ExternalOptions
  /** For the files that are exchanged; gone with the engine. */
  readonly #scratch: string
  #state: EngineState
  #process: TrainerProcess | null = null
  /** What the process has; null where that is not known. States are never changed, only replaced. */
  #held: EngineState | null = null
  /** The model below adapters, and the one that the process has. Never changed, only replaced. */
  #base: Float32Array | null = null
  #heldBase: Float32Array | null = null
  /** Whose parameters lie in the file for evaluations. */
  #written: EngineState | null = null

  private constructor(options: EngineOptions, external: ExternalOptions) {
    this.options = options
    this.#external = external
    // Left over by an engine that was killed: the folder is one node's.
    for (const name of readdirSync(external.folder))
      if (/^\.trainer-\w{6}$/.test(name)) rmSync(join(external.folder, name), { recursive: true, force: true })
    this.#scratch = mkdtempSync(join(external.folder, '.trainer-'))
    const zeros = () => new Float32Array(options.layout.floats)
    this.#state = { parameters: zeros(), optimizer: { first: zeros(), second: zeros(), step: 0 } }
  }

  /** Starts the trainer once, so that what is wrong with it is known at once. @throws {WorldlmError} TRAINER_* */
  static async create(options: EngineOptions): Promise<ExternalEngine> {
    const { external } = options
    if (external === undefined)
      throw new WorldlmError(
        'TRAINER_MISSING',
        'engine.command names no program',
        'Write one into worldlm.yaml: engine: { command: […] }.'
      )
    const engine = new ExternalEngine(options, external)
    try {
      await engine.#attempt(async () => undefined, false)
      return engine
    } catch (error) {
      await engine.dispose()
      throw error
    }
  }

  async loadBase(parameters: Float32Array): Promise<void> {
    assertBase(this.options, parameters)
    // Given to the process with its next call: one that is not changed stays there.
    if (this.#base === null || !equalFloats(this.#base, parameters)) this.#base = parameters
  }

  async load(parameters: Float32Array, optimizer?: OptimizerState): Promise<void> {
    assertState(this.options, parameters, optimizer)
    const zeros = () => new Float32Array(parameters.length)
    const state = {
      parameters: Float32Array.from(parameters),
      optimizer: {
        first: optimizer === undefined ? zeros() : Float32Array.from(optimizer.first),
        second: optimizer === undefined ? zeros() : Float32Array.from(optimizer.second),
        step: optimizer?.step ?? 0
      }
    }
    this.#take(state)
  }

  async swap(parameters: Float32Array): Promise<void> {
    assertState(this.options, parameters)
    const own = this.#state
    this.#take({ parameters: Float32Array.from(parameters), optimizer: own.optimizer })
    parameters.set(own.parameters)
  }

  /** After other models were evaluated its own comes back: the process has that still. */
  #take(state: EngineState): void {
    this.#state = this.#held !== null && equalStates(this.#held, state) ? this.#held : state
  }

  async step(batch: Batch, learningRate: number, pull?: Pull): Promise<number> {
    assert(pull === undefined, 'an external trainer knows no proximal term')
    const [loss] = await this.steps([batch], [learningRate], () => undefined)
    return loss!
  }

  async steps(
    batches: Batch[],
    learningRates: number[],
    onStep: (step: number, loss: number) => void,
    signal?: AbortSignal
  ): Promise<number[]> {
    assert(batches.length > 0 && batches.length === learningRates.length, 'a learning rate for each batch')
    return this.#attempt(async trainer => {
      const output = join(this.#scratch, 'trained.safetensors')
      const answer = await trainer.call(
        { do: 'train', batches: this.#writeBatches(batches), learningRates, output },
        { signal, onProgress: ({ step, loss }) => onStep(Number(step), Number(loss)) }
      )
      const losses = numbers(answer.losses, batches.length, 'losses')
      const wrong = losses.findIndex(loss => !Number.isFinite(loss))
      if (wrong >= 0)
        throw new WorldlmError(
          'ENGINE_DIVERGED',
          `step ${this.#state.optimizer.step + wrong + 1}: the loss is ${losses[wrong]}`,
          'Lower algorithm.learningRate, or check the text for what is no text.'
        )
      this.#state = this.#readState(output, this.#state.optimizer.step + batches.length)
      this.#held = this.#state
      return losses
    })
  }

  async gradient(batch: Batch): Promise<{ loss: number; gradient: Float32Array }> {
    return this.#attempt(async trainer => {
      const output = join(this.#scratch, 'gradient.safetensors')
      const answer = await trainer.call({ do: 'gradient', batches: this.#writeBatches([batch]), output })
      const gradient = new Float32Array(this.options.layout.floats)
      this.#readTensors(output, [['', gradient]])
      return { loss: Number(answer.loss), gradient }
    })
  }

  async evaluate(batch: Batch): Promise<Float32Array> {
    const [nll] = await this.evaluations([batch])
    return nll!
  }

  async evaluations(batches: Batch[], signal?: AbortSignal): Promise<Float32Array[]> {
    const { batch, layout } = this.options
    const { context } = layout.config
    return this.#attempt(async trainer => {
      const output = join(this.#scratch, 'nll.safetensors')
      const request = { do: 'evaluate', batches: this.#writeBatches(batches), output }
      await trainer.call(this.#held === this.#state ? request : { ...request, parameters: this.#writeParameters() }, { signal })
      const nll = new Float32Array(batches.length * batch * context)
      this.#read(output, file => file.read('nll', [batches.length, batch, context], nll))
      return batches.map((_, place) => nll.subarray(place * batch * context, (place + 1) * batch * context))
    }, false)
  }

  async view(): Promise<EngineState> {
    return this.#state
  }

  async read(): Promise<EngineState> {
    const { parameters, optimizer } = this.#state
    return {
      parameters: parameters.slice(),
      optimizer: { first: optimizer.first.slice(), second: optimizer.second.slice(), step: optimizer.step }
    }
  }

  async dispose(): Promise<void> {
    await this.#process?.end()
    this.#process = null
    rmSync(this.#scratch, { recursive: true, force: true })
  }

  /**
   * Makes a call on a trainer that runs, and again on a fresh one where that may help.
   * @param withState - whether it must have the state.
   */
  async #attempt<Result>(make: (trainer: TrainerProcess) => Promise<Result>, withState = true): Promise<Result> {
    for (let attempt = 1; ; attempt++) {
      try {
        const trainer = await this.#running()
        if (withState && this.#held !== this.#state) await this.#give(trainer)
        return await make(trainer)
      } catch (error) {
        const code = error instanceof WorldlmError ? error.code : ''
        // What it holds now is not known: it is given the last good state before the next call.
        this.#held = null
        if (!retried.has(code)) throw error
        if (attempt === attemptsMax) throw givenUp(error as WorldlmError)
        this.options.onWarning?.(code, `${(error as Error).message} (try ${attempt} of ${attemptsMax})`)
        this.#process?.kill('its answer could not be used')
        this.#process = null
      }
    }
  }

  async #running(): Promise<TrainerProcess> {
    if (this.#process?.usable !== true) {
      const { command, folder, silenceMs } = this.#external
      this.#process = new TrainerProcess(command, folder, silenceMs)
      this.#held = null
      this.#heldBase = null
      await this.#greet(this.#process)
    }
    if (this.#heldBase !== this.#base) await this.#giveBase(this.#process, this.#base!)
    return this.#process
  }

  async #give(trainer: TrainerProcess): Promise<void> {
    const path = join(this.#scratch, 'state.safetensors')
    this.#writeState(path)
    await trainer.call({ do: 'load', state: path })
    this.#held = this.#state
  }

  async #giveBase(trainer: TrainerProcess, base: Float32Array): Promise<void> {
    const path = join(this.#scratch, 'base.safetensors')
    writeTensorFile(path, tensorsOf(this.options.layout.base!, '', base), 'f32', {}, { durable: false })
    await trainer.call({ do: 'base', parameters: path })
    this.#heldBase = base
    rmSync(path, { force: true })
  }

  async #greet(trainer: TrainerProcess): Promise<void> {
    const { layout, batch, threads, weightDecay, gradientClip } = this.options
    const { base = layout, adapters } = layout
    const { protocol, name, features } = await trainer.call({
      do: 'hello',
      protocol: trainerProtocol,
      model: { kvHeads: layout.config.heads, tiedHead: true, ...layout.config, ropeDivisors: [...ropeDivisors(layout.config)] },
      tensors: namesOf(base),
      ...(adapters && { adapters: { ...adapters, tensors: namesOf(layout) } }),
      optimizer: { ...adamw, weightDecay, gradientClip },
      batch,
      threads
    })
    if (protocol !== trainerProtocol)
      throw new WorldlmError(
        'TRAINER_VERSION',
        `the trainer ${JSON.stringify(name ?? '')} speaks protocol ${JSON.stringify(protocol)}, this node ${trainerProtocol}`,
        'Use a trainer and a node of the same version: docs/trainer-protocol.md.'
      )
    if (adapters !== undefined && !(Array.isArray(features) && features.includes('adapters')))
      throw new WorldlmError(
        'TRAINER_ADAPTERS',
        `the trainer ${JSON.stringify(name ?? '')} learns whole models, this federation trains adapters`,
        'Use a trainer that says “adapters” in its hello (docs/trainer-protocol.md), or another engine.name.'
      )
  }

  /** Shapes [batches, windows, context]. */
  #writeBatches(batches: Batch[]): string {
    const { batch, layout } = this.options
    const path = join(this.#scratch, 'batches.safetensors')
    const each = batch * layout.config.context
    const tensors = (['inputs', 'targets'] as const).map((name): NamedTensor => {
      const whole = new Int32Array(batches.length * each)
      for (const [place, one] of batches.entries()) {
        assertBatch(this.options, one)
        whole.set(one[name], place * each)
      }
      return { name, shape: [batches.length, batch, layout.config.context], integers: true, floats: () => whole }
    })
    writeTensorFile(path, tensors, 'f32', {}, { durable: false })
    return path
  }

  /** The parameters alone: to be evaluated, not trained. */
  #writeParameters(): string {
    const path = join(this.#scratch, 'parameters.safetensors')
    if (this.#written !== this.#state)
      writeTensorFile(path, tensorsOf(this.options.layout, '', this.#state.parameters), 'f32', {}, { durable: false })
    this.#written = this.#state
    return path
  }

  #writeState(path: string): void {
    const { parameters, optimizer } = this.#state
    const { layout } = this.options
    const tensors = [
      ...tensorsOf(layout, '', parameters),
      ...tensorsOf(layout, 'first.', optimizer.first),
      ...tensorsOf(layout, 'second.', optimizer.second)
    ]
    writeTensorFile(path, tensors, 'f32', { step: String(optimizer.step) }, { durable: false })
  }

  #readState(path: string, step: number): EngineState {
    const zeros = () => new Float32Array(this.options.layout.floats)
    const state = { parameters: zeros(), optimizer: { first: zeros(), second: zeros(), step } }
    this.#readTensors(path, [
      ['', state.parameters],
      ['first.', state.optimizer.first],
      ['second.', state.optimizer.second]
    ])
    return state
  }

  /** @param sections - where the tensors of each prefix go. */
  #readTensors(path: string, sections: [string, Float32Array][]): void {
    this.#read(path, file => {
      for (const [prefix, target] of sections) {
        for (const { name, shape, offset, floats } of this.options.layout.tensors) {
          const part = target.subarray(offset, offset + floats)
          file.read(prefix + name, shape, part)
          const wrong = firstNotFinite(part)
          if (wrong >= 0) throw new Error(`tensor ${prefix + name} holds ${part[wrong]} at place ${wrong}`)
        }
      }
    })
  }

  /** What it wrote is believed no more than what it says. @throws {WorldlmError} TRAINER_RESULT */
  #read(path: string, read: (file: TensorFile) => void): void {
    let file: TensorFile | null = null
    try {
      file = new TensorFile(path)
      read(file)
    } catch (cause) {
      throw new WorldlmError(
        'TRAINER_RESULT',
        `what the trainer wrote cannot be used: ${(cause as Error).message}`,
        'The state before is kept; see docs/trainer-protocol.md for what it must write.',
        { cause }
      )
    } finally {
      file?.close()
      rmSync(path, { recursive: true, force: true })
    }
  }
}

/** The hint of a single failure says that it is tried again. */
const givenUp = (error: WorldlmError): WorldlmError =>
  new WorldlmError(
    error.code,
    error.message,
    `Tried ${attemptsMax} times. Mend the trainer and start the node again: it goes on from its last good state (docs/trainer-protocol.md).`,
    { cause: error }
  )

const namesOf = ({ tensors }: Layout) => tensors.map(({ name, shape }) => ({ name, shape }))

const tensorsOf = ({ tensors }: Layout, prefix: string, values: Float32Array): NamedTensor[] =>
  tensors.map(({ name, shape, offset, floats }) => ({
    name: prefix + name,
    shape,
    floats: () => values.subarray(offset, offset + floats)
  }))

const equalFloats = (a: Float32Array, b: Float32Array): boolean =>
  a === b || Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength))

const equalStates = (a: EngineState, b: EngineState): boolean =>
  a.optimizer.step === b.optimizer.step &&
  equalFloats(a.parameters, b.parameters) &&
  equalFloats(a.optimizer.first, b.optimizer.first) &&
  equalFloats(a.optimizer.second, b.optimizer.second)

function numbers(value: unknown, count: number, what: string): number[] {
  // JSON has no NaN: whoever writes it says null.
  const isNumber = (one: unknown) => typeof one === 'number' || one === null
  if (Array.isArray(value) && value.length === count && value.every(isNumber)) return value.map(one => one ?? Number.NaN)
  throw new WorldlmError('TRAINER_RESULT', `the trainer gave no ${count} ${what}`, 'See docs/trainer-protocol.md.')
}
