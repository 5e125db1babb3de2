/**
 * A trainer as a process: JSON lines over stdin and stdout, one call at a time (docs/trainer-protocol.md).
 *
 * Is: the place where rubbish, silence and death of a trainer become errors by name. Is not: a second try; external-engine.ts makes it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { WorldlmError } from '../../errors.ts'

/** Longer lines are no answers. */
const lineCharactersMax = 1 << 24
/** Of what it writes to stderr, so much is kept for messages. */
const wordsMax = 2000
/** How long it may take to end by itself, or to give up a call. */
const graceMs = 1000

export interface CallOptions {
  onProgress?: (progress: Record<string, unknown>) => void
  signal?: AbortSignal | undefined
}

interface Waiting {
  id: number
  resolve: (answer: Record<string, unknown>) => void
  reject: (error: Error) => void
  onProgress: (progress: Record<string, unknown>) => void
}

export class TrainerProcess {
  readonly #child: ChildProcess
  readonly #silenceMs: number
  readonly #name: string
  #waiting: Waiting | null = null
  #silence: NodeJS.Timeout | undefined
  #rest = ''
  #words = ''
  #next = 1
  /** Why it can take no further call; null while it can. */
  #failure: WorldlmError | null = null

  /** @param command - program and arguments. @param folder - that it runs in. */
  constructor(command: string[], folder: string, silenceMs: number) {
    const [program, ...args] = command
    if (program === undefined || program === '')
      throw new WorldlmError(
        'TRAINER_MISSING',
        'engine.command names no program',
        'Write one into worldlm.yaml: engine: { command: […] }.'
      )
    this.#name = command.join(' ')
    this.#silenceMs = silenceMs
    // A group of its own: whatever it starts ends with it.
    this.#child = spawn(program, args, { cwd: folder, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
    this.#child.on('error', cause =>
      this.#fail('TRAINER_MISSING', `${program} cannot be started: ${cause.message}`, 'Check engine.command in worldlm.yaml.')
    )
    this.#child.on('close', (code, signal) =>
      this.#fail('TRAINER_DIED', `it ended (${signal ?? `code ${code}`})`, 'Its last words stand above; it is started again.')
    )
    this.#child.stdin?.on('error', () => undefined)
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#read(text))
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#words = (this.#words + text).slice(-wordsMax)
    })
  }

  get usable(): boolean {
    return this.#failure === null
  }

  /**
   * @returns what it answers under `ok`.
   * @throws {WorldlmError} TRAINER_DIED, TRAINER_SILENT, TRAINER_RUBBISH, TRAINER_MISSING (it is gone then); TRAINER_REFUSED,
   * ENGINE_DIVERGED (it goes on). @throws the signal's reason
   */
  call(
    request: { do: string } & Record<string, unknown>,
    { onProgress, signal }: CallOptions = {}
  ): Promise<Record<string, unknown>> {
    if (this.#failure !== null) return Promise.reject(this.#failure)
    signal?.throwIfAborted()
    const id = this.#next++
    return new Promise((resolve, reject) => {
      let grace: NodeJS.Timeout | undefined
      const abort = () => {
        this.#write({ do: 'cancel', id })
        grace = setTimeout(() => this.kill('it did not stop when it was told to'), graceMs)
      }
      const done = () => {
        clearTimeout(grace)
        clearTimeout(this.#silence)
        signal?.removeEventListener('abort', abort)
        this.#waiting = null
      }
      this.#waiting = {
        id,
        onProgress: onProgress ?? (() => undefined),
        resolve: answer => {
          done()
          resolve(answer)
        },
        reject: error => {
          done()
          reject(signal?.aborted === true ? signal.reason : error)
        }
      }
      signal?.addEventListener('abort', abort)
      this.#listen()
      this.#write({ id, ...request })
    })
  }

  /** Asks it to end, and ends it. */
  async end(): Promise<void> {
    if (this.#failure !== null) return
    const closed = new Promise<void>(resolve => this.#child.once('close', () => resolve()))
    this.#write({ do: 'end' })
    this.#child.stdin?.end()
    const timer = setTimeout(() => this.kill('it did not end when it was told to'), graceMs)
    await closed
    clearTimeout(timer)
  }

  kill(why: string): void {
    this.#fail('TRAINER_SILENT', why, 'It is started again; see its own log for what it was doing.')
  }

  /** A word from it is due before the silence is over. */
  #listen(): void {
    clearTimeout(this.#silence)
    this.#silence = setTimeout(() => this.kill(`it said nothing for ${this.#silenceMs / 1000} s`), this.#silenceMs)
  }

  #write(message: Record<string, unknown>): void {
    this.#child.stdin?.write(`${JSON.stringify(message)}\n`)
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) if (this.#failure === null && line.trim() !== '') this.#answer(line)
    if (this.#rest.length > lineCharactersMax) this.#rubbish(this.#rest)
  }

  #answer(line: string): void {
    const answer = parse(line)
    const waiting = this.#waiting
    if (answer === null || waiting === null || answer.id !== waiting.id) {
      this.#rubbish(line)
      return
    }
    this.#listen()
    if (isRecord(answer.progress)) waiting.onProgress(answer.progress)
    else if (isRecord(answer.ok)) waiting.resolve(answer.ok)
    else if (isRecord(answer.error)) waiting.reject(this.#refusal(answer.error))
    else this.#rubbish(line)
  }

  #refusal({ code = '', message = '' }: Record<string, unknown>): WorldlmError {
    const hint = 'Lower algorithm.learningRate, or check the text for what is no text.'
    if (code === 'DIVERGED') return new WorldlmError('ENGINE_DIVERGED', String(message), hint)
    const what = `the trainer (${this.#name}) refuses: ${code}: ${message}`
    return new WorldlmError('TRAINER_REFUSED', what, 'The trainer says why; see docs/trainer-protocol.md.')
  }

  #rubbish(line: string): void {
    this.#fail(
      'TRAINER_RUBBISH',
      `it said what is no answer: ${JSON.stringify(line.slice(0, 80))}`,
      'Only answers may go to its stdout: let it print to stderr.'
    )
  }

  #fail(code: string, what: string, hint: string): void {
    clearTimeout(this.#silence)
    if (this.#failure !== null) return
    const words = this.#words.trim() === '' ? '' : `\n${this.#words.trim()}`
    this.#failure = new WorldlmError(code, `the trainer (${this.#name}): ${what}${words}`, hint)
    try {
      if (this.#child.pid !== undefined) process.kill(-this.#child.pid, 'SIGKILL')
    } catch {
      // It has ended already.
    }
    this.#waiting?.reject(this.#failure)
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function parse(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line)
    return isRecord(value) ? value : null
  } catch {
    return null
  }
}
