/** Fingerprints: sketches folded to one message, and still good to estimate a cosine by. */
import assert from 'node:assert/strict'
import { cosine, fingerprintGroupsMax, foldSketch, readSketch, sketchGroupBytes } from '../../src/aggregate/sketch.ts'
import { type MemberOperations, memberDown } from '../../src/aggregate/down.ts'
import { Random } from '../../src/math/random.ts'
import { sketchBuckets, sketchPlain } from '../../src/math/vector.ts'
import { toBf16 } from '../../src/model/checkpoint.ts'

/** Sketches of `groups` groups of one vector, each with signs and buckets of its own. */
function sketchesOf(vector: Float32Array, groups: number): Uint8Array {
  const whole = new Float32Array(groups * sketchBuckets)
  const floats = vector.length / groups
  for (let group = 0; group < groups; group++)
    whole.set(sketchPlain(vector.subarray(group * floats, (group + 1) * floats), group * 131), group * sketchBuckets)
  return new Uint8Array(toBf16(whole).buffer)
}

describe('a fingerprint', () => {
  it('is the sketches themselves up to 16 groups', () => {
    const sketches = sketchesOf(
      Float32Array.from({ length: 1600 }, (_, place) => place % 7),
      16
    )
    assert.equal(foldSketch(sketches), sketches)
  })

  it('of more groups is as large as of 16, and estimates the cosine of the whole change without bias', () => {
    const [groups, each] = [40, 64]
    for (const want of [-0.5, 0, 0.8]) {
      const errors = Array.from({ length: 60 }, (_, seed) => {
        const random = new Random(`fold ${want} ${seed}`)
        const left = Float32Array.from({ length: groups * each }, () => random.normal())
        const right = left.map(value => want * value + Math.sqrt(1 - want ** 2) * random.normal())
        const folded = [left, right].map(vector => foldSketch(sketchesOf(vector, groups)))
        for (const one of folded) assert.equal(one.length, fingerprintGroupsMax * sketchGroupBytes)
        const [a, b] = folded.map(readSketch)
        return cosine(a!, b!) - cosine(left, right)
      })
      const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length
      const deviation = Math.sqrt(errors.reduce((sum, error) => sum + error ** 2, 0) / errors.length)
      assert.ok(Math.abs(mean) < 0.01 && deviation < 0.05, `cosine ${want}: off by ${mean} ± ${deviation}`)
    }
  })
})

describe('the way down with a residual', () => {
  it('by `chain` attends to its federation and residuals, and to no federation above', async () => {
    const scored: string[][] = []
    const operations: MemberOperations<string> = {
      combine: async () => 'combined',
      judge: async () => assert.fail('nothing is judged'),
      score: async (_query, candidates) => {
        scored.push(candidates)
        return candidates.map((_, place) => [place === 2 ? 0.5 : 0, 0])
      },
      mix: async (backbone, candidates) => {
        assert.equal(backbone, 'federation')
        const sums = [0, 1].map(group => candidates.reduce((sum, { logits }) => sum + Math.exp(logits[group]!), 0))
        return {
          model: 'mixed',
          weights: candidates.map(({ logits }) => sums.map((sum, group) => Math.exp(logits[group]!) / sum))
        }
      }
    }
    const candidate = (name: string, isResidual?: boolean) => ({
      name,
      model: name,
      textBytes: 1,
      ...(isResidual && { isResidual })
    })
    const options = { down: 'chain', downTemperature: 0.5, downTolerance: 10, downCooling: 1, textPrior: 0 } as const
    const above = [candidate('federation'), candidate('world'), candidate('kin', true)] as const
    const { shares, weighed } = await memberDown(operations, options, 2, { ...candidate('own'), start: 'own' }, [...above])
    assert.deepEqual(scored, [['own', 'federation', 'kin']])
    assert.deepEqual(weighed, [])
    // In the first group e : 1 : 1, in the second even; a share is the mean of both.
    const first = Math.E / (Math.E + 2)
    const [own, , kin] = shares.map(({ weight }) => weight)
    assert.ok(Math.abs(kin! - (first + 1 / 3) / 2) < 1e-12 && Math.abs(own! - ((1 - first) / 2 + 1 / 3) / 2) < 1e-12)
  })
})
