/** What an update may tell of one's text: its length is bounded, and the noise on it is as strong as was promised for that bound. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { clipAndNoise } from '../../src/governance/clip-and-noise.ts'
import { Random } from '../../src/math/random.ts'

const lengthOf = (floats: Iterable<number>): number => Math.hypot(...floats)

describe('clipping and noise', () => {
  it('leave a change within the clip as it is, and bring a longer one to its length, in its direction', () => {
    const floats = fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 4, maxLength: 4 })
    fc.assert(
      fc.property(floats, floats, fc.integer({ min: 1, max: 3000 }), (before, change, clip) => {
        const after = Float32Array.from(before, (float, place) => float + change[place]!)
        const length = clipAndNoise(after, Float32Array.from(before), { clip, noise: 0 }, new Random(1))
        assert.ok(Math.abs(length - lengthOf(change)) < 1e-3)
        const factor = Math.min(1, clip / Math.max(length, 1e-9))
        for (const [place, float] of after.entries())
          assert.ok(Math.abs(float - (before[place]! + change[place]! * factor)) < 1e-2)
      })
    )
  })

  it('put normal noise on each number, σ times the clip, whatever the change', () => {
    const count = 20_000
    for (const { clip, noise } of [
      { clip: 0.5, noise: 2 },
      { clip: 4, noise: 0.25 },
      { clip: 3, noise: 1 }
    ]) {
      const [after, before] = [new Float32Array(count).fill(0.001), new Float32Array(count)]
      const length = clipAndNoise(after, before, { clip, noise }, new Random('noise'))
      const kept = 0.001 * Math.min(1, clip / length)
      const deviation = lengthOf(after.map(float => float - kept)) / Math.sqrt(count)
      assert.ok(Math.abs(deviation / (noise * clip) - 1) < 0.03, `${deviation} for ${noise} times ${clip}`)
    }
  })
})
