/**
 * One testnet, from text to report: prepares, spawns, watches, stops, measures what training alone gives, checks, writes.
 */
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { keptBackBytes } from '../src/data/batches.ts'
import { writeBuiltin } from '../src/data/builtin.ts'
import { loadText, readTree } from '../src/data/text-tree.ts'
import { WorldlmError } from '../src/errors.ts'
import { completeCharter } from '../src/governance/charter-schema.ts'
import type { Genesis } from '../src/node/genesis.ts'
import { type Alone, trainAlone } from '../src/train/alone.ts'
import { Observation } from './observation.ts'
import { type Plan, planTestnet } from './plan.ts'
import { prepareNodes, spawnNodes, stopNodes, type TestnetNode } from './spawn.ts'
import { readStatus, watchNode } from './watch.ts'

export interface TestnetOptions {
  /** Tree of text; null: the built-in one. */
  data: string | null
  rounds: number
  steps: number
  /** `model` and `algorithm` of every charter. */
  charter: Record<string, unknown>
  out: string
  seed: number
  alone: boolean
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
  /** Seconds from the start to the end of the nodes, and to the end of all. */
  federationSeconds: number
  seconds: number
}

/** Dead members are noticed by their silence; the deadlines are for what is slow. */
export const testnetTimings = {
  electionTimeoutMs: 1500,
  heartbeatMs: 300,
  presenceMs: 1000,
  deadlineMs: 120_000,
  parentTimeoutMs: 120_000,
  startTimeoutMs: 60_000
}

/** Nothing moved for so long: no step, no round. */
const stallMs = 180_000
const tickMs = 250
/** Bytes are told by the status alone, which is asked for every two seconds. */
const statusTicks = 8

export async function runTestnet(options: TestnetOptions, events: TestnetEvents, signal: AbortSignal): Promise<TestnetResult> {
  const began = performance.now()
  const out = prepareOut(options.out)
  const charter = {
    ...options.charter,
    timings: testnetTimings,
    algorithm: { ...(options.charter.algorithm as object | undefined), rounds: options.rounds, steps: options.steps }
  }
  const plan = planTestnet(readOrganizations(options, out, charter))
  const threads = plan.nodes.length >= availableParallelism() ? 1 : 0
  const { nodes: prepared, federations } = await prepareNodes({ plan, out, seed: options.seed, charter, threads })
  const observation = new Observation()
  const watching: Promise<void>[] = []
  const stopWatching = new AbortController()
  let stopping = false
  const onEnd = (node: TestnetNode) => {
    if (!stopping && !signal.aborted && observation.nodes.has(node.plan.path)) events.line(observation.lose(node))
  }
  let nodes: TestnetNode[] = []
  let stalled: string | null = null
  try {
    events.line(`starting ${plan.nodes.length} organizations in ${plan.federations.length} federations (${out})`)
    nodes = await spawnNodes(prepared, onEnd, signal)
    for (const node of nodes) {
      observation.addNode(node)
      watching.push(
        watchNode(
          node,
          (from, event) => {
            const line = observation.take(from, event)
            if (line !== null) events.line(line)
          },
          stopWatching.signal
        )
      )
    }
    stalled = await untilDone(observation, events, signal)
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    stopping = true
    await stopNodes(nodes)
    stopWatching.abort()
    await Promise.allSettled(watching)
  }
  const federationSeconds = (performance.now() - began) / 1000
  const alone =
    options.alone && !signal.aborted && stalled === null
      ? await compareAlone(plan, [...federations.values()][0]!, options, events, signal)
      : []
  return {
    plan,
    observation,
    nodes,
    federations,
    alone,
    interrupted: signal.aborted,
    stalled,
    federationSeconds,
    seconds: (performance.now() - began) / 1000
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
function readOrganizations(options: TestnetOptions, out: string, charter: Record<string, unknown>) {
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
  for (const organization of organizations) loadText(organization, { context: checked.model.context, keptBackBytes })
  return organizations
}

/** @returns why it ended early, or null. */
async function untilDone(observation: Observation, events: TestnetEvents, signal: AbortSignal): Promise<string | null> {
  for (let ticks = 0; !signal.aborted; ticks++) {
    const living = [...observation.nodes.values()].filter(({ node }) => node.ended === null)
    if (living.length === 0) return 'every node is gone'
    if (living.every(({ finished }) => finished)) return null
    if (performance.now() - observation.lastProgressAt > stallMs)
      return `nothing has moved for ${stallMs / 1000} s: see node.log of the organizations that are not finished (${living
        .filter(one => !one.finished)
        .map(one => one.node.plan.path)
        .join(', ')})`
    events.tick(observation)
    if (ticks % statusTicks === 0)
      for (const seen of living) void readStatus(seen.node).then(status => (seen.bytes = status?.bytes ?? seen.bytes))
    await sleep(tickMs, undefined, { signal }).catch(() => undefined)
  }
  return null
}

async function compareAlone(
  plan: Plan,
  { charter }: Genesis,
  options: TestnetOptions,
  events: TestnetEvents,
  signal: AbortSignal
): Promise<Alone[]> {
  events.line('training each organization alone, for comparison: the same text, steps and seed')
  try {
    return await trainAlone({
      tokenizer: null,
      charter,
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
