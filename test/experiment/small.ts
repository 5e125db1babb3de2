/** Experiments with models of two thousand parameters, in seconds. */
import type { CellPlan } from '../../src/experiment/plan.ts'
import { planCells, type PlanOptions } from '../../src/experiment/plan.ts'
import type { Method } from '../../src/experiment/methods.ts'
import { Pool } from '../../src/experiment/pool.ts'
import type { CellResult } from '../../src/experiment/result.ts'
import { runCell } from '../../src/experiment/cell.ts'
import { readTree } from '../../src/data/text-tree.ts'
import { Random } from '../../src/math/random.ts'
import { writeTree } from '../temporary.ts'

export const smallModel = { layers: 1, width: 8, hidden: 12, heads: 2, context: 8, vocabulary: 256 }

/** Words of a language of its own for each letter, so that organizations differ. */
export function words(letter: string, length: number): string {
  const random = new Random(`words/${letter}`)
  let text = ''
  while (text.length < length) text += `${letter}${'aeiou'[random.below(5)]}${letter.repeat(1 + random.below(2))} `
  return text.slice(0, length)
}

/** @param organizations - path → letter. */
export const smallTree = (organizations: Record<string, string>): string =>
  writeTree(
    Object.fromEntries(Object.entries(organizations).map(([path, letter]) => [`${path}/train.txt`, words(letter, 9_000)]))
  )

export const four = { 'a/1': 'b', 'a/2': 'd', 'b/3': 'k', 'b/4': 't' }

export function smallOptions(root: string, options: Partial<PlanOptions> = {}): PlanOptions {
  return {
    texts: readTree(root),
    methods: ['local'],
    combinations: [{}],
    seeds: [0],
    model: smallModel,
    algorithm: { rounds: 3, steps: 4, batch: 2, warmupSteps: 0, learningRate: 0.01 },
    settings: {},
    evaluateEvery: 1,
    validationTokens: 128,
    engine: 'onnx',
    ...options
  }
}

/** By itself: no other cell's shared part is used. */
const bare = { save: () => undefined, onRound: () => undefined, keep: null, from: null }

/** Plans one cell for each method, with the row changed as the test wants it, and runs them on one pool. */
export async function runSmall(
  options: PlanOptions,
  { workers = 1, change = () => ({}) }: { workers?: number; change?: (plan: CellPlan) => Partial<Method> } = {}
): Promise<CellResult[]> {
  const pool = new Pool(workers, () => undefined)
  try {
    const results: CellResult[] = []
    for (const plan of await planCells(options)) {
      const changed = { ...plan, method: { ...plan.method, ...change(plan) } }
      results.push(await runCell(changed, pool, { ...bare, resume: null }))
    }
    return results
  } finally {
    await pool.close()
  }
}

/** Every perplexity of a kind, round by round, organization by organization. */
export const perplexities = ({ curve }: CellResult, kind: 'personal' | 'aggregated' | 'federation'): number[] =>
  curve.flatMap(({ organizations }) => Object.values(organizations).map(figures => figures[kind]?.perplexity ?? Number.NaN))
