/** What `worldlm data inspect` says, against texts whose answers are known. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { inspectTexts, overlapWarnings } from '../../src/data/inspect.ts'
import { overlap, overlapBytes, WindowSet } from '../../src/data/overlap.ts'
import { Random } from '../../src/math/random.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
function noise(length: number, seed: number): Uint8Array {
  const random = new Random(`noise/${seed}`)
  return Uint8Array.from({ length }, () => 97 + random.below(26))
}
const join = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts))

describe('overlap', () => {
  it('finds every window that is there, wherever it lies', () =>
    fc.assert(
      fc.property(fc.nat(5_000), fc.nat(1_000), fc.nat(9), (before, after, seed) => {
        const copied = noise(overlapBytes * 7, seed)
        const set = new WindowSet([noise(10, 1), join(noise(before, seed + 10), copied, noise(after, seed + 20))])
        assert.equal(overlap(copied, set), 1)
      }),
      { numRuns: 50, seed: 4 }
    ))

  it('finds next to nothing in unlike text', () => {
    const set = new WindowSet([noise(500_000, 1)])
    assert.ok(overlap(noise(200_000, 2), set) < 0.002)
  })

  it('is the share that was copied', () => {
    const train = noise(100_000, 1)
    const valid = join(train.subarray(777, 777 + overlapBytes * 25), noise(overlapBytes * 75, 2))
    assert.ok(Math.abs(overlap(valid, new WindowSet([train])) - 0.25) < 0.01)
  })
})

describe('an inspected text', () => {
  const latin = bytes(`${'hello world\n'.repeat(40)}${'x'.repeat(90)}`)
  const mixed = bytes('привет мир hello\n'.repeat(30))
  const texts = new Map([
    ['a', { train: latin, valid: noise(640, 1) }],
    ['b', { train: mixed, valid: latin.subarray(0, 480) }]
  ])
  const [a, b] = inspectTexts(texts)

  it('has its lines counted, and the longest measured', () => {
    assert.equal(a!.lines, 41)
    assert.equal(a!.longestLine, 90)
    assert.equal(b!.longestLine, bytes('привет мир hello').length)
  })

  it('has its scripts by share of the letters', () => {
    assert.deepEqual(a!.scripts, [{ script: 'Latin', share: 1 }])
    const shares = new Map(b!.scripts.map(({ script, share }) => [script, share]))
    assert.ok(Math.abs(shares.get('Cyrillic')! - 9 / 14) < 1e-9)
    assert.ok(Math.abs(shares.get('Latin')! - 5 / 14) < 1e-9)
  })

  it('is warned of where validation text stands in training text, one’s own or another’s', () => {
    assert.equal(a!.overlap, 0)
    assert.equal(b!.overlap, 0)
    assert.equal(b!.overlapWithOthers, 1)
    assert.deepEqual(
      overlapWarnings([a!, b!]).map(warning => warning.slice(0, 8)),
      ['b: 100 %']
    )
  })
})
