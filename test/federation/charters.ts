/** A charter for tests: everything at its default but what a test is about. */
import type { Charter } from '../../src/governance/charter.ts'

type Overrides = Partial<Omit<Charter, 'algorithm' | 'timings' | 'model'>> & {
  algorithm?: Partial<Charter['algorithm']>
  timings?: Partial<Charter['timings']>
  model?: Partial<Charter['model']>
}

export function testCharter({ algorithm, timings, model, ...rest }: Overrides = {}): Charter {
  return {
    schema: 'worldlm.charter/1',
    name: 'prose',
    path: 'world/prose',
    parent: null,
    founders: ['a'],
    version: 1,
    model: {
      layers: 2,
      width: 8,
      hidden: 12,
      heads: 2,
      context: 8,
      vocabulary: 256,
      ropeBase: 10_000,
      normEpsilon: 1e-5,
      ...model
    },
    algorithm: {
      keyFraction: 1,
      embeddingIsKey: true,
      rounds: 0,
      steps: 2,
      batch: 2,
      learningRate: 1e-3,
      warmupSteps: 0,
      decaySteps: 0,
      weightDecay: 0.1,
      gradientClip: 1,
      keepOptimizer: true,
      outer: 'average',
      outerLearningRate: 0.7,
      outerMomentum: 0.9,
      up: 'update',
      upTemperature: 0.4,
      clip: 'centered',
      down: 'likelihood',
      downTemperature: 0.25,
      downTolerance: 0.03,
      downSchedule: 'constant',
      textPrior: 0.5,
      levels: 'synchronous',
      stale: 'discount',
      encoding: 'f32',
      residuals: { perNode: 1, minSimilarity: 0, dropAfter: 2 },
      ...algorithm
    },
    voters: 5,
    delegates: 3,
    minMembers: 1,
    startMembers: 1,
    timings: {
      electionTimeoutMs: 1500,
      heartbeatMs: 300,
      presenceMs: 1000,
      deadlineMs: 60_000,
      parentTimeoutMs: 60_000,
      startTimeoutMs: 60_000,
      ...timings
    },
    admission: { mode: 'open' },
    egress: [],
    retention: { keepRounds: 20 },
    seed: 0,
    ...rest
  }
}
