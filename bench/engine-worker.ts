/** One side of the engine benchmark: takes the number of steps, answers the seconds that they took. */
import { createEngine } from '../src/engine/create.ts'
import { WorldlmError } from '../src/errors.ts'
import { benchModel } from './engine-model.ts'
import { openPrototype } from './engine-prototype.ts'
import type { Reply, SideOptions } from './engine-side.ts'

const { size, threads, vs, device, recompute, microBatch } = JSON.parse(process.argv[2]!) as SideOptions
const { layout, batch, data, ...made } = benchModel(size)
const say = (reply: Reply) => void process.send?.(reply)

/** The weights are given away: a bench that kept them would count them twice. */
async function openEngine(name: 'onnx' | 'tfjs', parameters: Float32Array): Promise<() => Promise<number>> {
  const engine = await createEngine(name, {
    ...{ layout, batch, threads, weightDecay: 0.1, gradientClip: 0 },
    ...(name === 'onnx' && device && { device }),
    ...(name === 'onnx' && recompute && { recompute }),
    ...(name === 'onnx' && microBatch && { microBatch })
  })
  await engine.load(parameters)
  return () => engine.step(data, 1e-4)
}

try {
  const step =
    vs === null || vs === 'tfjs'
      ? await openEngine(vs ?? 'onnx', made.parameters)
      : await openPrototype(vs, { layout, parameters: made.parameters, batch, threads, data })
  made.parameters = new Float32Array()
  const loss = await step()
  // tfjs is as fast in its second step as ever.
  for (let warm = 0; warm < (vs === 'tfjs' ? 0 : 2); warm++) await step()
  process.on('message', async (steps: number) => {
    const began = performance.now()
    for (let one = 0; one < steps; one++) await step()
    say({ seconds: (performance.now() - began) / 1000, peakBytes: process.resourceUsage().maxRSS * 1024 })
  })
  say({ ready: { loss, stepTokens: batch * layout.config.context } })
} catch (error) {
  if (error instanceof WorldlmError) say({ error: error.message, code: error.code, hint: error.hint })
  else say({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
}
