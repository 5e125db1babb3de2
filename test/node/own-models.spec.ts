/** An organization's own models at its node's start: what is left of a damaged one, and of those of a federation that it has left. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { initialParameters } from '../../src/model/initial.ts'
import { createLayout } from '../../src/model/layout.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { checkOwnModels } from '../../src/node/own-models.ts'
import { checkpointSections, writeModelFile } from '../../src/train/model-file.ts'
import { temporaryFolder } from '../temporary.ts'

const sizes = { layers: 2, hidden: 32, heads: 2, context: 32, vocabulary: 256, ropeBase: 10_000, normEpsilon: 1e-5 }
const layoutOf = (width: number) => createLayout({ ...sizes, width }, { keyFraction: 1, embeddingIsKey: true })
const layout = layoutOf(16)
const names = ['checkpoint-4', 'initial', 'personal', 'rest-4', 'start']

function made(): { folder: NodeFolder; check(federation: string, width?: number): string[]; there(): string[] } {
  const folder = new NodeFolder(temporaryFolder())
  writeFileSync(folder.config, '')
  folder.prepare()
  const parameters = initialParameters(layout, 1)
  for (const name of names) {
    const isCheckpoint = name.startsWith('checkpoint')
    const options = isCheckpoint ? { sections: checkpointSections } : {}
    writeModelFile(folder.model(name), layout, isCheckpoint ? [parameters, parameters, parameters] : [parameters], options)
  }
  return {
    folder,
    check(federation, width = 16) {
      const warned: string[] = []
      checkOwnModels(folder, federation, layoutOf(width), (code, message) => void warned.push(`${code} ${message}`))
      return warned
    },
    there: () => names.filter(name => existsSync(folder.model(name)))
  }
}

describe('an organization’s own models', () => {
  it('stay where they are from start to start', () => {
    const { check, there, folder } = made()
    assert.deepEqual([check('bafya'), check('bafya'), there()], [[], [], names])
    assert.equal(readFileSync(join(folder.models, 'federation'), 'utf8'), 'bafya\n')
  })

  it('are set aside by name where they are cut off, and the others stay', () => {
    for (const damaged of names) {
      const { check, there, folder } = made()
      truncateSync(folder.model(damaged), 500)
      const [warned, ...more] = check('bafya')
      assert.match(warned ?? '', new RegExp(`^MODEL_DAMAGED .*${damaged}.*set aside as ${damaged}\\.safetensors\\.damaged`))
      assert.deepEqual([more, there()], [[], names.filter(name => name !== damaged)])
      assert.equal(existsSync(`${folder.model(damaged)}.damaged`), true)
      assert.deepEqual(check('bafya'), [])
    }
  })

  it('are set aside together when the node is in another federation, whatever their shape', () => {
    for (const width of [16, 32]) {
      const { check, there, folder } = made()
      check('bafya')
      const [warned, ...more] = check('bafyb', width)
      assert.match(warned ?? '', /^MODELS_SET_ASIDE .*bafya lies in .*of-bafya/)
      assert.deepEqual([more, there()], [[], []])
      assert.deepEqual(
        readdirSync(join(folder.models, 'of-bafya')).sort(),
        names.map(name => `${name}.safetensors`)
      )
      assert.deepEqual(check('bafyb', width), [])
    }
  })
})
