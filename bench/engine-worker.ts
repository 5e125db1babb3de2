/** One side of the engine benchmark: takes the number of steps, answers the seconds that they took. */
import { parentPort, workerData } from 'node:worker_threads'
import { createEngine } from '../src/engine/create.ts'
import { Random } from '../src/math/random.ts'
import { initialParameters } from '../src/model/initial.ts'
import { createLayout } from '../src/model/layout.ts'
import { presets } from '../src/model/presets.ts'
import { openPrototype } from './engine-prototype.ts'

const { size, threads, vs } = workerData as { size: 'S' | 'M'; threads: number; vs: string | null }
const { model, batch } = presets[size === 'S' ? 'small' : 'medium']
const layout = createLayout(model, { keyFraction: 1, embeddingIsKey: true })
const parameters = initialParameters(layout, 0)
const random = new Random('bench')
const stepTokens = batch * model.context
const tokens = () => Int32Array.from({ length: stepTokens }, () => random.below(model.vocabulary))
const data = { inputs: tokens(), targets: tokens() }

async function openOurs(): Promise<() => Promise<number>> {
  const engine = await createEngine('onnx', { layout, batch, threads, weightDecay: 0.1, gradientClip: 0 })
  await engine.load(parameters)
  return () => engine.step(data, 1e-4)
}

try {
  const step = vs === null ? await openOurs() : await openPrototype(vs, { layout, parameters, batch, threads, data })
  const loss = await step()
  for (let warm = 0; warm < 2; warm++) await step()
  parentPort?.on('message', async (steps: number) => {
    const began = performance.now()
    for (let one = 0; one < steps; one++) await step()
    parentPort?.postMessage({ seconds: (performance.now() - began) / 1000 })
  })
  parentPort?.postMessage({ ready: { loss, stepTokens } })
} catch (error) {
  parentPort?.postMessage({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
}
