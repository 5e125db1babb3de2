/**
 * Privacy of an update before it leaves (docs/governance.md): the change is clipped to a length, and normal noise is put on each number
 * (the Gaussian mechanism of McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models").
 * Is not: the accountant that says what ε this gives.
 */
import type { Random } from '../math/random.ts'

/**
 * before + (after − before)·min(1, C/‖after − before‖) + σ·C·N(0, 1), into `after`.
 * @param clip - C > 0. @param noise - σ ≥ 0, a number's deviation in units of C.
 * @returns ‖after − before‖ as it was.
 */
export function clipAndNoise(
  after: Float32Array,
  before: Float32Array,
  { clip, noise }: { clip: number; noise: number },
  random: Random
): number {
  let squared = 0
  for (let place = 0; place < after.length; place++) squared += (after[place]! - before[place]!) ** 2
  const length = Math.sqrt(squared)
  const factor = length > clip ? clip / length : 1
  for (let place = 0; place < after.length; place++) {
    const change = (after[place]! - before[place]!) * factor
    after[place] = before[place]! + change + (noise > 0 ? noise * clip * random.normal() : 0)
  }
  return length
}
