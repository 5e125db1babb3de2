/**
 * TensorFlow.js, whichever of its Node packages is installed: on a GPU, on TensorFlow's CPU kernels, or in WebAssembly. None is a dependency of
 * this package: who wants the ecosystem's engine installs one beside it.
 */
import { createRequire } from 'node:module'
import util from 'node:util'
import { WorldlmError } from '../../errors.ts'

/** What the engine uses of TensorFlow.js. */
export type Tensorflow = typeof import('@tensorflow/tfjs')

/** Best first. */
const packages = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node', '@tensorflow/tfjs-backend-wasm'] as const
export type TensorflowPackage = (typeof packages)[number]

/**
 * @param wanted - one of them alone; default: the first that is installed.
 * @throws {WorldlmError} ENGINE_MISSING
 */
export async function loadTensorflow(
  threads: number,
  wanted?: TensorflowPackage
): Promise<{ tf: Tensorflow; name: TensorflowPackage }> {
  const reasons: string[] = []
  for (const name of wanted === undefined ? packages : [wanted]) {
    try {
      return { tf: await load(name, threads), name }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      // One that is installed and does not load is worth a word; one that is not there is not.
      if (code !== 'MODULE_NOT_FOUND' && code !== 'ERR_MODULE_NOT_FOUND') reasons.push(`${name}: ${message}`)
    }
  }
  throw new WorldlmError(
    'ENGINE_MISSING',
    `engine tfjs needs one of ${packages.join(', ')}${reasons.length > 0 ? ` (${reasons.join('; ')})` : ''}`,
    'Install one: npm install @tensorflow/tfjs @tensorflow/tfjs-backend-wasm, or see `npm run build:tfjs-node`.'
  )
}

/**
 * A computation in WebAssembly, which has 4 GiB and traps where more is asked for ("Aborted()", "memory access out of bounds").
 * @param what - is computed. @throws {WorldlmError} MODEL_TOO_LARGE
 */
export function withinMemory<Result>(what: string, work: () => Result): Result {
  try {
    return work()
  } catch (cause) {
    if (!(cause instanceof WebAssembly.RuntimeError)) throw cause
    throw new WorldlmError(
      'MODEL_TOO_LARGE',
      `${what} needs more than the 4 GiB that TensorFlow.js has in WebAssembly (${cause.message})`,
      'Lower algorithm.batch, choose a smaller model, or the engine onnx.',
      { cause }
    )
  }
}

async function load(name: TensorflowPackage, threads: number): Promise<Tensorflow> {
  const require = createRequire(import.meta.url)
  if (name === '@tensorflow/tfjs-backend-wasm') {
    // Both as CommonJS: as ES modules they would bring a second copy of the core. The whole package, for the core alone knows no gradients.
    const tf = require('@tensorflow/tfjs') as Tensorflow
    const wasm = require(name) as typeof import('@tensorflow/tfjs-backend-wasm')
    wasm.setThreadsCount(threads)
    await tf.setBackend('wasm')
    await tf.ready()
    return tf
  }
  process.env.TF_NUM_INTRAOP_THREADS ??= String(threads)
  process.env.TF_NUM_INTEROP_THREADS ??= '1'
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2'
  // Node 23 took these away; the package still asks for them.
  const known = util as unknown as Record<string, unknown>
  known.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined
  known.isArray ??= Array.isArray
  const tf = require(name) as Tensorflow
  await tf.ready()
  return tf
}
