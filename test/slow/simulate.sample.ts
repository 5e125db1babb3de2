/** Thousands of short seeds over all plans of faults, in about two minutes: CI's sample of what `simulate.slow.ts` does for hours. */
import { sample } from './simulate-seeds.ts'

sample('simulated trees, a sample', { beginSeed: 20_000, seedsMax: 2_000, seconds: 120 })
