/**
 * One cell of an experiment: a method, its options and a seed, from the first round to the last.
 *
 *   round: train (workers) → personal models evaluated → exchange → aggregated and federations' models evaluated → saved
 *
 * Is: the order of things, and the figures. Is not: aggregation (federate.ts) or training (experiment-worker.ts). The same plan gives the
 * same figures, whatever the number of workers, and whether or not it was interrupted.
 */
import { WorldlmError } from '../errors.ts'
import { stepsBefore } from '../train/schedule.ts'
import type { Evaluated } from '../train/session.ts'
import { beginCell, type CellState, isBusy, type Participant, type Participants } from './cell-state.ts'
import { exchange, type Exchanged } from './exchange.ts'
import type { Pool } from './pool.ts'
import type { CellResult, CurvePoint, Figure, Figures } from './result.ts'
import type { CellPlan } from './plan.ts'
import type { Trunk } from './trunk.ts'

export interface CellHooks {
  /** State to go on from. */
  resume: CellState | null
  /** Called after each round; the state is whole until this returns. */
  save: (state: CellState) => void
  onRound: (round: number, point: CurvePoint | null) => void
  /** Where the shared part of each round is kept for other cells; null: nowhere. */
  keep: Trunk | null
  /** A finished cell with the same shared part, which then is not trained again. */
  from: { trunk: Trunk; source: CellResult } | null
}

export async function runCell(plan: CellPlan, pool: Pool, hooks: CellHooks): Promise<CellResult> {
  const began = performance.now()
  const follows = hooks.from !== null
  // What it had trained itself, or had not, it cannot go on from in the other way.
  const state = hooks.resume?.follows === follows ? hooks.resume : { ...(await beginCell(plan, pool)), follows }
  const before = state.result.seconds
  for (let round = state.round + 1; round <= plan.options.algorithm.rounds; round++) {
    try {
      const point = await runRound(plan, pool, state, round, hooks)
      if (point !== null) state.result.curve.push(point)
      state.round = round
      state.result.seconds = before + (performance.now() - began) / 1000
      hooks.save(state)
      hooks.onRound(round, point)
    } catch (error) {
      if (!(error instanceof WorldlmError) || error.code !== 'ENGINE_DIVERGED') throw error
      state.result.diverged = { round, message: error.message }
      break
    }
  }
  return state.result
}

async function runRound(
  plan: CellPlan,
  pool: Pool,
  state: CellState,
  round: number,
  { keep, from }: Pick<CellHooks, 'keep' | 'from'>
): Promise<CurvePoint | null> {
  const evaluating = round === 1 || round % plan.evaluateEvery === 0 || round === plan.options.algorithm.rounds
  const present = state.participants.filter(({ joinsAfter }) => round > joinsAfter)
  const ready = plan.method.pooled === true ? present : present.filter(one => !isBusy(one, round))
  const personal = await train(plan, pool, state, ready, evaluating)
  const before = state.participants.map(({ start }) => start)
  const exchanged =
    from === null ? await exchange(plan, pool, state, ready, round) : from.trunk.replay(round, from.source, state)
  keep?.write(round, state, before, exchanged)
  add(state, exchanged)
  if (!evaluating) return null
  // In the order of names, not of the workers that were ready first.
  for (const [path, candidates] of [...exchanged.weighed].sort(([left], [right]) => (left < right ? -1 : 1))) {
    const shown = candidates.map(({ name, weight, nllPerByte }) => ({ name, weight, nllPerByte }))
    state.result.weighed.push({ round, path, candidates: shown })
  }
  const organizations: Record<string, Figures> = {}
  const figures = await Promise.all(present.map(one => evaluate(plan, pool, state, one, personal.get(one.name) ?? null)))
  for (const [place, { name }] of present.entries()) organizations[name] = figures[place]!
  const { tokens, levels } = state
  const sum = (pick: (level: (typeof levels)[0]) => number) => levels.reduce((total, level) => total + pick(level), 0)
  return {
    round,
    tokens,
    bytesUp: sum(({ bytesUp }) => bytesUp),
    bytesDown: sum(({ bytesDown }) => bytesDown),
    levels: levels.map(level => ({ ...level })),
    organizations
  }
}

/** @returns the personal models' figures, if they are asked for. */
async function train(
  plan: CellPlan,
  pool: Pool,
  state: CellState,
  present: Participants,
  evaluate: boolean
): Promise<Map<string, Evaluated>> {
  const { steps, keepOptimizer, batch } = plan.options.algorithm
  const stepTokens = batch * plan.options.model.context
  if (state.pooled !== null) {
    const { pooled } = state
    const startStep = state.round * steps
    const sessions = present.map(({ session }) => session)
    await pool.trainPooled({
      sessions,
      start: pooled.parameters,
      learner: pooled,
      keepOptimizer,
      steps,
      startStep,
      evaluate: false
    })
    state.tokens += steps * stepTokens * present.length
    const all = evaluate
      ? await Promise.all(sessions.map(session => pool.evaluate(session, [pooled.parameters], 'validation')))
      : []
    return new Map(all.map(([evaluated], place) => [present[place]!.name, evaluated!]))
  }
  const found = await Promise.all(present.map(one => trainOne(plan, pool, one, evaluate, state)))
  state.tokens += steps * stepTokens * present.length * (plan.method.personal === undefined ? 1 : 2)
  return new Map(found.flatMap((evaluated, place) => (evaluated === null ? [] : [[present[place]!.name, evaluated] as const])))
}

/** λ of Ditto (Li et al. 2021). */
const dittoPull = 0.1

/** Where the shared model of the round is known already (`follows`), only what is beside it is trained. */
async function trainOne(
  plan: CellPlan,
  pool: Pool,
  one: Participant,
  evaluate: boolean,
  { follows, round }: CellState
): Promise<Evaluated | null> {
  const { steps, keepOptimizer } = plan.options.algorithm
  const { session, start, learner, beside } = one
  // Who belongs to no federation goes by what it trained itself.
  const startStep = stepsBefore(one.federation === null ? 1 : round + 1, one.trained, steps)
  const job = { session, steps, keepOptimizer, startStep, ownStartStep: one.trained * steps }
  const isFirst = one.trained === 0 && one.joinsAfter === 0
  one.trained++
  if (!follows) {
    const whole = { ...job, start, learner, pull: null, base: null, evaluate: evaluate && beside === null }
    const shared = await (isFirst ? pool.trainFirst(whole) : pool.train(whole))
    if (beside === null) return shared.evaluated
  }
  if (beside === null) return null
  // As many windows as the shared model's, so the same ones.
  const own = { ...job, start: beside.parameters, learner: beside, evaluate }
  const { evaluated } = await pool.train(
    plan.adapters === null
      ? { ...own, pull: { towards: start, strength: dittoPull }, base: null }
      : { ...own, session: { ...session, layout: plan.adapters }, pull: null, base: start }
  )
  return evaluated
}

/** What stands for the organization: its trained model, the one beside it, or its adapters over what it took over last. */
async function evaluateOwn({ adapters }: CellPlan, pool: Pool, one: Participant): Promise<Evaluated> {
  const { session, beside, learner, start } = one
  const [evaluated] =
    adapters === null || beside === null
      ? await pool.evaluate(session, [(beside ?? learner).parameters], 'validation')
      : await pool.evaluate({ ...session, layout: adapters }, [beside.parameters], 'validation', start)
  return evaluated!
}

function add(state: CellState, { levels, attention }: Exchanged): void {
  state.result.attention = attention
  for (const { level, bytesUp, bytesDown } of levels) {
    const known = state.levels.find(one => one.level === level)
    if (known === undefined) state.levels.push({ level, bytesUp, bytesDown })
    else {
      known.bytesUp += bytesUp
      known.bytesDown += bytesDown
    }
  }
}

async function evaluate(
  plan: CellPlan,
  pool: Pool,
  state: CellState,
  one: Participant,
  after: Evaluated | null
): Promise<Figures> {
  // Who is still at its steps has the personal model of the round before.
  const personal = figureOf(after ?? (await evaluateOwn(plan, pool, one)))
  const { shape, pooled = false } = plan.method
  if (pooled) return { personal, aggregated: personal, federation: personal }
  if (shape === 'none') return { personal, aggregated: personal, federation: null }
  const federation = one.federation === null ? null : state.federations.get(one.federation)!.model
  // Ditto's personal model takes nothing over: its federation's model is only what it is pulled towards. Adapters lie over another model now.
  const taken = one.beside === null ? one.start : null
  const models = taken !== null && federation !== null && isSame(taken, federation) ? [taken] : [taken, federation]
  const known = models.filter(model => model !== null)
  const figures = (await pool.evaluate(one.session, known, 'validation')).map(figureOf)
  const beside = plan.adapters === null ? personal : figureOf(await evaluateOwn(plan, pool, one))
  return {
    personal,
    aggregated: taken === null ? beside : figures[0]!,
    federation: federation === null ? null : figures.at(-1)!
  }
}

/** A federation's model that replaces one's own is evaluated once. */
const isSame = (one: Float32Array, other: Float32Array): boolean => one.every((value, place) => value === other[place])

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null)

const figureOf = ({ perplexity, bitsPerByte }: Evaluated): Figure => ({
  perplexity: finite(perplexity),
  bitsPerByte: finite(bitsPerByte)
})
