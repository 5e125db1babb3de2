/**
 * Sketches of updates: 512 numbers a group, linear, so that the sketch of a mean is the mean of the sketches, and the cosine of two
 * sketches estimates that of the updates to ±0.05 (docs/algorithm.md, "Residual embeddings").
 */
import { fromBf16, toBf16 } from '../model/checkpoint.ts'
import { type Vectors, sketchBuckets } from '../math/vector.ts'
import type { Range } from '../model/layout.ts'
import type { WeightScore } from './scores.ts'

/** Of one group: 512 bf16 numbers. */
export const sketchGroupBytes = sketchBuckets * 2

/** Sketch of `after − before`, group after group. @returns groups × 1,024 bytes, little-endian bf16. */
export function sketchUpdate(
  vectors: Vectors,
  ranges: Range[],
  after: Float32Array,
  before: Float32Array,
  seed: number,
  scratch: Float64Array
): Uint8Array {
  const out = new Uint16Array(ranges.length * sketchBuckets)
  for (const [place, { offset, floats }] of ranges.entries()) {
    scratch.fill(0)
    vectors.sketch(
      scratch,
      after.subarray(offset, offset + floats),
      before.subarray(offset, offset + floats),
      (seed * 8191 + place * 131) >>> 0
    )
    oneGroup.set(scratch)
    toBf16(oneGroup, groupOf(out, place))
  }
  return new Uint8Array(out.buffer)
}
/** Nobody keeps it: each group is written over the one before. */
const oneGroup = new Float32Array(sketchBuckets)

/** @returns [groups × 512] */
export function readSketch(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice()
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, bytes.length >> 1)
  const floats = new Float32Array(halves.length)
  fromBf16(halves, floats)
  return floats
}

/** Whether every number of an announced sketch is finite: bf16 has its exponent in bits 7 to 14, all ones for those that are not. */
export function areFinite(bytes: Uint8Array): boolean {
  // Two numbers at a time, whichever of them comes first on this machine; a group has an even number of them.
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  const pairs = new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length >> 2)
  for (let place = 0; place < pairs.length; place++) {
    const pair = pairs[place]!
    if ((pair & 0x7f80) === 0x7f80 || (pair & 0x7f800000) === 0x7f800000) return false
  }
  const last = bytes.length - (bytes.length % 4)
  for (let high = last + 1; high < bytes.length; high += 2)
    if ((bytes[high]! & 0x7f) === 0x7f && (bytes[high - 1]! & 0x80) !== 0) return false
  return true
}

/** Groups of a fingerprint at most: 16 KiB, so that it travels with its charters in one message of gossip. */
export const fingerprintGroupsMax = 16

/**
 * A fingerprint from sketches: past 16 groups, group g is added to group g mod 16. Each group has signs and buckets of its own, so the sum
 * is a count sketch of the groups together, and a cosine still estimates that of the updates.
 */
export function foldSketch(sketches: Uint8Array): Uint8Array {
  const folded = fingerprintGroupsMax * sketchBuckets
  if (sketches.length <= folded * 2) return sketches
  const sums = new Float32Array(folded)
  for (const [place, float] of readSketch(sketches).entries()) sums[place % folded]! += float
  return new Uint8Array(toBf16(sums).buffer)
}

/** A charter's choice of attention on the way up; τ > 0. */
export interface UpOptions {
  up: 'update' | 'mean' | 'uniform' | WeightScore
  upTemperature: number
}

/** An input of an aggregation, as its announced update tells. */
export interface SketchedInput {
  sketches: Uint8Array
  /** w, tokens. */
  weight: number
}

/**
 * Logits of the members on the way up, from what they announced alone: whoever holds the certified log can compute them again.
 *
 * `update`: q is the mean of the members' updates, each first brought to length 1 (or one loud member is the mean); a member's score is
 * cos(q, u) in each group, 0 where a side is 0. `mean`, `uniform`: all scores 0. Logit: score/τ + ln w, so that equal scores give the
 * weighted mean. The federation's previous K is no candidate: a cosine of 1 with itself would hold it where it is.
 * @returns [inputs][groups]
 */
export function sketchLogits(inputs: SketchedInput[], groups: number, { up, upTemperature }: UpOptions): number[][] {
  const scores = up === 'update' ? updateScores(inputs, groups) : inputs.map(() => new Array<number>(groups).fill(0))
  return inputs.map(({ weight }, place) => scores[place]!.map(score => score / upTemperature + Math.log(weight)))
}

/** Whether attention on the way up comes from sketches alone, and can so be computed again by anyone. */
export const isSketched = ({ up }: UpOptions): boolean => up === 'update' || up === 'mean' || up === 'uniform'

function updateScores(inputs: SketchedInput[], groups: number): number[][] {
  const sketches = inputs.map(({ sketches: bytes }) => {
    const sketch = readSketch(bytes)
    const lengths = Array.from({ length: groups }, (_, group) => norm(groupOf(sketch, group)))
    return { sketch, lengths, length: groups === 1 ? lengths[0]! : norm(sketch) }
  })
  const query = new Float64Array(groups * sketchBuckets)
  for (const { sketch, length } of sketches)
    if (length > 0) for (let place = 0; place < query.length; place++) query[place]! += sketch[place]! / length
  const wanted = Array.from({ length: groups }, (_, group) => {
    const part = groupOf(query, group)
    return { part, length: norm(part) }
  })
  return sketches.map(({ sketch, lengths: own }) =>
    wanted.map(({ part, length }, group) => {
      const lengths = length * own[group]!
      return lengths > 0 ? dot(part, groupOf(sketch, group)) / lengths : 0
    })
  )
}

const groupOf = <Numbers extends Floats | Halves>(numbers: Numbers, group: number): Numbers =>
  numbers.subarray(group * sketchBuckets, (group + 1) * sketchBuckets) as Numbers

type Floats = Float32Array | Float64Array
type Halves = Uint16Array<ArrayBuffer>

const norm = (vector: Floats): number => Math.sqrt(dot(vector, vector))

function dot(left: Floats, right: Floats): number {
  let sum = 0
  for (let place = 0; place < left.length; place++) sum += left[place]! * right[place]!
  return sum
}

/** −1 to 1, a rounding error aside; 0 where a side is 0. */
export function cosine(left: Floats, right: Floats): number {
  const lengths = norm(left) * norm(right)
  return lengths > 0 ? dot(left, right) / lengths : 0
}
