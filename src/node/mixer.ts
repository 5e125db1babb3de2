/**
 * Aggregation and mixing of whole models, away from the event loop: jobs for one worker thread, performed in order. Models come and go as
 * files; what the numbers mean stands in src/aggregate.
 */
import { Worker } from 'node:worker_threads'
import type { ModelOperations } from '../aggregate/down.ts'
import type { WeightScore } from '../aggregate/scores.ts'
import { WorldlmError } from '../errors.ts'
import type { Algorithm } from '../governance/charter.ts'
import type { UpdateEncoding } from '../model/checkpoint.ts'
import type { Layout } from '../model/layout.ts'

export interface AggregateJob {
  layout: Layout
  algorithm: Algorithm
  /** The federation's last model: B_F and K_F. */
  previous: string
  /** The initial model: reference of the score `cosine`. */
  genesis: string
  /** In order of member. */
  inputs: { path: string; base: string | null; weight: number; sketches: Uint8Array; keysDistance: number }[]
  /** At a root: state of the outer optimizer, read unless null, written where it has one. Null below a root. */
  outer: { from: string | null; output: string } | null
  /** Of the sketches. */
  seed: number
  output: string
}
export interface AggregateResult {
  /** [inputs][groups] */
  attention: number[][]
  /** Of the federation's own previous K, where it is a candidate; else empty. */
  ownAttention: number[]
  /** Of the change of K. */
  sketches: Uint8Array
}
export interface DifferenceJob {
  layout: Layout
  model: string
  /** What ΔB is taken against. */
  start: string
  output: string
  encoding: UpdateEncoding
  /** For the block encodings: what K's change is taken against, and what earlier updates left to be sent. */
  block: { keysBase: string; restFrom: string | null; restTo: string; keepsKeys: boolean } | null
}
export interface MixJob {
  layout: Layout
  backboneFrom: string
  /** Logits: one a group. */
  candidates: { path: string; logits: number[] }[]
  output: string
}
export interface ScoreJob {
  layout: Layout
  query: string
  candidates: string[]
  score: WeightScore
  reference: string
}
export type MixerJob =
  | { do: 'inspect'; layout: Layout; path: string; base: string | null; reference: string | null }
  | { do: 'fault'; layout: Layout; path: string; sections: string[] }
  | ({ do: 'aggregate' } & AggregateJob)
  | { do: 'combine'; layout: Layout; backboneFrom: string; keysFrom: string; output: string }
  | ({ do: 'difference' } & DifferenceJob)
  | ({ do: 'mix' } & MixJob)
  | ({ do: 'score' } & ScoreJob)
  | { do: 'draw'; layout: Layout; seed: number; output: string }
  | { do: 'sketch'; layout: Layout; after: string; before: string; seed: number }

interface Reply {
  id: number
  result?: unknown
  error?: { code: string; message: string; hint: string }
}

/** Of a model, above which the thread ends when it has had nothing to do for so long: it keeps several in memory. */
const largeBytes = 32 * 2 ** 20
const idleMs = 1_000

export class Mixer {
  /** Started for its first job: most nodes of a large federation never have one, and a thread takes 80 ms and 10 MB. */
  #worker: Worker | null = null
  #isLarge = false
  #idle: NodeJS.Timeout | undefined
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  #id = 0

  /** Whether its thread is there. */
  get runs(): boolean {
    return this.#worker !== null
  }

  /** Whether an update, or a model, is whole and holds what a model may hold, and ‖K − K_reference‖ over all key layers. @param base - see readUpdateFile. */
  inspect(
    layout: Layout,
    path: string,
    base: string | null,
    reference: string | null
  ): Promise<{ fault: string | null; keysDistance: number }> {
    return this.#run({ do: 'inspect', layout, path, base, reference })
  }

  /** Why a model, or what else has such sections, can be taken by nobody; null: it is whole, and all its numbers are finite. */
  faultOf(layout: Layout, path: string, sections: string[] = ['']): Promise<string | null> {
    return this.#run({ do: 'fault', layout, path, sections })
  }

  aggregate(job: AggregateJob): Promise<AggregateResult> {
    return this.#run({ do: 'aggregate', ...job })
  }

  /** Writes a model with the backbone of one and the key layers of another. */
  combine(layout: Layout, backboneFrom: string, keysFrom: string, output: string): Promise<void> {
    return this.#run({ do: 'combine', layout, backboneFrom, keysFrom, output })
  }

  /** Writes ΔB of `model` against `start`, and K of `model`, as an update file. */
  difference(job: DifferenceJob): Promise<void> {
    return this.#run({ do: 'difference', ...job })
  }

  /** Writes K = Σ softmax(logits)·K_c a group, with the backbone of `backboneFrom`. @returns the weights, [candidates][groups]. */
  mix(job: MixJob): Promise<number[][]> {
    return this.#run({ do: 'mix', ...job })
  }

  /** @returns [candidates][groups] */
  score(job: ScoreJob): Promise<number[][]> {
    return this.#run({ do: 'score', ...job })
  }

  /** The way down over files; what is made is written to `output`. @param initial - the reference of `cosine`. */
  operations(layout: Layout, initial: string, output: string): ModelOperations<string> {
    return {
      combine: async (backboneFrom, keysFrom) => {
        await this.combine(layout, backboneFrom, keysFrom, output)
        return output
      },
      score: (query, candidates) => this.score({ layout, query, candidates, score: 'cosine', reference: initial }),
      mix: async (backboneFrom, candidates) => {
        const paths = candidates.map(({ model: path, logits }) => ({ path, logits }))
        return { model: output, weights: await this.mix({ layout, backboneFrom, candidates: paths, output }) }
      }
    }
  }

  /** Writes the parameters that a tree of federations begins with. */
  draw(layout: Layout, seed: number, output: string): Promise<void> {
    return this.#run({ do: 'draw', layout, seed, output })
  }

  /** Count sketch of K_after − K_before. */
  sketch(layout: Layout, after: string, before: string, seed: number): Promise<Uint8Array> {
    return this.#run({ do: 'sketch', layout, after, before, seed })
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle)
    await this.#worker?.terminate()
    this.#fail(new WorldlmError('MIXER_CLOSED', 'the mixer was closed', 'The node is stopping.'))
  }

  #run<Result>(job: MixerJob): Promise<Result> {
    const id = this.#id++
    clearTimeout(this.#idle)
    this.#isLarge ||= job.layout.floats * Float32Array.BYTES_PER_ELEMENT > largeBytes
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject })
      this.#worker ??= this.#start()
      this.#worker.postMessage({ id, job })
    })
  }

  #start(): Worker {
    const worker = new Worker(
      new URL(import.meta.url.endsWith('.ts') ? './mixer-worker.ts' : './mixer-worker.js', import.meta.url)
    )
    worker.unref()
    worker.on('message', (reply: Reply) => this.#settle(reply))
    worker.on('error', error => this.#fail(error))
    return worker
  }

  #settle({ id, result, error }: Reply): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error === undefined) waiting?.resolve(result)
    else waiting?.reject(new WorldlmError(error.code, error.message, error.hint))
    if (this.#isLarge && this.#waiting.size === 0) this.#idle = setTimeout(() => this.#rest(), idleMs).unref()
  }

  #rest(): void {
    void this.#worker?.terminate()
    this.#worker = null
    this.#isLarge = false
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}
