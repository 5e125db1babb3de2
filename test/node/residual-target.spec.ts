/** A target's residuals as candidates of a round, by their names. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { initialTarget, type OfferedResidual } from '../../src/federation/residual-target.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { ResidualTarget } from '../../src/node/residual-target.ts'
import { testCharter } from '../federation/charters.ts'
import { temporaryFolder } from '../temporary.ts'

const held = (from: string): OfferedResidual => ({
  from,
  via: 'p',
  model: `${from}-1`,
  similarity: 0.5,
  textBytes: 1,
  state: 'held'
})

describe('a target of residuals', () => {
  it('gives each the weight that it got, also where two have one path, or that of a federation above', () => {
    const residuals = join(temporaryFolder(), 'residuals.json')
    const paths = { x: 'world/b/twin', y: 'world/b/twin', z: 'world/a' }
    const target = { ...initialTarget, places: [held('x'), held('y'), held('z')] }
    writeFileSync(residuals, JSON.stringify({ federation: 'bafyA', target, paths }))
    const events: { path: string; weight: number }[] = []
    const node = {
      id: 'bafyA',
      path: 'world/a',
      options: {
        charter: testCharter({ name: 'a', path: 'world/a', parent: null }),
        sibling: () => null,
        services: {
          folder: { residuals },
          blobs: { has: () => true, path: (link: string) => link },
          records: { append: () => undefined },
          events: { emit: (event: never) => void events.push(event) }
        }
      }
    }
    const mine = new ResidualTarget(node as unknown as FederationCore)
    const names = mine.use(2).map(({ name }) => name)
    assert.equal(new Set(['world/a', ...names]).size, 4, `${names}`)
    const shares = [{ name: 'world/a', weight: 0.9 }, ...names.map((name, place) => ({ name, weight: place / 100 }))]
    assert.deepEqual(
      mine.weighed(2, shares).map(({ from, weight }) => [from, weight]),
      [
        ['x', 0],
        ['y', 0.01],
        ['z', 0.02]
      ]
    )
    assert.deepEqual(
      events.map(({ path }) => path),
      Object.values(paths)
    )
  })
})
