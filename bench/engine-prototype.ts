/**
 * Runs another training step beside ours: a folder with `model.mjs` (`build(config, options)` → an ONNX model of the step), `onnx.mjs`,
 * and `adam.as.ts` (AdamW in AssemblyScript), in the way that they were meant: weights, gradients and moments in one memory.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { Batch } from '../src/model/batch.ts'
import type { Layout } from '../src/model/layout.ts'

interface Setup {
  layout: Layout
  parameters: Float32Array
  batch: number
  threads: number
  data: Batch
}

interface Built {
  bytes: Uint8Array
  /** Names and shapes of the weights. */
  P: [string, number[]][]
}

interface Adam {
  adamw(w: number, g: number, m: number, v: number, floats: number, rate: number, decay: number, root: number): void
  addrow(target: number, source: number, floats: number): void
}

/** Their name of each of our tensors. */
function theirName(name: string): string {
  const [, block, tensor] = /^blocks\.(\d+)\.(\w+)$/.exec(name) ?? []
  if (block === undefined) return name === 'finalNorm' ? 'gf' : 'embed'
  const short: Record<string, string> = {
    attentionNorm: 'g1',
    query: 'wq',
    key: 'wk',
    value: 'wv',
    output: 'wo',
    feedForwardNorm: 'g2',
    gate: 'wg',
    up: 'wu',
    down: 'wd'
  }
  return `l${block}.${short[tensor!]}`
}

/** @returns a function that takes one step and gives its loss. */
export async function openPrototype(
  folder: string,
  { layout, parameters, batch, threads, data }: Setup
): Promise<() => Promise<number>> {
  const { layers, width, hidden, heads, context, vocabulary } = layout.config
  const { build } = (await import(pathToFileURL(resolve(folder, 'model.mjs')).href)) as {
    build: (config: object, options: object) => Built
  }
  const config = { L: layers, d: width, H: heads, T: context, V: vocabulary, B: batch, h: hidden }
  // Time-major, explicit transposes, rows scattered outside: its fastest choices.
  const { bytes, P } = build(config, { tm: true, xt: true, scatter: 'js' })
  const session = await InferenceSession.create(bytes, {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'basic',
    extra: {
      session: { set_denormal_as_zero: '1', intra_op: { allow_spinning: '0' } }
    },
    logSeverityLevel: 3
  })
  const rows = batch * context
  const floats = P.reduce((sum, [, shape]) => sum + size(shape), 0)
  const memory = new WebAssembly.Memory({ initial: Math.ceil((floats * 16 + rows * width * 8) / 65_536) + 2 })
  const adam = await compileAdam(join(folder, 'adam.as.ts'), memory)
  let next = 64
  const take = (count: number) => {
    const view = new Float32Array(memory.buffer, next, count)
    next += Math.ceil((count * 4) / 64) * 64
    return view
  }
  const [w, g, m, v] = [take(floats), take(floats), take(floats), take(floats)]
  const [dx0, nfs] = [take(rows * width), take(rows * width)]
  const { inputs, targets } = timeMajor(data, batch, context)
  const loss = new Float32Array(1)
  const feeds: Record<string, Tensor> = { x: new Tensor('int32', inputs, [rows]), y: new Tensor('int64', targets, [rows, 1]) }
  const fetches: Record<string, Tensor> = {
    loss: new Tensor('float32', loss, []),
    dx0: new Tensor('float32', dx0, [rows, width]),
    nfs: new Tensor('float32', nfs, [rows, width])
  }
  const places: { offset: number; shape: number[] }[] = []
  let offset = 0
  for (const [name, shape] of P) {
    const tensor = layout.tensors.find(one => theirName(one.name) === name)!
    w.set(parameters.subarray(tensor.offset, tensor.offset + tensor.floats), offset)
    feeds[name] = new Tensor('float32', w.subarray(offset, offset + tensor.floats), shape)
    fetches[`d.${name}`] = new Tensor('float32', g.subarray(offset, offset + tensor.floats), shape)
    places.push({ offset, shape })
    offset += tensor.floats
  }
  let steps = 0
  return async () => {
    await session.run(feeds, fetches)
    for (let row = 0; row < rows; row++) {
      adam.addrow(g.byteOffset + inputs[row]! * width * 4, dx0.byteOffset + row * width * 4, width)
      adam.addrow(g.byteOffset + Number(targets[row]!) * width * 4, nfs.byteOffset + row * width * 4, width)
    }
    steps++
    for (const { offset: at, shape } of places) {
      const decay = shape.length > 1 ? 1 - 1e-4 * 0.1 : 1
      const byte = at * 4
      adam.adamw(
        w.byteOffset + byte,
        g.byteOffset + byte,
        m.byteOffset + byte,
        v.byteOffset + byte,
        size(shape),
        1e-4 / (1 - 0.9 ** steps),
        decay,
        1 / Math.sqrt(1 - 0.95 ** steps)
      )
    }
    return loss[0]!
  }
}

const size = (shape: number[]): number => shape.reduce((product, one) => product * one, 1)

function timeMajor(
  data: Batch,
  batch: number,
  context: number
): { inputs: Int32Array<ArrayBuffer>; targets: BigInt64Array<ArrayBuffer> } {
  const inputs = new Int32Array(batch * context)
  const targets = new BigInt64Array(batch * context)
  for (let row = 0; row < batch; row++) {
    for (let time = 0; time < context; time++) {
      inputs[time * batch + row] = data.inputs[row * context + time]!
      targets[time * batch + row] = BigInt(data.targets[row * context + time]!)
    }
  }
  return { inputs, targets }
}

async function compileAdam(path: string, memory: WebAssembly.Memory): Promise<Adam> {
  const { default: asc } = await import('assemblyscript/asc')
  const source = readFileSync(path, 'utf8')
  let binary: Uint8Array = new Uint8Array()
  const { error, stderr } = await asc.main(
    ['adam.ts', '--outFile', 'out.wasm', '-O3', '--enable', 'simd', '--runtime', 'stub', '--importMemory', '--noAssert'],
    {
      readFile: (name: string) => (name === 'adam.ts' ? source : null),
      writeFile: (name: string, content: string | Uint8Array) => {
        if (name === 'out.wasm') binary = content as Uint8Array
      },
      listFiles: () => []
    }
  )
  if (error !== null) throw new Error(stderr.toString())
  return new WebAssembly.Instance(new WebAssembly.Module(binary), { env: { memory } }).exports as unknown as Adam
}
