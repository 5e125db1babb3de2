/** Update files, and a member's update on its way through the mixer's worker: encoded, kept rests, decoded against a base. */
import assert from 'node:assert/strict'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodedBytes } from '../../src/aggregate/encode.ts'
import { WorldlmError } from '../../src/errors.ts'
import { completeCharter } from '../../src/governance/charter-schema.ts'
import { Random } from '../../src/math/random.ts'
import { createLayout, groupRanges } from '../../src/model/layout.ts'
import { presets } from '../../src/model/presets.ts'
import { type DifferenceJob, Mixer } from '../../src/node/mixer.ts'
import { readModelFile, writeModelFile } from '../../src/train/model-file.ts'
import { readUpdateFile, writeUpdateFile } from '../../src/train/update-file.ts'
import { temporaryFolder } from '../temporary.ts'

const layout = createLayout(
  { ...presets.tiny.model, layers: 2, width: 64, hidden: 96, vocabulary: 256 },
  { keyFraction: 0.5, embeddingIsKey: false }
)
const { floats } = layout
const sizes = layout.tensors.map(tensor => tensor.floats)
const isKey = new Uint8Array(floats)
for (const range of groupRanges(layout)) isKey.fill(1, range.offset, range.offset + range.floats)

function random(seed: string, size: number, near?: Float32Array): Float32Array {
  const source = new Random(seed)
  return Float32Array.from({ length: floats }, (_, place) => (near?.[place] ?? 0) + source.normal() * size)
}

describe('update files', () => {
  let folder = ''
  let mixer: Mixer
  before(() => {
    folder = temporaryFolder()
    mixer = new Mixer()
  })
  after(() => mixer.close())

  const at = (name: string) => join(folder, name)
  const save = (name: string, model: Float32Array): string => {
    writeModelFile(at(name), layout, [model])
    return at(name)
  }
  const readModel = (name: string): Float32Array => {
    const model = new Float32Array(floats)
    readModelFile(at(name), layout, [model])
    return model
  }
  const read = (name: string, base: string | null): Float32Array => {
    const update = new Float32Array(floats)
    readUpdateFile(at(name), layout, update, base)
    return update
  }

  for (const encoding of ['f32', 'bf16', 'int8', 'int3', 'topk'] as const) {
    it(`${encoding}: a member’s update arrives as ΔB and K, in the bytes that it should take`, async () => {
      const base = random('base', 1)
      const start = random('start', 0.1, base)
      const personal = random('personal', 0.01, start)
      const files = { base: save('base', base), start: save('start', start), personal: save('personal', personal) }
      const isBlock = encoding !== 'f32' && encoding !== 'bf16'
      const block = isBlock ? { keysBase: files.base, restFrom: null, restTo: at('rest'), keepsKeys: true } : null
      await mixer.difference({ layout, model: files.personal, start: files.start, output: at('update'), encoding, block })
      const header = statSync(at('update')).size - encodedBytes(encoding, sizes)
      assert.ok(header > 0 && header < 4096, `${header} bytes of header`)
      const got = read('update', isBlock ? files.base : null)
      let [worst, sent] = [0, 0]
      for (let place = 0; place < floats; place++) {
        const want = isKey[place] === 1 ? personal[place]! : personal[place]! - start[place]!
        worst = Math.max(worst, Math.abs(got[place]! - want))
        sent += Number(got[place] !== (isKey[place] === 1 ? base[place] : 0))
      }
      const worstAllowed = { f32: 1e-6, bf16: 0.02, int8: 0.003, int3: 0.3, topk: 0.6 }[encoding]
      assert.ok(worst < worstAllowed, `a float is off by ${worst}`)
      if (encoding === 'topk') assert.ok(sent / floats < 1 / 15, `${sent} of ${floats} floats were sent`)
      assert.equal((await mixer.inspect(layout, at('update'), isBlock ? files.base : null, files.base)).fault, null)
    })
  }

  it('what topk leaves of B is kept on disk and sent later; of K it is forgotten where the member keeps its K', async () => {
    const base = save('base', random('base', 1))
    const start = save('start', random('start', 0.1, readModel('base')))
    const personal = save('personal', random('personal', 0.01, readModel('start')))
    const job: DifferenceJob = {
      layout,
      model: personal,
      start,
      output: at('update'),
      encoding: 'topk',
      block: { keysBase: base, restFrom: null, restTo: at('rest-1'), keepsKeys: true }
    }
    await mixer.difference(job)
    const [first, rest] = [read('update', base), readModel('rest-1')]
    for (let place = 0; place < floats; place++) {
      if (isKey[place] === 1) assert.equal(rest[place], 0)
      else assert.ok(Math.abs(first[place]! + rest[place]! - (readOf(personal)[place]! - readOf(start)[place]!)) < 1e-6)
    }
    await mixer.difference({ ...job, block: { ...job.block!, restFrom: at('rest-1'), restTo: at('rest-2') } })
    const second = read('update', base)
    // As after a restart: another mixer, the same files, the same bytes.
    const bytes = readFileSync(at('update'))
    const again = new Mixer()
    await again.difference({ ...job, block: { ...job.block!, restFrom: at('rest-1'), restTo: at('rest-2') } })
    await again.close()
    assert.ok(bytes.equals(readFileSync(at('update'))))
    const fresh = second.filter((float, place) => isKey[place] === 0 && float !== 0 && first[place] === 0).length
    assert.ok(fresh > floats / 100, `${fresh} floats that were not sent the first time`)
    await mixer.difference({ ...job, block: { ...job.block!, keepsKeys: false } })
    assert.ok(readModel('rest-1').some((float, place) => isKey[place] === 1 && float !== 0))
  })

  const cache = new Map<string, Float32Array>()
  function readOf(path: string): Float32Array {
    const known = cache.get(path)
    if (known !== undefined) return known
    const model = new Float32Array(floats)
    readModelFile(path, layout, [model])
    cache.set(path, model)
    return model
  }

  it('int8 updates are aggregated to nearly what f32 ones are, to the same bits each time (I7)', async () => {
    const base = save('base', random('base', 1))
    const { algorithm } = completeCharter(
      { name: 'world', model: 'tiny', algorithm: { up: 'mean', clip: 'centered' } },
      { founders: ['a'], parent: null }
    )
    const aggregate = async (encoding: 'f32' | 'int8') => {
      const inputs = []
      for (const member of ['a', 'b', 'c']) {
        const start = save(`start-${member}`, random(member, 0.05, readModel('base')))
        const personal = save(`personal-${member}`, random(`personal ${member}`, 0.01, readModel(`start-${member}`)))
        const block =
          encoding === 'int8' ? { keysBase: base, restFrom: null, restTo: at(`rest-${member}`), keepsKeys: true } : null
        const path = at(`update-${encoding}-${member}`)
        await mixer.difference({ layout, model: personal, start, output: path, encoding, block })
        const { fault, keysDistance } = await mixer.inspect(layout, path, block === null ? null : base, base)
        assert.equal(fault, null)
        const sketches = await mixer.sketch(layout, personal, start, 0)
        inputs.push({ path, base: block === null ? null : base, weight: 100, sketches, keysDistance })
      }
      const output = at(`aggregate-${encoding}`)
      await mixer.aggregate({
        layout,
        algorithm,
        previous: base,
        genesis: base,
        inputs,
        outer: { from: null, output: at('outer') },
        seed: 0,
        output
      })
      return readFileSync(output)
    }
    const [exact, once, twice] = [await aggregate('f32'), await aggregate('int8'), await aggregate('int8')]
    assert.ok(once.equals(twice))
    const [want, got] = [readModel('aggregate-f32'), readModel('aggregate-int8')]
    assert.ok(!exact.equals(once))
    for (let place = 0; place < floats; place++) assert.ok(Math.abs(want[place]! - got[place]!) < 0.002)
  })

  it('a damaged one, one against no base, and one of another model are refused by name', async () => {
    const base = save('base', random('base', 1))
    writeUpdateFile(at('whole'), layout, random('update', 1), 'int8', null)
    const whole = readFileSync(at('whole'))
    const refused = (why: RegExp, from: string | null = base) =>
      assert.throws(
        () => read('bad', from),
        (error: unknown) => error instanceof WorldlmError && error.code === 'MODEL_DAMAGED' && why.test(error.message)
      )
    writeFileSync(at('bad'), whole)
    refused(/encoded as int8, which the charter does not name/, null)
    writeFileSync(at('bad'), whole.subarray(0, whole.length - 1))
    refused(/needs?|bytes/)
    const infinite = Buffer.from(whole)
    infinite.writeFloatLE(Number.POSITIVE_INFINITY, whole.length - encodedBytes('int8', sizes))
    writeFileSync(at('bad'), infinite)
    refused(/scale of block 0 is Infinity/)
    const { fault } = await mixer.inspect(layout, at('bad'), base, base)
    assert.match(fault!, /scale of block 0/)
    const other = createLayout(
      { ...presets.tiny.model, layers: 1, width: 64, hidden: 96, vocabulary: 256 },
      { keyFraction: 0.5, embeddingIsKey: false }
    )
    writeUpdateFile(at('bad'), other, new Float32Array(other.floats), 'topk', null)
    refused(/as topk it must hold one tensor/)
  })
})
