/** Windows of text: seeded, resumable, and never over what is kept back. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  Batches,
  keptBackBytes,
  keptBackPieces,
  keptBackStarts,
  textNeeds,
  validationStarts,
  windowsAt
} from '../../src/data/batches.ts'
import { trainLeast } from '../../src/data/text-tree.ts'

/** Tokens that tell their place. */
const places = (length: number) => Int32Array.from({ length }, (_, place) => place)

describe('batches', () => {
  const cases = fc.record({
    context: fc.oneof(fc.integer({ min: 1, max: 1200 }), fc.integer({ min: 1200, max: 9000 })),
    spare: fc.oneof(fc.nat({ max: 300 }), fc.nat({ max: 60_000 })),
    seed: fc.nat()
  })
  const lengthOf = (context: number, spare: number) => trainLeast(textNeeds(context)) + spare

  it('never touch the kept-back slice, as short as the text may be and as long as the window', () => {
    fc.assert(
      fc.property(cases, ({ context, spare, seed }) => {
        const length = lengthOf(context, spare)
        const keptBack = keptBackPieces(length, context, seed)
        const held = new Set(keptBackStarts(keptBack, context).flatMap(start => [start, start + context]))
        const reserved = keptBackStarts(keptBack, context).map(start => [start, start + context] as const)
        assert.ok(Math.max(...held) < length, 'a target of the slice lies in the text')
        const batches = new Batches(places(length), { context, windows: 5, seed, keptBack })
        const { inputs } = batches.next()
        for (let row = 0; row < 5; row++) {
          const [from, to] = [inputs[row * context]!, inputs[row * context]! + context]
          assert.ok(from >= 0 && to < length)
          for (const [start, end] of reserved) assert.ok(to < start || from > end, `${from}..${to} touches ${start}..${end}`)
        }
      }),
      { numRuns: 300, seed: 1 }
    )
  })

  it('keep 4 KiB back: the end of a short text, eight pieces spread over a long one', () => {
    assert.deepEqual(keptBackPieces(10_000, 128, 0), [10_000 - keptBackBytes - 1])
    assert.deepEqual(keptBackPieces(50_000, 128, 1), [50_000 - keptBackBytes - 1])
    const pieces = keptBackPieces(1_000_000, 128, 0)
    assert.equal(pieces.length, 8)
    for (const [place, start] of pieces.entries()) assert.equal(Math.floor(start / 125_000), place)
    assert.equal(keptBackStarts(pieces, 128).length * 128, keptBackBytes)
    assert.equal(keptBackStarts(keptBackPieces(10_000, 128, 0), 128).length * 128, keptBackBytes)
  })

  it('are equal for equal seeds, different for others, and go on from their state', () => {
    const options = { context: 16, windows: 4, keptBack: keptBackPieces(20_000, 16, 5) }
    const run = (batches: Batches, count: number) => Array.from({ length: count }, () => [...batches.next().inputs])
    const first = new Batches(places(20_000), { ...options, seed: 1 })
    const all = run(new Batches(places(20_000), { ...options, seed: 1 }), 6)
    assert.deepEqual(run(first, 3), all.slice(0, 3))
    const resumed = new Batches(places(20_000), { ...options, seed: 99, state: JSON.parse(JSON.stringify(first.state())) })
    assert.deepEqual(run(resumed, 3), all.slice(3))
    assert.notDeepEqual(run(new Batches(places(20_000), { ...options, seed: 2 }), 1), all.slice(0, 1))
  })

  it('have the next token as the target of each', () => {
    const { inputs, targets } = windowsAt(places(100), [0, 83], 16)
    assert.deepEqual([inputs[0], inputs[15], inputs[16], inputs[31]], [0, 15, 83, 98])
    for (const [place, token] of inputs.entries()) assert.equal(targets[place], token + 1)
  })

  it('reach every place of the text that is not kept back', () => {
    const [length, context] = [keptBackBytes + 100, 4]
    const keptBack = keptBackPieces(length, context, 7)
    const batches = new Batches(places(length), { context, windows: 5000, seed: 1, keptBack })
    const seen = new Set(batches.next().inputs)
    const outside = length - keptBackBytes - 1
    // The places beside the slice and the last one are only ever targets.
    assert.ok(seen.size >= outside - 2 * (context + 1) && seen.size <= outside, `${seen.size} of ${outside}`)
  })
})

describe('the validation set', () => {
  it('is fixed: as many windows as its tokens hold, spread evenly, all inside the text', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.nat({ max: 50_000 }),
        fc.integer({ min: 1, max: 20_000 }),
        (context, spare, tokens) => {
          const length = context + 1 + spare
          const starts = validationStarts(length, context, tokens)
          assert.ok(starts.length >= 1 && starts.length <= Math.max(1, Math.floor(tokens / context)))
          assert.equal(starts[0], 0)
          for (const [place, start] of starts.entries()) {
            assert.ok(start + context < length)
            if (place > 0) assert.ok(start >= starts[place - 1]!)
          }
          if (starts.length > 1) assert.equal(starts.at(-1), length - context - 1, 'the last window ends the text')
          assert.deepEqual(validationStarts(length, context, tokens), starts)
        }
      ),
      { seed: 1 }
    )
  })

  it('has no window twice where the text has room', () => {
    const starts = validationStarts(128 * 60, 128, 6144)
    assert.equal(new Set(starts).size, 48)
    for (const [place, start] of starts.slice(1).entries()) assert.ok(start - starts[place]! >= 128, 'none overlaps another')
  })
})
