/**
 * The shared part of a cell, kept for others whose shared part is the same: `ditto` and `lora` train a personal model beside what
 * `fedavg` trains, and need not train that again. A file a round, in the folder of cells, for as long as an experiment needs it.
 *
 * Is for methods whose members take their federation's model as it is.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { WorldlmError } from '../errors.ts'
import type { CellState } from './cell-state.ts'
import type { Exchanged } from './exchange.ts'
import { shared } from './jobs.ts'
import type { CellResult } from './result.ts'

/** What a round did to the shared part. */
interface TrunkRound extends Pick<Exchanged, 'levels' | 'attention'> {
  /** By path, after the round. */
  models: [path: string, model: Float32Array][]
  /** Names of the organizations that took their federation's model over. */
  takers: string[]
}

export class Trunk {
  readonly #folder: string

  /** @param key - of the cell whose shared part it is. */
  constructor(cache: string, key: string) {
    this.#folder = join(cache, `${key}.trunk`)
  }

  /** @param before - each participant's start in this round. */
  write(
    round: number,
    { federations, participants }: CellState,
    before: Float32Array[],
    { levels, attention }: Exchanged
  ): void {
    const models = [...federations].map(([path, { model }]) => [path, model] as [string, Float32Array])
    const takers = participants.flatMap(({ name, start }, place) => (start === before[place] ? [] : [name]))
    mkdirSync(this.#folder, { recursive: true })
    const path = this.#path(round)
    writeFileSync(`${path}.tmp`, serialize({ models, takers, levels, attention } satisfies TrunkRound))
    renameSync(`${path}.tmp`, path)
  }

  /** Whether each round of the finished cell is there. */
  isWhole({ diverged }: CellResult, rounds: number): boolean {
    const last = diverged === null ? rounds : diverged.round - 1
    return Array.from({ length: last }, (_, place) => place + 1).every(round => existsSync(this.#path(round)))
  }

  /**
   * Does to the state what the round did there.
   * @param source - of the finished cell. @throws {WorldlmError} ENGINE_DIVERGED where it diverged in this round.
   */
  replay(round: number, { diverged }: CellResult, state: CellState): Exchanged {
    if (diverged?.round === round) throw new WorldlmError('ENGINE_DIVERGED', diverged.message, '')
    const { models, takers, levels, attention } = deserialize(readFileSync(this.#path(round))) as TrunkRound
    for (const [path, model] of models) state.federations.get(path)!.model = shared(model)
    for (const one of state.participants)
      if (takers.includes(one.name)) one.start = state.federations.get(one.federation!)!.model
    return { weighed: new Map(), levels, attention }
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #path(round: number): string {
    return join(this.#folder, String(round))
  }
}

interface Planned {
  key: string
  trunk: string | null
  options: { algorithm: { rounds: number } }
}

/** Of an experiment: which cells keep their shared part, and who waits for it. */
export class Trunks<Cell extends { plan: Planned }> {
  /** Cells to compute, those that follow others behind all others. */
  readonly ordered: Cell[]
  readonly #cache: string
  readonly #wanted: Set<string>
  readonly #sources = new Map<string, PromiseWithResolvers<CellResult>>()

  /** @param waiting - cells to compute. @param results - of all cells of the experiment, by key; null: to be computed. */
  constructor(cache: string, waiting: Cell[], results: ReadonlyMap<string, CellResult | null>) {
    this.#cache = cache
    this.#wanted = new Set(waiting.flatMap(({ plan: { trunk } }) => (trunk !== null && results.has(trunk) ? [trunk] : [])))
    for (const key of this.#wanted) {
      this.#sources.set(key, Promise.withResolvers())
      const known = results.get(key)
      if (known) this.finished(key, known)
    }
    const follows = ({ plan: { trunk } }: Cell) => trunk !== null && this.#wanted.has(trunk)
    this.ordered = [...waiting.filter(cell => !follows(cell)), ...waiting.filter(follows)]
  }

  keep({ key }: Planned): Trunk | null {
    return this.#wanted.has(key) ? new Trunk(this.#cache, key) : null
  }

  /** Waits for the cell that this one follows. @returns null where there is none, or it kept nothing. */
  async from({ trunk: key, options }: Planned): Promise<{ trunk: Trunk; source: CellResult } | null> {
    const source = key === null ? undefined : await this.#sources.get(key)?.promise
    if (key === null || source === undefined) return null
    const trunk = new Trunk(this.#cache, key)
    return trunk.isWhole(source, options.algorithm.rounds) ? { trunk, source } : null
  }

  finished(key: string, result: CellResult): void {
    this.#sources.get(key)?.resolve(result)
  }

  /** Of what was kept. */
  remove(): void {
    for (const key of this.#wanted) new Trunk(this.#cache, key).remove()
  }
}
