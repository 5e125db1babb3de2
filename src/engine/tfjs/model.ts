/**
 * The model's forward pass on TensorFlow.js, which derives the backward pass itself. Read it next to ../reference.ts and ../onnx/step-graph.ts.
 *
 * Shapes on every line. B windows of T tokens, N = B·T rows, window-major. d width, h hidden, H heads, K heads of keys and values, e = d/H,
 * V vocabulary. Rows of the embedding are taken by a product with onehot rows: the WebAssembly backend has no gradient for `gather`.
 */
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs'
import { headNameOf, headWidthOf, kvHeadsOf, type ModelConfig } from '../../model/layout.ts'
import { ropeDivisors } from '../../model/rope.ts'
import { Products } from './products.ts'
import type { Tensorflow } from './runtime.ts'

export type Weights = Record<string, Tensor>

/** What is the same in every step. */
export class TensorflowModel {
  readonly #tf: Tensorflow
  readonly #products: Products
  readonly #config: ModelConfig
  readonly #batch: number
  /** [T, e] */
  readonly #cos: Tensor
  readonly #sin: Tensor
  /** x·turn = (−second half, first half) of each row. [e, e] */
  readonly #turn: Tensor2D
  /** [T, T], −1e9 above the diagonal. */
  readonly #mask: Tensor2D

  constructor(tf: Tensorflow, config: ModelConfig, batch: number) {
    this.#tf = tf
    this.#products = new Products(tf)
    this.#config = config
    this.#batch = batch
    const { context: T } = config
    const e = headWidthOf(config)
    const half = e / 2
    const divisors = ropeDivisors(config)
    const table = (turn: (angle: number) => number) =>
      tf.tensor2d(
        Float32Array.from({ length: T * e }, (_, place) => turn(Math.floor(place / e) / divisors[(place % e) % half]!)),
        [T, e]
      )
    this.#cos = table(Math.cos)
    this.#sin = table(Math.sin)
    const turn = new Float32Array(e * e)
    for (let pair = 0; pair < half; pair++) {
      turn[(pair + half) * e + pair] = -1
      turn[pair * e + pair + half] = 1
    }
    this.#turn = tf.tensor2d(turn, [e, e])
    const future = (place: number) => (place % T > Math.floor(place / T) ? -1e9 : 0)
    this.#mask = tf.tensor2d(
      Float32Array.from({ length: T * T }, (_, place) => future(place)),
      [T, T]
    )
  }

  /** @param inputs, targets - [N]. @returns −ln p(target), [N]. */
  nll(weights: Weights, inputs: Int32Array, targets: Int32Array): Tensor1D {
    const tf = this.#tf
    const { layers, vocabulary: V, normEpsilon } = this.#config
    const rows = (ids: Int32Array): Tensor2D => tf.cast(tf.oneHot(tf.tensor1d(ids, 'int32'), V), 'float32') as Tensor2D // [N, V]
    let x = this.#products.ofConstant(rows(inputs), weights.embedding as Tensor2D) //              [N, d]
    for (let block = 0; block < layers; block++) x = this.#block(weights, `blocks.${block}`, x)
    const final = this.#norm(x, weights.finalNorm!, normEpsilon) //                               [N, d]
    const logits = this.#products.withTransposed(final, weights[headNameOf(this.#config)] as Tensor2D) // [N, V]
    return tf.losses.softmaxCrossEntropy(rows(targets), logits, undefined, 0, tf.Reduction.NONE) as Tensor1D
  }

  dispose(): void {
    for (const tensor of [this.#cos, this.#sin, this.#turn, this.#mask]) tensor.dispose()
  }

  #block(weights: Weights, name: string, x: Tensor2D): Tensor2D {
    const tf = this.#tf
    const { heads: H, context: T, width: d, normEpsilon } = this.#config
    const K = kvHeadsOf(this.#config)
    const e = headWidthOf(this.#config)
    const weight = (matrix: string) => weights[`${name}.${matrix}`] as Tensor2D
    const y = this.#norm(x, weight('attentionNorm'), normEpsilon) //                              [N, d]
    const split = (rows: Tensor2D, heads: number) => tf.transpose(tf.reshape(rows, [this.#batch, T, heads, e]), [0, 2, 1, 3]) //                 [B, heads, T, e]
    const q = this.#rotate(split(this.#products.of(y, weight('query')), H)) //                            [B, H, T, e]
    const k = this.#shared(this.#rotate(split(this.#products.of(y, weight('key')), K))) //                [B, H, T, e]
    const v = this.#shared(split(this.#products.of(y, weight('value')), K)) //                            [B, H, T, e]
    const scores = tf.add(tf.mul(this.#products.ofEach(q, tf.transpose(k, [0, 1, 3, 2])), 1 / Math.sqrt(e)), this.#mask) //  [B, H, T, T]
    const mixed = tf.reshape(tf.transpose(this.#products.ofEach(tf.softmax(scores), v), [0, 2, 1, 3]), [
      this.#batch * T,
      d
    ]) as Tensor2D // [N, d]
    const middle = tf.add(x, this.#products.of(mixed, weight('output'))) as Tensor2D //                   [N, d]
    const z = this.#norm(middle, weight('feedForwardNorm'), normEpsilon) //                       [N, d]
    const gate = this.#products.of(z, weight('gate')) //                                                  [N, h]
    const product = tf.mul(tf.mul(gate, tf.sigmoid(gate)), this.#products.of(z, weight('up'))) as Tensor2D // [N, h]
    return tf.add(middle, this.#products.of(product, weight('down'))) as Tensor2D //                      [N, d]
  }

  /** RMSNorm (Zhang and Sennrich 2019). [N, d] → [N, d] */
  #norm(x: Tensor2D, weight: Tensor, epsilon: number): Tensor2D {
    const tf = this.#tf
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), epsilon)) //                 [N, 1]
    return tf.mul(tf.mul(x, inverse), weight) as Tensor2D
  }

  /** RoPE, halves of a head's width paired. [B, heads, T, e] → the same */
  #rotate(x: Tensor): Tensor {
    const tf = this.#tf
    const { context: T } = this.#config
    const e = headWidthOf(this.#config)
    const turned = tf.reshape(tf.matMul(tf.reshape(x, [-1, e]) as Tensor2D, this.#turn), [this.#batch, x.shape[1]!, T, e])
    return tf.add(tf.mul(x, this.#cos), tf.mul(turned, this.#sin))
  }

  /** Keys or values, each repeated for the queries that share it: [B, K, T, e] → [B, H, T, e]. */
  #shared(x: Tensor): Tensor {
    const tf = this.#tf
    const { heads: H, context: T } = this.#config
    const K = kvHeadsOf(this.#config)
    if (K === H) return x
    const e = headWidthOf(this.#config)
    const copies = Array.from({ length: H / K }, () => tf.reshape(x, [this.#batch, K, 1, T, e]))
    return tf.reshape(tf.concat(copies, 2), [this.#batch, H, T, e])
  }
}
