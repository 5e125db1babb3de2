/** Residuals in an experiment: who is brought whose key layers, and that each is used once. */
import assert from 'node:assert/strict'
import { completeCharter } from '../../src/governance/charter-schema.ts'
import { toBf16 } from '../../src/model/checkpoint.ts'
import { sketchBuckets } from '../../src/math/vector.ts'
import { beginResiduals, bringResiduals, residualsFor, type Source, weighResidualsOf } from '../../src/experiment/residuals.ts'
import { perplexities, runSmall, smallOptions, smallTree } from './small.ts'

const { algorithm } = completeCharter({ name: 'world' }, { founders: [], parent: null })

/** A fingerprint that points where its letter says. */
function source(federation: string, direction: number): Source {
  const sketch = new Float32Array(sketchBuckets)
  sketch[0] = Math.cos(direction)
  sketch[1] = Math.sin(direction)
  return {
    federation,
    update: Float32Array.of(direction, 0, 0, 0),
    sketches: new Uint8Array(toBf16(sketch).buffer),
    textBytes: 1024
  }
}
const sources = () =>
  new Map([
    ['a/1', source('world/a', 0)],
    ['a/2', source('world/a', 0.1)],
    ['b/3', source('world/b', 0.2)],
    ['b/4', source('world/b', 1.5)]
  ])

describe('residuals of an experiment', () => {
  it('come from the likest organization of another federation, for the next round, and once', () => {
    const residuals = beginResiduals()
    assert.deepEqual(residualsFor(residuals, 'a/1', 1), [])
    assert.equal(bringResiduals(residuals, algorithm, 1, sources()), 4)
    const names = (target: string, round: number) => residualsFor(residuals, target, round).map(({ name }) => name)
    assert.deepEqual([names('a/1', 2), names('b/3', 2), names('b/4', 2)], [['b/3'], ['a/2'], ['a/2']])
    assert.deepEqual(names('a/1', 2), [], 'they are used up')
    assert.deepEqual(names('a/1', 3), [], 'and nothing new was brought')
  })

  it('that twice got too little weight give their place to the next in line', () => {
    const residuals = beginResiduals()
    const seen: string[] = []
    for (let round = 1; round <= 4; round++) {
      bringResiduals(residuals, algorithm, round, sources())
      const used = residualsFor(residuals, 'a/1', round + 1)
      seen.push(...used.map(({ name }) => name))
      const shares = used.map(({ name }) => ({ name, weight: name === 'b/3' ? 0.001 : 0.5 }))
      weighResidualsOf(residuals, algorithm, 'a/1', round + 1, shares, used)
    }
    assert.deepEqual(seen, ['b/3', 'b/3', 'b/4', 'b/4'])
  })

  it('change what worldlm learns, and what it sends', async function () {
    this.timeout(120_000)
    // Kin sit apart: a/1 and b/3, a/2 and b/4.
    const tree = smallTree({ 'a/1': 'b', 'a/2': 'k', 'b/3': 'b', 'b/4': 'k' })
    const [wide, narrow] = await runSmall(smallOptions(tree, { methods: ['worldlm', 'worldlm-no-residuals'] }))
    const names = wide!.weighed.filter(({ round }) => round === 2).map(({ candidates }) => candidates.at(-1)!.name)
    assert.deepEqual(names, ['b/3', 'b/4', 'a/1', 'a/2'])
    assert.notDeepEqual(perplexities(wide!, 'personal'), perplexities(narrow!, 'personal'))
    assert.ok(wide!.curve.at(-1)!.bytesUp > narrow!.curve.at(-1)!.bytesUp)
  })
})
