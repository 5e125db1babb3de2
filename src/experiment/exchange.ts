/** What organizations send and take in a round, by the shape of the method: a tree of federations, neighbours on a ring, or nothing. */
import { mixModels, ModelSpace, modelSlotsMax } from '../aggregate/models.ts'
import type { Weighed } from '../aggregate/down.ts'
import { clipAndNoise } from '../governance/clip-and-noise.ts'
import { Random } from '../math/random.ts'
import { Vectors } from '../math/vector.ts'
import type { Layout } from '../model/layout.ts'
import { isDue, remember } from '../aggregate/asking.ts'
import { bringResiduals, residualsFor, weighResidualsOf } from './residuals.ts'
import { discounted } from '../federation/round-sums.ts'
import { downAt, stepsBefore } from '../train/schedule.ts'
import { type CellState, isBusy, type Participant, type Participants } from './cell-state.ts'
import { federate, type Handed, handIn, type LevelBytes, type Round } from './federate.ts'
import { shared } from './jobs.ts'
import type { CellPlan } from './plan.ts'
import type { Pool } from './pool.ts'
import { type Federation, plantTree, ringNeighbours } from './tree.ts'

export interface Exchanged {
  weighed: Map<string, Weighed[]>
  attention: Round['attention']
  levels: LevelBytes[]
}

const nothing: Exchanged = { weighed: new Map(), attention: [], levels: [] }

/** Sets each participant's next start. */
export async function exchange(
  plan: CellPlan,
  pool: Pool,
  state: CellState,
  present: Participants,
  round: number
): Promise<Exchanged> {
  const { shape } = plan.method
  if (shape === 'none') {
    for (const one of present) one.start = one.learner.parameters
    return nothing
  }
  if (shape === 'graph') return withNeighbours(plan, present)
  return inTree(plan, pool, state, present, round)
}

async function inTree(plan: CellPlan, pool: Pool, state: CellState, present: Participants, round: number): Promise<Exchanged> {
  const { algorithm, settings } = plan.options
  const space = spaceOf(plan.layout)
  const tree = plantTree(new Map(plan.organizations.map(({ name, place }) => [name, place])), plan.method.shape)
  const tokens = algorithm.steps * algorithm.batch * plan.options.model.context
  const handed = new Map<string, Handed>()
  for (const [place, one] of present.entries()) {
    if (one.straggles && algorithm.stale === 'drop') continue
    const weight = discounted(tokens, one.straggles ? 1 : 0)
    const after = sent(plan, one, round, place < settings.liars)
    const base = state.federations.get(one.federation!)!.model
    one.rest ??= new Float32Array(plan.layout.floats)
    const models = { after, start: one.start, base, rest: one.rest }
    handed.set(one.name, handIn({ space, algorithm, seed: plan.seed }, models, { weight, textBytes: one.textBytes }))
  }
  // Who joins after this round takes its result over, too.
  const takers = state.participants.filter(one => round >= one.joinsAfter && !isBusy(one, round))
  const deepest = Math.max(...tree.map(({ depth }) => depth))
  const active = ({ depth }: Federation) => plan.method.periods !== true || round % 2 ** (deepest - depth) === 0
  const withResiduals = algorithm.residuals.perNode > 0 && ['likelihood', 'chain'].includes(algorithm.down)
  const brought = new Map(
    takers.map(({ name }) => [name, withResiduals ? residualsFor(state.residuals, name, round) : []] as const)
  )
  const done = await federate(
    { space, algorithm, seed: plan.seed, genesis: state.genesis, tree, active },
    state.federations,
    handed,
    takers.map(({ name, federation, learner, start, textBytes, session, trained, asked }) => ({
      name,
      federation: federation!,
      personal: learner.parameters,
      start,
      textBytes,
      schedule: downAt(stepsBefore(round + 1, trained, algorithm.steps), algorithm),
      isAsked: above => isDue(asked, above, round),
      residuals: brought.get(name)!,
      judge: async model => (await pool.evaluate(session, [model], 'kept-back'))[0]!
    }))
  )
  for (const one of takers) {
    one.start = done.starts.get(one.name)!
    const used = brought.get(one.name)!
    const levels = (done.weighed.get(one.name) ?? []).filter(({ name }) => !used.some(residual => residual.name === name))
    one.asked = remember(one.asked, round, levels)
    if (withResiduals) weighResidualsOf(state.residuals, algorithm, one.name, round, done.shares.get(one.name) ?? [], used)
  }
  if (withResiduals) bridge(plan, state, handed, round, done.levels)
  return done
}

/** For the next round. Each goes from its source to the bridge and on to its target. */
function bridge(plan: CellPlan, state: CellState, handed: Map<string, Handed>, round: number, levels: LevelBytes[]): void {
  const homes = new Map(state.participants.map(({ name, federation }) => [name, federation!]))
  const sources = new Map([...handed].map(([name, one]) => [name, { ...one, federation: homes.get(name)! }]))
  const count = bringResiduals(state.residuals, plan.options.algorithm, round, sources)
  const bytes = count * plan.layout.floats * 4
  const root = levels.find(({ level }) => level === 0)
  if (root === undefined) levels.push({ level: 0, bytesUp: bytes, bytesDown: bytes })
  else {
    root.bytesUp += bytes
    root.bytesDown += bytes
  }
}

/** The model as it leaves the organization. */
function sent(plan: CellPlan, { name, start, learner }: Participant, round: number, liar: boolean): Float32Array {
  const { dpClip, dpNoise } = plan.options.settings
  if (!liar && dpClip === 0) return learner.parameters
  const after = learner.parameters.slice()
  if (liar)
    for (let place = 0; place < after.length; place++) after[place] = start[place]! - 10 * (after[place]! - start[place]!)
  const random = new Random(`noise/${plan.seed}/${name}/${round}`)
  if (dpClip > 0) clipAndNoise(after, start, { clip: dpClip, noise: dpNoise }, random)
  return after
}

/** Everyone takes the mean of itself and its neighbours on the ring. */
function withNeighbours(plan: CellPlan, present: Participants): Exchanged {
  const space = spaceOf(plan.layout)
  const names = present.map(({ name }) => name)
  const trained = new Map(present.map(one => [one.name, one.learner.parameters]))
  let bytes = 0
  for (const one of present) {
    const around = ringNeighbours(names, one.name)
    bytes += around.length * space.layout.floats * 4
    const candidates = [one.name, ...around].sort().map(name => ({
      read: (into: Float32Array) => into.set(trained.get(name)!),
      logits: space.keys.map(() => 0)
    }))
    one.start = shared(mixModels(space, candidates[0]!.read, candidates).model)
  }
  return { ...nothing, levels: [{ level: 0, bytesUp: bytes, bytesDown: bytes }] }
}

/** Slots of one layout at a time; cells of one layout follow each other more often than not. */
const spaces = new Map<string, ModelSpace>()
function spaceOf(layout: Layout): ModelSpace {
  const key = JSON.stringify([layout.config, layout.groups])
  const known = spaces.get(key)
  if (known !== undefined) return known
  if (spaces.size >= 4) spaces.clear()
  const space = new ModelSpace(layout, new Vectors(layout.floats * modelSlotsMax))
  spaces.set(key, space)
  return space
}
