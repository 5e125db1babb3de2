// A trainer for tests: computes nothing, and misbehaves as its argument says; `once:` only in its first life (marked by a file).
// It "trains" by adding the learning rate of each step to every parameter; a token's loss is the first parameter. Its calls are noted beside the mark.
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const [mode = 'good', mark] = process.argv.slice(2)
const once = mode.startsWith('once:')
const fresh = !once || !existsSync(mark)
if (once) writeFileSync(mark, 'lived')
const fault = fresh ? mode.replace('once:', '') : 'good'
const say = message => process.stdout.write(`${JSON.stringify(message)}\n`)
let state = null
/** Of adapters it knows nothing where it is `plain`, as trainers before they could be trained. */
const features = mode === 'plain' ? undefined : ['adapters']

function readState(path) {
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE(0))
  return { bytes, dataOffset: 8 + length, header: JSON.parse(bytes.subarray(8, 8 + length)) }
}

function train({ id, learningRates, output }) {
  if (fault === 'dies') process.exit(3)
  if (fault === 'hangs') return
  if (fault === 'rubbish') return console.log('Epoch 1/1 [=====>    ]')
  if (fault === 'mute-until-cancelled') return
  const { bytes, dataOffset, header } = state
  const floats = new Float32Array(bytes.buffer.slice(bytes.byteOffset + dataOffset, bytes.byteOffset + bytes.length))
  for (const [name, tensor] of Object.entries(header)) {
    if (name === '__metadata__' || name.startsWith('first.') || name.startsWith('second.')) continue
    const [from, to] = tensor.data_offsets
    for (let at = from / 4; at < to / 4; at++) for (const rate of learningRates) floats[at] += rate
  }
  if (fault === 'not-finite') floats[5] = Number.NaN
  Buffer.from(floats.buffer).copy(bytes, dataOffset)
  if (fault === 'folder') mkdirSync(output)
  else writeFileSync(output, fault === 'cut-short' ? bytes.subarray(0, -16) : bytes)
  const losses = learningRates.map((_, step) => 2 - step / 10)
  losses.forEach((loss, step) => say({ id, progress: { step: step + 1, loss } }))
  if (fault === 'few-losses') losses.pop()
  if (fault === 'losses-as-text') losses[1] = String(losses[1])
  say({ id, ok: { losses } })
}

function evaluate({ id, batches, parameters, output }) {
  const { bytes, dataOffset } = parameters === undefined ? state : readState(parameters)
  const { shape } = readState(batches).header.targets
  const count = shape.reduce((product, size) => product * size, 1)
  const header = JSON.stringify({ nll: { dtype: 'F32', shape, data_offsets: [0, count * 4] } })
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const nll = Buffer.from(new Float32Array(count).fill(bytes.readFloatLE(dataOffset)).buffer)
  writeFileSync(output, Buffer.concat([length, Buffer.from(header), nll]))
  say({ id, ok: {} })
}

createInterface({ input: process.stdin }).on('line', line => {
  const call = JSON.parse(line)
  if (mark !== undefined) appendFileSync(`${mark}.calls`, `${call.do}${call.do !== 'evaluate' || call.parameters === undefined ? '' : ' others'}\n`)
  switch (call.do) {
    case 'hello':
      console.error('a trainer for tests')
      if (fault === 'dies-at-once') process.exit(4)
      return say({ id: call.id, ok: { protocol: fault === 'old' ? 0 : call.protocol, name: 'test', features } })
    case 'base':
      return say({ id: call.id, ok: {} })
    case 'load':
      state = readState(call.state)
      return say({ id: call.id, ok: {} })
    case 'evaluate':
      return evaluate(call)
    case 'train':
      return fault === 'refuses'
        ? say({ id: call.id, error: { code: 'OUT_OF_MEMORY', message: 'too large for this machine' } })
        : fault === 'diverges'
          ? say({ id: call.id, error: { code: 'DIVERGED', message: 'step 1: the loss is NaN' } })
          : train(call)
    case 'cancel':
      return fault === 'mute-until-cancelled' ? say({ id: call.id, error: { code: 'CANCELLED', message: '' } }) : undefined
    case 'end':
      process.exit(0)
  }
})
