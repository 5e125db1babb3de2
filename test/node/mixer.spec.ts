/** The mixer's thread: there while it is of use. What it computes stands in test/train/update-file.spec.ts and test/aggregate. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { initialParameters } from '../../src/model/initial.ts'
import { createLayout } from '../../src/model/layout.ts'
import { presets } from '../../src/model/presets.ts'
import { Mixer } from '../../src/node/mixer.ts'
import { outerSections, writeModelFile } from '../../src/train/model-file.ts'
import { temporaryFolder } from '../temporary.ts'

describe('the mixer’s thread', () => {
  const layoutOf = (vocabulary: number) =>
    createLayout(
      { ...presets.tiny.model, layers: 1, width: 256, hidden: 64, vocabulary },
      { keyFraction: 1, embeddingIsKey: false }
    )
  let mixer: Mixer
  beforeEach(() => {
    mixer = new Mixer()
  })
  afterEach(() => mixer.close())

  async function sketchOf(vocabulary: number): Promise<Uint8Array> {
    const folder = temporaryFolder()
    const layout = layoutOf(vocabulary)
    const paths = [1, 2].map(seed => {
      const path = join(folder, `${seed}`)
      writeModelFile(path, layout, [Float32Array.from({ length: layout.floats }, (_, place) => (place * seed) % 97)])
      return path
    }) as [string, string]
    return mixer.sketch(layout, ...paths, 0)
  }

  it('gives large models’ memory back when it has nothing to do, and starts again', async () => {
    assert.equal(mixer.runs, false)
    const sketches = await sketchOf(40_000)
    while (mixer.runs) await sleep(50)
    assert.deepEqual(await sketchOf(40_000), sketches)
  })

  it('draws what all begin with as the node itself would, to the bit', async () => {
    const [layout, folder] = [layoutOf(300), temporaryFolder()]
    await mixer.draw(layout, 7, join(folder, 'drawn'))
    writeModelFile(join(folder, 'own'), layout, [initialParameters(layout, 7)])
    assert.deepEqual(readFileSync(join(folder, 'drawn')), readFileSync(join(folder, 'own')))
  })

  it('finds what is no model, or no state of an outer optimizer, and what holds a number that is none', async () => {
    const [layout, folder] = [layoutOf(300), temporaryFolder()]
    const path = join(folder, 'a-model')
    const write = (last: number, sections = ['']) => {
      const vector = new Float32Array(layout.floats).fill(1e30)
      vector[layout.floats - 1] = last
      writeModelFile(path, layout, [...sections.slice(1).map(() => new Float32Array(layout.floats)), vector], { sections })
    }
    const outer = outerSections(2)
    for (const sections of [[''], outer])
      for (const [last, fault] of [
        [0, /^null$/],
        [Number.NaN, /not finite/],
        [Number.NEGATIVE_INFINITY, /not finite/]
      ] as const) {
        write(last, sections)
        assert.match(`${await mixer.faultOf(layout, path, sections)}`, fault)
      }
    assert.match(`${await mixer.faultOf(layout, path)}`, /^a-model is not a whole model/)
    writeFileSync(path, new Uint8Array(1000))
    assert.match(`${await mixer.faultOf(layout, path)}`, /^a-model is not a whole model/)
  })

  it('stays where models are small: to start it would cost more', async () => {
    await sketchOf(256)
    await sleep(1_500)
    assert.equal(mixer.runs, true)
  })
})
