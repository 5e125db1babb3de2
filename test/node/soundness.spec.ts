/** What an organization takes over is a model that gives numbers, or its own. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { createLayout, groupRanges, type ModelConfig } from '../../src/model/layout.ts'
import { initialParameters } from '../../src/model/initial.ts'
import { EventLog } from '../../src/node/events.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { Mixer } from '../../src/node/mixer.ts'
import { Soundness } from '../../src/node/soundness.ts'
import { readModelFile, writeModelFile } from '../../src/train/model-file.ts'
import { temporaryFolder } from '../temporary.ts'

const config: ModelConfig = {
  layers: 1,
  width: 8,
  hidden: 16,
  heads: 2,
  context: 16,
  vocabulary: 256,
  ropeBase: 10_000,
  normEpsilon: 1e-5
}

describe('a model that others made', () => {
  const layout = createLayout(config, { keyFraction: 0.5, embeddingIsKey: false })
  const mixer = new Mixer()
  after(() => mixer.close())

  const cases: { why: string; value: number; encoding?: 'bf16'; nllPerByte?: number; taken: boolean }[] = [
    { why: 'like all others', value: 0.5, taken: true },
    { why: 'with a gain that is large', value: -900, taken: true },
    { why: 'with a number that is none', value: Number.NaN, taken: false },
    { why: 'with a row of infinity, in bf16', value: Number.POSITIVE_INFINITY, encoding: 'bf16', taken: false },
    { why: 'with a number that is finite, and no parameter', value: -1e38, taken: false },
    { why: 'whose logits overflow', value: 0.5, nllPerByte: Number.NaN, taken: false },
    { why: 'under which the text is impossible', value: 0.5, nllPerByte: Number.POSITIVE_INFINITY, taken: false }
  ]
  for (const { why, value, encoding = 'f32', nllPerByte = 2, taken } of cases) {
    it(`is ${taken ? '' : 'not '}taken: ${why}`, async () => {
      const folder = new NodeFolder(temporaryFolder())
      mkdirSync(folder.models)
      const events = new EventLog()
      const [own, theirs] = [initialParameters(layout, 1), initialParameters(layout, 2)]
      // A token that the organization's text has nowhere: no likelihood tells.
      theirs.fill(value, 0, 4)
      writeModelFile(folder.model('personal'), layout, [own])
      writeModelFile(folder.model('mixed'), layout, [theirs], { encoding })
      const sound = new Soundness({ folder, mixer, events }, layout)
      const judge = async () => ({ nllPerByte, parts: [] })
      const path = await sound.orOwn(3, folder.model('mixed'), folder.model('personal'), judge)
      const begun = new Float32Array(layout.floats)
      readModelFile(path, layout, [begun])
      assert.deepEqual(begun, taken ? theirs : own)
      const codes = events.since(0).map(event => 'code' in event && event.code)
      assert.equal(codes.includes('MODEL_SPOILED'), !taken)
    })
  }

  it('is drawn to the beginning where no text judges it, as far as it lies farther than others do', async () => {
    const folder = new NodeFolder(temporaryFolder())
    mkdirSync(folder.models)
    const initial = initialParameters(layout, 1)
    const from = (scale: number) => initial.map((float, place) => float + scale * Math.sin(place))
    const files = { initial, own: from(1), federation: from(0.5), near: from(-0.75), far: from(-1000) }
    for (const [name, floats] of Object.entries(files)) writeModelFile(folder.model(name), layout, [floats])
    const sound = new Soundness({ folder, mixer, events: new EventLog() }, layout)
    const others = [folder.model('own'), folder.model('federation')]
    const residuals = ['near', 'far'].map(name => ({ name, model: folder.model(name) }))
    const drawn = await sound.drawn(residuals, others)
    assert.deepEqual(drawn[0], residuals[0])
    const read = new Float32Array(layout.floats)
    readModelFile(drawn[1]!.model, layout, [read])
    for (const { offset, floats } of groupRanges(layout))
      for (let place = offset; place < offset + floats; place++)
        assert.ok(Math.abs(read[place]! - from(-1)[place]!) < 1e-3, `${place}`)
    assert.deepEqual(await sound.drawn([], others), [])
  })
})
