/** `worldlm simulate --learner engine`: which organization of a topology trains on which text, and topologies side by side. */
import { mkdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { writeBuiltin } from '../data/builtin.ts'
import { type OrganizationText, readTree } from '../data/text-tree.ts'
import { WorldlmError } from '../errors.ts'
import { EngineLearner } from '../experiment/engine-learner.ts'
import type { SimulationReport } from '../report/simulation.ts'
import { type Topology, topologyOfFile } from '../sim/topology.ts'
import { charterOf } from './model-choice.ts'
import { table } from './table.ts'

interface LearnerFlags {
  /** One an organization. */
  texts: OrganizationText[]
  model: string
  steps: number
  rounds: number
  keyFraction: number
  threads?: number
  seed: number
  engine: 'onnx' | 'reference'
  onSteps: (steps: number) => void
}

/** @throws {WorldlmError} DATA_*, CHARTER_INVALID, those of the model. */
export async function engineLearner(flags: LearnerFlags): Promise<EngineLearner> {
  const { texts, seed, steps, rounds, keyFraction, threads, engine, onSteps } = flags
  const { model, algorithm = {} } = charterOf(flags.model) as { model?: unknown; algorithm?: object }
  return EngineLearner.open({
    texts,
    model,
    algorithm: { ...algorithm, rounds, steps, keyFraction, embeddingIsKey: keyFraction === 1 },
    engine,
    workers: threads ?? availableParallelism(),
    seed,
    onSteps
  })
}

/** @throws {WorldlmError} DATA_* */
export function textsIn(data: string | undefined, out: string): OrganizationText[] {
  if (data !== undefined) return readTree(data)
  const folder = join(out, 'text')
  mkdirSync(folder, { recursive: true })
  writeBuiltin(folder)
  return readTree(folder)
}

/** Federation by federation, in the order of their paths: neighbours in the folder are neighbours in the topology. @throws {WorldlmError} TOO_FEW_TEXTS */
export function textsFor(topology: Topology, texts: OrganizationText[]): OrganizationText[] {
  const count = topology.organizations.length
  if (count > texts.length)
    throw new WorldlmError(
      'TOO_FEW_TEXTS',
      `${topology.name} has ${count} organizations, the data has ${texts.length}`,
      'Choose a smaller topology, or more data with --data.'
    )
  const federation = (place: number) => (topology.kind === 'tree' ? topology.organizations[place]!.federation : 0)
  const places = Array.from({ length: count }, (_, place) => place)
  const order = [...places].sort((left, right) => federation(left) - federation(right) || left - right)
  const dealt: OrganizationText[] = []
  for (const [place, organization] of order.entries()) dealt[organization] = texts[place]!
  return dealt
}

/** The tree that the texts' folders make. */
export function topologyOfTexts(data: string | undefined, out: string, seed: number): Topology {
  const organizations = new Map<string, number>()
  for (const { path } of textsIn(data, out)) {
    const federation = ['world', ...path.split('/').slice(0, -1)].join('/')
    organizations.set(federation, (organizations.get(federation) ?? 0) + 1)
  }
  const federations = Object.fromEntries([...organizations].map(([path, count]) => [path, { organizations: count }]))
  return topologyOfFile('data', { federations }, seed)
}

/** What each topology reached, and what it sent for it. Runs without text show their excess loss. */
export function comparison(runs: SimulationReport[]): { lines: string[]; csv: string } {
  const real = runs.every(({ organizations }) => organizations.length > 0)
  const shown = (loss: number) => (real ? Math.exp(loss) : loss)
  const best = Math.min(...runs.map(({ bytes }) => bytes.total))
  const rows = runs.map(({ topology, bytes, virtualSeconds, convergence: { curve } }) => {
    const [first, last] = [curve[0], curve.at(-1)]
    const [personal, aggregated] = [last?.personal ?? Number.NaN, last?.aggregated ?? Number.NaN]
    const gained = shown(first?.personal ?? Number.NaN) - shown(personal)
    return [
      topology,
      shown(personal).toFixed(4),
      shown(aggregated).toFixed(4),
      (bytes.total / 1e6).toFixed(1),
      (bytes.total / best).toFixed(2),
      ((gained * 1e9) / bytes.total).toFixed(4),
      virtualSeconds.toFixed(0)
    ]
  })
  const measure = real ? 'perplexity a byte' : 'excess loss'
  const head = ['topology', `personal ${measure}`, 'after aggregation', 'MB sent', 'of the least', 'gained a GB', 'virtual s']
  const curves = runs.flatMap(({ topology, convergence }) =>
    convergence.curve.map(one =>
      [topology, one.round, one.bytes, one.seconds, shown(one.personal), shown(one.aggregated)].join(',')
    )
  )
  return {
    lines: ['', table(head, rows), ''],
    csv: `${['topology,round,bytes,seconds,personal,aggregated', ...curves].join('\n')}\n`
  }
}
