/**
 * Matrix products as TensorFlow.js's WebAssembly backend is fast at them: two matrices, neither transposed, go to XNNPACK's kernels; transposed ones
 * and batches of them, of which the gradients that TensorFlow.js derives are made, go to a plain loop (its cc/batch_mat_mul_impl.cc). On other
 * backends they are its own.
 */
import type { Tensor, Tensor2D } from '@tensorflow/tfjs'
import type { Tensorflow } from './runtime.ts'

export class Products {
  readonly #tf: Tensorflow
  readonly #wasm: boolean

  constructor(tf: Tensorflow) {
    this.#tf = tf
    this.#wasm = tf.getBackend() === 'wasm'
  }

  /** a·b. [n, k], [k, m] → [n, m] */
  of(a: Tensor2D, b: Tensor2D): Tensor2D {
    const tf = this.#tf
    if (!this.#wasm) return tf.matMul(a, b)
    return tf.customGrad((...given) => {
      const [left, right, save] = given as unknown as [Tensor2D, Tensor2D, (tensors: Tensor[]) => void]
      save([left, right])
      const gradFunc = (dy: Tensor, [x, y]: Tensor[]) => [
        tf.matMul(dy as Tensor2D, tf.transpose(y as Tensor2D)),
        tf.matMul(tf.transpose(x as Tensor2D), dy as Tensor2D)
      ]
      return { value: tf.matMul(left, right), gradFunc }
    })(a, b) as Tensor2D
  }

  /** a·bᵀ. [n, k], [m, k] → [n, m] */
  withTransposed(a: Tensor2D, b: Tensor2D): Tensor2D {
    return this.#wasm ? this.of(a, this.#tf.transpose(b)) : this.#tf.matMul(a, b, false, true)
  }

  /** a·b, where a has no gradient. [n, k], [k, m] → [n, m] */
  ofConstant(a: Tensor2D, b: Tensor2D): Tensor2D {
    const tf = this.#tf
    if (!this.#wasm) return tf.matMul(a, b)
    return tf.customGrad((...given) => {
      const [right, save] = given as unknown as [Tensor2D, (tensors: Tensor[]) => void]
      save([a])
      const gradFunc = (dy: Tensor, [x]: Tensor[]) => tf.matMul(tf.transpose(x as Tensor2D), dy as Tensor2D)
      return { value: tf.matMul(a, right), gradFunc }
    })(b) as Tensor2D
  }

  /** Of each of the matrices in the last two dimensions. [B, H, n, k], [B, H, k, m] → [B, H, n, m] */
  ofEach(a: Tensor, b: Tensor): Tensor {
    const tf = this.#tf
    if (!this.#wasm) return tf.matMul(a, b)
    const [B, H, n, k] = a.shape as [number, number, number, number]
    const m = b.shape[3]!
    const lefts = tf.unstack(tf.reshape(a, [B * H, n, k])) as Tensor2D[]
    const rights = tf.unstack(tf.reshape(b, [B * H, k, m])) as Tensor2D[]
    return tf.reshape(tf.stack(lefts.map((left, place) => this.of(left, rights[place]!))), [B, H, n, m])
  }
}
