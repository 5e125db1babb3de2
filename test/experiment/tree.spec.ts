/** Who hands in where, and who wrongly sits where. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { federationOf, misplace, plantTree, ringNeighbours } from '../../src/experiment/tree.ts'

const places = (...paths: string[]) => new Map(paths.map(path => [path, path]))

describe('the tree of an experiment', () => {
  const all = places('a/x/1', 'a/x/2', 'a/y/3', 'b/4', '5')

  it('has a federation for every inner folder, parents first', () => {
    assert.deepEqual(
      plantTree(all, 'tree').map(({ path, parent, organizations, children }) => [path, parent, organizations, children]),
      [
        ['world', null, ['5'], ['world/a', 'world/b']],
        ['world/a', 'world', [], ['world/a/x', 'world/a/y']],
        ['world/b', 'world', ['b/4'], []],
        ['world/a/x', 'world/a', ['a/x/1', 'a/x/2'], []],
        ['world/a/y', 'world/a', ['a/y/3'], []]
      ]
    )
  })

  it('is one federation where it is flat, and has no parents where only leaves are asked for', () => {
    assert.deepEqual(
      plantTree(all, 'flat').map(({ path, organizations }) => [path, organizations.length]),
      [['world', 5]]
    )
    const leaves = plantTree(all, 'leaves')
    assert.deepEqual(
      leaves.map(({ path }) => path),
      ['world', 'world/b', 'world/a/x', 'world/a/y']
    )
    assert.ok(leaves.every(({ parent, children }) => parent === null && children.length === 0))
    assert.deepEqual(plantTree(all, 'none'), [])
  })

  const trees = fc
    .array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 6 })
    .map(sizes => sizes.flatMap((size, federation) => Array.from({ length: size }, (_, one) => `f${federation}/o${one}`)))

  it('leaves nobody at home who is misplaced, where no federation holds more than half of them', () =>
    fc.assert(
      fc.property(trees, fc.nat(), (organizations, seed) => {
        const sizes = Map.groupBy(organizations, federationOf)
        fc.pre([...sizes.values()].every(({ length }) => length * 2 <= organizations.length))
        const moved = misplace(organizations, 1, seed)
        assert.deepEqual([...moved.values()].sort(), [...organizations].sort(), 'every place is taken once')
        for (const [name, place] of moved) assert.notEqual(federationOf(name), federationOf(place))
      }),
      { numRuns: 200, seed: 1 }
    ))

  it('moves as many as it is told to at most, and nobody at 0', () => {
    const organizations = ['a/1', 'a/2', 'b/3', 'b/4', 'c/5', 'c/6']
    const movedBy = (share: number) => [...misplace(organizations, share, 7)].filter(([name, place]) => name !== place).length
    assert.equal(movedBy(0), 0)
    assert.ok(movedBy(0.5) > 0 && movedBy(0.5) <= 3)
  })
})

describe('a ring', () => {
  it('has two neighbours for each, in the order of names', () => {
    assert.deepEqual(ringNeighbours(['c', 'a', 'b', 'd'], 'a'), ['d', 'b'])
    assert.deepEqual(ringNeighbours(['b', 'a'], 'a'), ['b'])
    assert.deepEqual(ringNeighbours(['a'], 'a'), [])
  })
})
