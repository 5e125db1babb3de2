/** The built-in scenarios on other text than theirs: which federations play their parts. */
import assert from 'node:assert/strict'
import type { OrganizationText } from '../../src/data/text-tree.ts'
import { planTestnet } from '../../testnet/plan.ts'
import { findScenario, stories } from '../../testnet/scenarios/stories.ts'
import { checkNames } from '../../testnet/scenarios/whom.ts'

describe('a built-in scenario on any text', () => {
  const trees = {
    flat: ['a', 'b', 'c', 'd', 'e'],
    'of two levels': ['news/x', 'law/a', 'law/b', 'law/c', 'news/y'],
    'of three levels': ['en/med/a', 'en/med/b', 'en/math/a', 'en/math/b', 'de/law/a', 'de/law/b', 'de/law/c'],
    'of one federation below the root': ['law/a', 'law/b', 'law/c']
  }
  for (const [kind, paths] of Object.entries(trees)) {
    const plan = planTestnet(paths.map(path => ({ path, folder: '' }) as OrganizationText))
    for (const name of Object.keys(stories)) {
      if (kind === 'flat' && name === 'lost-delegate') continue
      it(`${name} plays on a tree ${kind}, with names that it has`, () => {
        const { scenario: found, yaml } = findScenario(name, plan.nodes)
        checkNames(found, plan)
        assert.doesNotMatch(yaml, /world\/(code|prose)/)
        assert.equal(found.steps.length, findScenario(name).scenario.steps.length)
      })
    }
  }

  it('that needs a delegate is refused where nobody is one', () => {
    assert.throws(() => findScenario('lost-delegate', [{ path: 'a', federation: 'world' }]), { code: 'SCENARIO_IMPOSSIBLE' })
  })

  it('takes the largest federations, and stays as it is on the text that it was written for', () => {
    const nodes = ['news/x', 'law/a', 'law/b', 'art/a', 'art/b', 'art/c'].map(path => ({
      path,
      federation: `world/${path.split('/')[0]}`
    }))
    const [cut] = findScenario('split-and-heal', nodes).scenario.steps
    assert.deepEqual((cut as { groups: unknown }).groups, [{ all: 'world/art' }, { all: 'world/law' }])
    const odd = ['prose/a', 'prose/b', 'prose/c', 'it: 1 #/a', 'it: 1 #/b'].map(path => ({
      path,
      federation: `world/${path.slice(0, path.lastIndexOf('/'))}`
    }))
    const [again] = findScenario('split-and-heal', odd).scenario.steps
    assert.deepEqual((again as { groups: unknown }).groups, [{ all: 'world/prose' }, { all: 'world/it: 1 #' }])
    const own = ['code/a', 'prose/a', 'more/a', 'more/b'].map(path => ({ path, federation: `world/${path.split('/')[0]}` }))
    assert.equal(findScenario('split-and-heal', own).yaml, stories['split-and-heal'])
  })
})
