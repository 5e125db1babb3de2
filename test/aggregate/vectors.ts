/** Random vectors in one memory, by seed. */
import type { Random } from '../../src/math/random.ts'
import type { Vectors } from '../../src/math/vector.ts'

export function randomVector(vectors: Vectors, floats: number, random: Random, scale = 1): Float32Array {
  const vector = vectors.allocate(floats)
  for (let place = 0; place < floats; place++) vector[place] = scale * random.normal()
  return vector
}

/** ‖x − y‖∞ over max(1, ‖y‖∞). */
export function farthest(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let [far, largest] = [0, 1]
  for (let place = 0; place < want.length; place++) {
    far = Math.max(far, Math.abs(got[place]! - want[place]!))
    largest = Math.max(largest, Math.abs(want[place]!))
  }
  return Number.isNaN(far) ? Number.POSITIVE_INFINITY : far / largest
}
