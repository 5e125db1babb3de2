/** What a cell carries from round to round: all of it, so that it can be saved and taken up again. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { deserialize, serialize } from 'node:v8'
import type { Memory } from '../aggregate/asking.ts'
import { declaredTextBytes } from '../aggregate/attend.ts'
import { initialParameters } from '../model/initial.ts'
import type { SessionOptions } from '../train/session.ts'
import type { CellResult } from './result.ts'
import type { FederationState } from './federate.ts'
import { type Learner, shared, sharedModel } from './jobs.ts'
import type { CellPlan } from './plan.ts'
import type { Pool } from './pool.ts'
import { beginResiduals, type Residuals } from './residuals.ts'
import { plantTree } from './tree.ts'

/** An organization in a cell. */
export interface Participant {
  name: string
  session: SessionOptions
  /** Path of its federation; null where nobody aggregates. */
  federation: string | null
  /** Rounds before it joins. */
  joinsAfter: number
  /** Its steps take two rounds' time. */
  straggles: boolean
  /** t, declared. */
  textBytes: number
  /** What its next training begins with. */
  start: Float32Array
  learner: Learner
  /** A personal model (ditto), or adapters (lora), trained beside the shared one; null where the trained model is the personal one. */
  beside: Learner | null
  /** What its updates left to be sent (aggregate/encode.ts); null before the first. */
  rest: Float32Array | null
  /** Rounds trained. */
  trained: number
  /** When federations above its own were asked for last. */
  asked: Memory
}
export type Participants = Participant[]

/** Whether a straggler is in the first of the two rounds that its steps take. */
export const isBusy = ({ straggles, joinsAfter }: Participant, round: number): boolean =>
  straggles && (round - joinsAfter) % 2 === 1

export interface CellState {
  /** The last round that is done. */
  round: number
  /** Whether another cell's shared part is taken over (trunk.ts). */
  follows: boolean
  genesis: Float32Array
  participants: Participants
  federations: Map<string, FederationState>
  residuals: Residuals
  pooled: (Omit<Learner, 'windows'> & { windows: number[][] }) | null
  tokens: number
  levels: { level: number; bytesUp: number; bytesDown: number }[]
  result: CellResult
}

/** @throws {WorldlmError} of the text, the model, or the engine. */
export async function beginCell(plan: CellPlan, pool: Pool): Promise<CellState> {
  const { layout, method, seed } = plan
  const genesis = shared(initialParameters(layout, seed))
  const ownBeginning = plan.adapters === null ? genesis : initialParameters(plan.adapters, seed)
  const opened = await Promise.all(plan.organizations.map(({ session }) => pool.open(session)))
  const tree = plantTree(new Map(plan.organizations.map(({ name, place }) => [name, place])), method.shape)
  const homes = new Map(tree.flatMap(({ path, organizations }) => organizations.map(name => [name, path])))
  const participants = plan.organizations.map(({ name, session, joinsAfter, straggles }, place) => ({
    name,
    session,
    federation: homes.get(name) ?? null,
    joinsAfter,
    straggles,
    textBytes: declaredTextBytes(opened[place]!.trainBytes),
    start: genesis,
    learner: fresh(genesis, opened[place]!.windows),
    beside: method.personal === undefined ? null : fresh(ownBeginning, opened[place]!.windows),
    rest: null,
    trained: 0,
    asked: {}
  }))
  return {
    round: 0,
    follows: false,
    genesis,
    participants,
    residuals: beginResiduals(),
    federations: new Map(tree.map(({ path }) => [path, { model: genesis, rounds: 0, outer: null }])),
    pooled:
      method.pooled === true
        ? fresh(
            genesis,
            opened.map(({ windows }) => windows)
          )
        : null,
    tokens: 0,
    levels: [],
    result: { curve: [], weighed: [], attention: [], diverged: null, seconds: 0 }
  }
}

function fresh<Windows>(genesis: Float32Array, windows: Windows): Omit<Learner, 'windows'> & { windows: Windows } {
  const { length } = genesis
  return { parameters: shared(genesis), first: sharedModel(length), second: sharedModel(length), step: 0, windows }
}

/** Whole or not at all: a process that is killed while it writes leaves the state before. */
export function saveState(path: string, state: CellState): void {
  writeFileSync(`${path}.tmp`, serialize(state))
  renameSync(`${path}.tmp`, path)
}

/** @returns null where there is none, or where it cannot be read: then the cell begins anew. */
export function loadState(path: string): CellState | null {
  try {
    return toShared(deserialize(readFileSync(path))) as CellState
  } catch {
    rmSync(path, { force: true })
    return null
  }
}

/** Models come back as plain arrays; workers need them on shared memory. */
function toShared(value: unknown): unknown {
  if (value instanceof Float32Array) return shared(value)
  if (value instanceof Map) return new Map([...value].map(([key, one]) => [key, toShared(one)]))
  if (Array.isArray(value)) return value.map(toShared)
  if (typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !(value instanceof Set))
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, toShared(one)]))
  return value
}
