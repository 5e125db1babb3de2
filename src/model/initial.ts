/** The parameters that a whole tree of federations begins with: from one seed, the same everywhere. */
import { Random } from '../math/random.ts'
import { WorldlmError } from '../errors.ts'
import type { Layout } from './layout.ts'

/** @throws {WorldlmError} MODEL_TOO_LARGE */
function roomFor({ floats }: Layout): Float32Array<ArrayBuffer> {
  try {
    return new Float32Array(floats)
  } catch (cause) {
    throw new WorldlmError(
      'MODEL_TOO_LARGE',
      `a model of ${floats} parameters does not fit this machine’s memory`,
      'Choose smaller sizes in the charter, or a preset: tiny, small, medium.',
      { cause }
    )
  }
}

/**
 * Normal numbers of deviation 0.02; projections back into the residual stream 0.02/√(2L), so that its variance does not grow with
 * depth (Radford et al. 2019, §2.3); norms 1. Of adapters, B is 0, so that they change nothing yet, and A has the deviation
 * 1/√(3·in) (Hu et al. 2021, as their code has it). @returns shape [layout.floats].
 */
export function initialParameters(layout: Layout, seed: number): Float32Array<ArrayBuffer> {
  const parameters = roomFor(layout)
  const random = new Random(`initial/${seed}`)
  const back = 0.02 / Math.sqrt(2 * layout.config.layers)
  for (const { name, shape, offset, floats } of layout.tensors) {
    if (shape.length === 1) parameters.fill(1, offset, offset + floats)
    else if (!name.endsWith('.loraB')) {
      const adapter = 1 / Math.sqrt(3 * shape[0]!)
      const deviation = name.endsWith('.loraA') ? adapter : /\.(output|down)$/.test(name) ? back : 0.02
      for (let place = offset; place < offset + floats; place++) parameters[place] = random.normal() * deviation
    }
  }
  return parameters
}
