/**
 * One testnet, from text to report: prepares, spawns, watches, stops, measures what training alone gives, checks, writes.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { textNeeds } from '../src/data/batches.ts'
import { writeBuiltin } from '../src/data/builtin.ts'
import { loadText, readTree } from '../src/data/text-tree.ts'
import { WorldlmError } from '../src/errors.ts'
import { completeCharter } from '../src/governance/charter-schema.ts'
import type { Genesis } from '../src/node/genesis.ts'
import { type Alone, trainAlone } from '../src/train/alone.ts'
import { Fleet } from './fleet.ts'
import { lastWords } from './last-words.ts'
import { Observation } from './observation.ts'
import { type Plan, planTestnet } from './plan.ts'
import type { Start } from '../src/node/starting-model.ts'
import { type Prepared, prepareNodes } from './prepare.ts'
import { Director } from './scenarios/director.ts'
import type { Scenario } from './scenarios/schema.ts'
import { type Stage, setStage } from './stage.ts'
import { isRunning, type TestnetNode } from './spawn.ts'
import { readStatus } from './watch.ts'

export interface TestnetOptions {
  /** Tree of text; null: the built-in one. */
  data: string | null
  rounds: number
  steps: number
  /** `model` and `algorithm` of every charter. */
  charter: Record<string, unknown>
  /** Parameters and tokenizer that all begin with; null: drawn from the seed, bytes. */
  start: Start | null
  out: string
  seed: number
  alone: boolean
  scenario: Scenario | null
}

export interface TestnetEvents {
  /** A line for who reads along. */
  line(text: string): void
  /** Called several times a second while the nodes run. */
  tick(observation: Observation): void
  aloneProgress(done: number, of: number): void
}

export interface TestnetResult {
  plan: Plan
  observation: Observation
  nodes: TestnetNode[]
  federations: Map<string, Genesis>
  alone: Alone[]
  interrupted: boolean
  /** Why the run ended early; null when all rounds were done. */
  stalled: string | null
  /** What should have come right after the scenario's faults, and did not. */
  failures: string[]
  /** Its steps that never came to be done. */
  notPlayed: string[]
  /** Seconds from the start to the end of the nodes, and to the end of all. */
  federationSeconds: number
  seconds: number
}

/** Dead members are noticed by their silence; the deadlines are for what is slow. */
export const testnetTimings = {
  electionTimeoutMs: 1500,
  presenceMs: 1000,
  deadlineMs: 120_000,
  parentTimeoutMs: 120_000,
  startTimeoutMs: 60_000
}

/** Nothing moved for so long: no step, no round. */
const stallMs = 180_000
const tickMs = 100
/** Bytes are told by the status alone, which is asked for every two seconds; voters too, on which scenarios wait: every half. */
const statusTicks = { usually: 20, inScenario: 5 }

export async function runTestnet(options: TestnetOptions, events: TestnetEvents, signal: AbortSignal): Promise<TestnetResult> {
  const began = performance.now()
  const out = prepareOut(options.out)
  const { scenario } = options
  const charter = {
    ...options.charter,
    timings: { ...testnetTimings, ...scenario?.testnet.timings },
    algorithm: { ...(options.charter.algorithm as object | undefined), rounds: options.rounds, steps: options.steps }
  }
  const { plan, set } = await prepareStage(options, out, charter)
  const observation = new Observation(options.rounds)
  try {
    const threads = plan.nodes.length >= availableParallelism() ? 1 : 0
    const given = {
      plan,
      out,
      seed: options.seed,
      charter,
      start: options.start,
      threads,
      network: set.network,
      late: set.late
    }
    const { nodes: prepared, federations } = await prepareNodes(given)
    events.line(`starting ${plan.nodes.length} organizations in ${plan.federations.length} federations (${out})`)
    const { nodes, stalled, notPlayed } = await play(prepared, observation, set, options, events, signal)
    const federationSeconds = (performance.now() - began) / 1000
    const alone =
      options.alone && !signal.aborted && stalled === null
        ? await compareAlone(plan, [...federations.values()][0]!, nodes, options, events, signal)
        : []
    return {
      plan,
      observation,
      nodes,
      federations,
      alone,
      interrupted: signal.aborted,
      stalled,
      failures: scenario === null || signal.aborted ? [] : failuresOf(observation, plan, scenario, options.rounds),
      notPlayed,
      federationSeconds,
      seconds: (performance.now() - began) / 1000
    }
  } finally {
    await set.network?.close()
    set.disks?.close()
  }
}

/** Starts the nodes, plays the scenario, and stops them. `stalled`: why it ended early, or null. */
async function play(
  prepared: Prepared[],
  observation: Observation,
  { network, disks, late }: Stage,
  { scenario, seed, rounds }: TestnetOptions,
  { line, tick }: TestnetEvents,
  signal: AbortSignal
): Promise<{ nodes: TestnetNode[]; stalled: string | null; notPlayed: string[] }> {
  let director: Director | null = null
  const fleet = new Fleet(
    prepared,
    {
      onEvent: (node, event) => {
        // Offices that are handed over because all stop are no news.
        if (fleet.stopping && event.type === 'aggregator') return
        const said = observation.take(node, event)
        if (said !== null && !fleet.stopping) line(said)
        director?.tick()
      },
      onEnd: node => {
        if (node.endPlanned) observation.gone(node)
        else {
          line(observation.lose(node))
          const why = node.ended?.code ? lastWords(node.folder.log) : ''
          if (why !== '') line(`  ${why}`)
        }
      }
    },
    signal
  )
  const { nodes } = fleet
  for (const node of nodes) observation.addNode(node)
  try {
    await fleet.begin(late)
    if (scenario !== null)
      director = new Director(scenario, seed, {
        nodes,
        observation,
        network,
        disks,
        rounds,
        line,
        start: node => fleet.start(node)
      })
    const stalled = await untilDone(observation, director, tick, signal)
    return { nodes, stalled, notPlayed: director?.notPlayed ?? [] }
  } catch (error) {
    if (!signal.aborted) throw error
    return { nodes, stalled: null, notPlayed: [] }
  } finally {
    await fleet.stop()
  }
}

/** Federations of organizations make all their rounds; whatever was touched by a fault certifies a round after it. */
function failuresOf(observation: Observation, plan: Plan, { mayEndEarly }: Scenario, rounds: number): string[] {
  const short = plan.federations
    .filter(({ path }) => plan.nodes.some(({ federation }) => federation === path) && !mayEndEarly.includes(path))
    .map(({ path }) => ({ path, round: observation.federations.get(path)?.round ?? 0 }))
    .filter(({ round }) => round < rounds)
    .map(({ path, round }) => `${path} certified ${round} of ${rounds} rounds`)
  const stuck = observation
    .unrecovered()
    .flatMap(({ fault, federations }) =>
      federations
        .filter(path => !mayEndEarly.includes(path))
        .map(path => `${path} certified no round after ${fault.kind} of ${fault.path} at ${fault.atSeconds.toFixed(1)} s`)
    )
  const gone = observation.faults
    .filter(({ planned }) => !planned)
    .map(({ path, atSeconds }) => `${path} ended by itself at ${atSeconds.toFixed(1)} s: see its node.log`)
  return [...short, ...stuck, ...gone]
}

/** What is refused leaves an empty folder: told again with the mistake mended, the command must not find its own leavings there. */
async function prepareStage(options: TestnetOptions, out: string, charter: Record<string, unknown>) {
  try {
    const plan = planTestnet(await readOrganizations(options, out, charter))
    return { plan, set: await setStage(plan, out, options.scenario, options.seed) }
  } catch (error) {
    for (const name of readdirSync(out)) rmSync(join(out, name), { recursive: true, force: true })
    throw error
  }
}

function prepareOut(path: string): string {
  const out = resolve(path)
  if (existsSync(out) && readdirSync(out).length > 0) {
    throw new WorldlmError(
      'OUT_NOT_EMPTY',
      `${out} is not empty`,
      'Choose another folder with --out: results are never overwritten.'
    )
  }
  mkdirSync(out, { recursive: true })
  return out
}

/** Everything that can be refused is refused here, before a process starts. */
async function readOrganizations(options: TestnetOptions, out: string, charter: Record<string, unknown>) {
  const checked = completeCharter({ ...charter, name: 'world' }, { founders: [], parent: null })
  if (options.data === null) writeBuiltin(join(out, 'text'))
  const organizations = readTree(options.data ?? join(out, 'text'))
  if (organizations.length < 2 || organizations.length > 64) {
    throw new WorldlmError(
      'DATA_COUNT',
      `${options.data} holds ${organizations.length} organizations`,
      'A testnet has 2 to 64; 12 are comfortable on one machine.'
    )
  }
  for (const organization of organizations) await loadText(organization, textNeeds(checked.model.context))
  return organizations
}

/** @returns why it ended early, or null. */
async function untilDone(
  observation: Observation,
  director: Director | null,
  tick: TestnetEvents['tick'],
  signal: AbortSignal
): Promise<string | null> {
  for (let ticks = 0; !signal.aborted; ticks++) {
    director?.tick()
    const living = [...observation.nodes.values()].filter(({ node }) => isRunning(node))
    const owes = director?.owes ?? false
    if (living.length === 0 && !owes) return 'every node is gone'
    if (living.every(({ finished }) => finished) && !owes) return null
    // What is yet to be healed or started may be what all wait for.
    if (owes) observation.lastProgressAt = performance.now()
    if (performance.now() - observation.lastProgressAt > stallMs)
      return `nothing has moved for ${stallMs / 1000} s: see node.log of the organizations that are not finished (${living
        .filter(one => !one.finished)
        .map(one => one.node.plan.path)
        .join(', ')})`
    tick(observation)
    if (ticks % (director === null ? statusTicks.usually : statusTicks.inScenario) === 0)
      for (const { node } of living) void readStatus(node).then(status => observation.takeStatus(node.plan.path, status))
    await sleep(tickMs, undefined, { signal }).catch(() => undefined)
  }
  return null
}

async function compareAlone(
  plan: Plan,
  { charter }: Genesis,
  nodes: TestnetNode[],
  options: TestnetOptions,
  events: TestnetEvents,
  signal: AbortSignal
): Promise<Alone[]> {
  // The founder's store holds what all began with.
  const { blobs } = nodes.find(({ peer }) => charter.founders.includes(peer))!.folder
  events.line('training each organization alone, for comparison: the same text, steps and seed')
  try {
    return await trainAlone({
      charter,
      initial: charter.initial === undefined ? null : join(blobs, charter.initial),
      tokenizer: charter.tokenizer === undefined ? null : join(blobs, charter.tokenizer),
      texts: plan.nodes.map(({ text }) => text),
      seed: options.seed,
      validationTokens: 6144,
      workers: availableParallelism(),
      onProgress: events.aloneProgress,
      signal
    })
  } catch (error) {
    if (signal.aborted) return []
    throw error
  }
}
