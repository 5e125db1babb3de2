/** One experiment: cells planned, taken from the cache or computed, several at a time, and put together. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { WorldlmError } from '../errors.ts'
import { runCell } from './cell.ts'
import type { CellResult } from './result.ts'
import { loadState, saveState } from './cell-state.ts'
import { type CellPlan, planCells, type PlanOptions } from './plan.ts'
import { Pool } from './pool.ts'
import { Trunks } from './trunk.ts'

export interface ExperimentOptions extends PlanOptions {
  /** Folder of finished and begun cells. */
  cache: string
  /** Threads that train. */
  workers: number
  /** A cell's state is written at most so often. */
  saveSeconds: number
}

export interface CellProgress {
  plan: CellPlan
  state: 'waiting' | 'running' | 'done' | 'cached' | 'diverged'
  round: number
  /** Newest mean perplexity of the personal models; null before the first. */
  perplexity: number | null
  aggregated: number | null
}

export interface ExperimentEvents {
  /** A line for who reads along. */
  line(text: string): void
  /** Called as steps are done. @param stepsDone, steps - of what is to be computed, cached cells left out. */
  progress(cells: CellProgress[], stepsDone: number, steps: number): void
}

export interface ExperimentResult {
  /** null: not computed, because the experiment was stopped. */
  cells: { plan: CellPlan; result: CellResult | null }[]
  interrupted: boolean
  seconds: number
}

/** @throws {WorldlmError} of the options, the texts, the model. A run that diverges is a result, not an error. */
export async function runExperiment(
  options: ExperimentOptions,
  events: ExperimentEvents,
  signal: AbortSignal
): Promise<ExperimentResult> {
  const began = performance.now()
  const plans = await planCells(options)
  mkdirSync(options.cache, { recursive: true })
  const results = new Map(plans.map(plan => [plan.key, readResult(options.cache, plan)]))
  const cells = plans.map(plan => progressOf(plan, results.get(plan.key) ?? null))
  const waiting = cells.filter(
    ({ plan, state }, place) => state === 'waiting' && plans.findIndex(({ key }) => key === plan.key) === place
  )
  events.line(
    `${plans.length} cells, ${plans.length - waiting.length} of them known already; ${waiting.length} to compute on ${options.workers} threads`
  )
  let stepsDone = 0
  const steps = waiting.reduce((sum, { plan }) => sum + plan.steps, 0)
  const tell = () => events.progress(cells, stepsDone, steps)
  const interrupted = () => signal.aborted
  if (waiting.length > 0 && !interrupted()) {
    const pool = new Pool(options.workers, done => {
      stepsDone += done
      tell()
    })
    const stop = () => void pool.close()
    signal.addEventListener('abort', stop)
    try {
      const trunks = new Trunks(options.cache, waiting, results)
      const queue = trunks.ordered
      const work = async () => {
        for (let cell = queue.shift(); cell !== undefined && !interrupted(); cell = queue.shift()) {
          const skipped = (round: number) => {
            stepsDone += (cell!.plan.steps * round) / cell!.plan.options.algorithm.rounds
          }
          const result = await compute(options, events, pool, cell, trunks, skipped)
          results.set(cell.plan.key, result)
          trunks.finished(cell.plan.key, result)
          for (const other of cells) if (other.plan.key === cell.plan.key) Object.assign(other, progressOf(other.plan, result))
          tell()
        }
      }
      // As many cells at a time as threads: while one aggregates, or has a single model, the others train.
      await Promise.all(Array.from({ length: options.workers }, work))
      trunks.remove()
    } catch (error) {
      if (!interrupted()) throw error
    } finally {
      signal.removeEventListener('abort', stop)
      await pool.close()
    }
  }
  return {
    cells: plans.map(plan => ({ plan, result: results.get(plan.key) ?? null })),
    interrupted: interrupted(),
    seconds: (performance.now() - began) / 1000
  }
}

async function compute(
  { cache, saveSeconds }: ExperimentOptions,
  events: ExperimentEvents,
  pool: Pool,
  cell: CellProgress,
  trunks: Trunks<CellProgress>,
  skipped: (rounds: number) => void
): Promise<CellResult> {
  const { plan } = cell
  const { rounds } = plan.options.algorithm
  const from = await trunks.from(plan)
  if (from !== null) events.line(`${label(plan)}: its shared model is trained already`)
  const statePath = join(cache, `${plan.key}.state`)
  const resume = existsSync(statePath) ? loadState(statePath) : null
  if (resume !== null) {
    skipped(resume.round)
    events.line(`${label(plan)} goes on after round ${resume.round}`)
  }
  cell.state = 'running'
  cell.round = resume?.round ?? 0
  let savedAt = performance.now()
  const result = await runCell(plan, pool, {
    resume,
    save: state => {
      if (state.round === rounds || (performance.now() - savedAt) / 1000 < saveSeconds) return
      saveState(statePath, state)
      savedAt = performance.now()
    },
    keep: trunks.keep(plan),
    from,
    onRound: (round, point) => {
      cell.round = round
      // Half of its steps are another's.
      if (from !== null) skipped(0.5)
      if (point === null) return
      cell.perplexity = meanOf(Object.values(point.organizations).map(({ personal }) => personal.perplexity))
      cell.aggregated = meanOf(Object.values(point.organizations).map(({ aggregated }) => aggregated.perplexity))
    }
  })
  writeResult(cache, plan, result)
  rmSync(statePath, { force: true })
  const end =
    result.diverged === null ? `perplexity ${cell.perplexity?.toFixed(3)} / ${cell.aggregated?.toFixed(3)}` : 'diverged'
  events.line(`${label(plan)} done in ${result.seconds.toFixed(0)} s: ${end}`)
  return result
}

const label = ({ name, seed }: CellPlan): string => `${name}, seed ${seed}`

function progressOf(plan: CellPlan, result: CellResult | null): CellProgress {
  const last = result?.curve.at(-1)
  const figures = Object.values(last?.organizations ?? {})
  return {
    plan,
    state: result === null ? 'waiting' : result.diverged === null ? 'cached' : 'diverged',
    round: last?.round ?? 0,
    perplexity: last === undefined ? null : meanOf(figures.map(({ personal }) => personal.perplexity)),
    aggregated: last === undefined ? null : meanOf(figures.map(({ aggregated }) => aggregated.perplexity))
  }
}

/** exp of the mean nll; null unless all are finite. */
export function meanOf(perplexities: (number | null)[]): number | null {
  if (perplexities.length === 0 || perplexities.includes(null)) return null
  return Math.exp(perplexities.reduce<number>((sum, one) => sum + Math.log(one!), 0) / perplexities.length)
}

const resultPath = (cache: string, { key }: CellPlan): string => join(cache, `${key}.json`)

function readResult(cache: string, plan: CellPlan): CellResult | null {
  const path = resultPath(cache, plan)
  if (!existsSync(path)) return null
  try {
    const { format, result } = JSON.parse(readFileSync(path, 'utf8')) as { format: string; result: CellResult }
    if (format === cacheFormat) return result
  } catch {
    // Written by hand or cut short by a full disk: it is computed again.
  }
  rmSync(path, { force: true })
  return null
}

const cacheFormat = 'worldlm.cell/1'

function writeResult(cache: string, plan: CellPlan, result: CellResult): void {
  const path = resultPath(cache, plan)
  const { name, seed, options } = plan
  try {
    writeFileSync(`${path}.tmp`, `${JSON.stringify({ format: cacheFormat, name, seed, options, result })}\n`)
    renameSync(`${path}.tmp`, path)
  } catch (cause) {
    throw new WorldlmError(
      'CACHE_UNWRITABLE',
      `${path} could not be written: ${(cause as Error).message}`,
      'Choose another --cache.',
      {
        cause
      }
    )
  }
}
