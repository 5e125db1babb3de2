/** From a tree of text to who runs what, founds what and witnesses what. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { planTestnet } from '../../testnet/plan.ts'

const plan = (...paths: string[]) => planTestnet(paths.map(path => ({ path, folder: `/data/${path}` })))

describe('the plan of a testnet', () => {
  it('makes a federation of every inner folder, parents first, founded by its first organization', () => {
    const { federations, nodes } = plan('a/b/c/x', 'a/y', 'z')
    assert.deepEqual(
      federations.map(({ path, name, parent, founder, members }) => [path, name, parent, founder, members]),
      [
        ['world', 'world', null, 'a/b/c/x', 2],
        ['world/a', 'a', 'world', 'a/b/c/x', 2],
        ['world/a/b', 'b', 'world/a', 'a/b/c/x', 1],
        ['world/a/b/c', 'c', 'world/a/b', 'a/b/c/x', 1]
      ]
    )
    assert.deepEqual(
      nodes.map(({ federation }) => federation),
      ['world/a/b/c', 'world/a', 'world']
    )
  })

  it('gives a federation of two organizations a witness from its neighbours, spread evenly, the nearest first', () => {
    const { nodes } = plan('f/one/a', 'f/one/b', 'f/two/c', 'f/two/d', 'g/e', 'g/h', 'g/i')
    const witnesses = (path: string) => nodes.filter(({ witnessOf }) => witnessOf.includes(path)).map(node => node.path)
    assert.deepEqual([witnesses('world/f/one'), witnesses('world/f/two'), witnesses('world/g')], [['f/two/c'], ['f/one/a'], []])
    const all = (...paths: string[]) =>
      plan(...paths).nodes.flatMap(({ path, witnessOf }) => witnessOf.map(federation => `${path} of ${federation}`))
    assert.deepEqual(all('a/far', 'f/one/x', 'f/one/y', 'f/two/z'), ['f/two/z of world/f/one'])
    assert.deepEqual(all('f/c', 'f/one/x', 'f/one/y', 'f/two/u', 'f/two/v'), ['f/c of world/f/one', 'f/one/x of world/f/two'])
    // Where a child federation votes as well, it is three.
    assert.deepEqual(all('a', 'h/c', 'h/d', 'h/e/i', 'h/e/j', 'h/e/k'), [])
    assert.ok(
      plan('a', 'b').nodes.every(({ witnessOf }) => witnessOf.length === 0),
      'nobody is left to be one'
    )
  })

  it('gives organizations of long paths folders that a disk takes, each its own', () => {
    const long = 'Ж'.repeat(80)
    const folders = plan(`${long}/${long}/a`, `${long}/${long}/b`).nodes.map(({ folder }) => folder)
    assert.ok(
      folders.every(folder => Buffer.byteLength(folder) <= 210 && !folder.includes('\ufffd')),
      folders.join()
    )
    assert.equal(new Set(folders).size, 2)
  })

  it('gives each organization a folder of its own, whatever the names', () => {
    const names = fc.constantFrom('a', 'b', 'a-b', 'a b', 'a_b', 'ä', 'A', '日本')
    const paths = fc.array(names, { minLength: 1, maxLength: 3 }).map(parts => parts.join('/'))
    fc.assert(
      fc.property(fc.uniqueArray(paths, { minLength: 1, maxLength: 12 }), all => {
        const { nodes, federations } = plan(...all)
        const folders = nodes.map(({ folder }) => folder.toLowerCase())
        assert.equal(new Set(folders).size, folders.length, folders.join())
        assert.ok(folders.every(folder => !/[/\s]/.test(folder)))
        const known = new Set<string | null>([null])
        for (const { path, parent, founder } of federations) {
          assert.ok(known.has(parent), `${path} comes before its parent`)
          known.add(path)
          const { federation } = nodes.find(node => node.path === founder)!
          assert.ok(federation === path || federation.startsWith(`${path}/`), `${founder} founds ${path}`)
        }
        for (const { federation, witnessOf } of nodes) assert.ok(known.has(federation) && !witnessOf.includes(federation))
      }),
      { numRuns: 300, seed: 1 }
    )
  })
})
