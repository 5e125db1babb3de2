/** Hours of seeds, larger trees among them. WORLDLM_SIMULATE_SEED is the first seed, WORLDLM_SIMULATE_SECONDS the time. */
import { sample } from './simulate-seeds.ts'

const number = (name: string, otherwise: number): number => Number(process.env[name] ?? otherwise)

sample('simulated trees, for hours', {
  beginSeed: number('WORLDLM_SIMULATE_SEED', Math.floor(Date.now() / 1000) % 1_000_000_000),
  seedsMax: Number.POSITIVE_INFINITY,
  seconds: number('WORLDLM_SIMULATE_SECONDS', 3_000)
})
