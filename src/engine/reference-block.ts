/** A transformer block of the reference engine: plain loops, one window at a time, a row a token. */
import { headWidthOf, kvHeadsOf, type ModelConfig } from '../model/layout.ts'
import { ropeDivisors } from '../model/rope.ts'

export interface Matrix {
  rows: number
  columns: number
  data: Float64Array
}

type BlockTensor = 'attentionNorm' | 'query' | 'key' | 'value' | 'output' | 'feedForwardNorm' | 'gate' | 'up' | 'down'
export type Block = Record<BlockTensor, Matrix>

interface Normed {
  y: Matrix
  /** 1/√(mean x² + ε) of each row. */
  inverse: Float64Array
}

/** [r, k] · [k, c] → [r, c] */
export function matmul(a: Matrix, b: Matrix): Matrix {
  const data = new Float64Array(a.rows * b.columns)
  for (let row = 0; row < a.rows; row++) {
    for (let inner = 0; inner < a.columns; inner++) {
      const factor = a.data[row * a.columns + inner]!
      for (let column = 0; column < b.columns; column++)
        data[row * b.columns + column]! += factor * b.data[inner * b.columns + column]!
    }
  }
  return { rows: a.rows, columns: b.columns, data }
}

export function transposed({ rows, columns, data }: Matrix): Matrix {
  const out = new Float64Array(data.length)
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) out[column * rows + row] = data[row * columns + column]!
  return { rows: columns, columns: rows, data: out }
}

const zip = (a: Matrix, b: Matrix, combine: (left: number, right: number) => number): Matrix => ({
  ...a,
  data: a.data.map((value, place) => combine(value, b.data[place]!))
})
export const plus = (a: Matrix, b: Matrix): Matrix => zip(a, b, (left, right) => left + right)
const times = (a: Matrix, b: Matrix): Matrix => zip(a, b, (left, right) => left * right)

/** RMSNorm: y = x·inverse·w. */
export function normForward(x: Matrix, weight: Matrix, epsilon: number): Normed {
  const inverse = new Float64Array(x.rows)
  const y = { ...x, data: new Float64Array(x.data.length) }
  for (let row = 0; row < x.rows; row++) {
    const values = x.data.subarray(row * x.columns, (row + 1) * x.columns)
    const mean = values.reduce((sum, value) => sum + value * value, 0) / x.columns
    inverse[row] = 1 / Math.sqrt(mean + epsilon)
    for (let column = 0; column < x.columns; column++)
      y.data[row * x.columns + column] = values[column]! * inverse[row]! * weight.data[column]!
  }
  return { y, inverse }
}

/** dx = w·dy·inverse − x·inverse³/d·Σ w·dy·x, and dw = Σ over rows of dy·x·inverse. */
export function normBackward(
  dy: Matrix,
  x: Matrix,
  { inverse }: Normed,
  weight: Matrix
): { dx: Matrix; dWeight: Float64Array } {
  const dWeight = new Float64Array(x.columns)
  const dx = { ...x, data: new Float64Array(x.data.length) }
  for (let row = 0; row < x.rows; row++) {
    let dot = 0
    for (let column = 0; column < x.columns; column++) {
      const at = row * x.columns + column
      dWeight[column]! += dy.data[at]! * x.data[at]! * inverse[row]!
      dot += dy.data[at]! * weight.data[column]! * x.data[at]!
    }
    const pull = (dot * inverse[row]! ** 3) / x.columns
    for (let column = 0; column < x.columns; column++) {
      const at = row * x.columns + column
      dx.data[at] = dy.data[at]! * weight.data[column]! * inverse[row]! - x.data[at]! * pull
    }
  }
  return { dx, dWeight }
}

/** RoPE on halves of each head, of which `x` has as many as fit; `turn` −1 is its backward pass. */
function rotate(x: Matrix, config: ModelConfig, turn: 1 | -1): Matrix {
  const divisors = ropeDivisors(config)
  const headWidth = headWidthOf(config)
  const heads = x.columns / headWidth
  const half = headWidth / 2
  const out = { ...x, data: new Float64Array(x.data.length) }
  for (let row = 0; row < x.rows; row++) {
    for (let head = 0; head < heads; head++) {
      for (let pair = 0; pair < half; pair++) {
        const angle = row / divisors[pair]!
        const at = row * x.columns + head * headWidth + pair
        const [left, right] = [x.data[at]!, x.data[at + half]!]
        out.data[at] = left * Math.cos(angle) - turn * right * Math.sin(angle)
        out.data[at + half] = right * Math.cos(angle) + turn * left * Math.sin(angle)
      }
    }
  }
  return out
}

const headOf = (x: Matrix, head: number, width: number): Matrix => {
  const out = { rows: x.rows, columns: width, data: new Float64Array(x.rows * width) }
  for (let row = 0; row < x.rows; row++)
    out.data.set(x.data.subarray(row * x.columns + head * width, row * x.columns + (head + 1) * width), row * width)
  return out
}

/** Adds: a head of keys and values gets gradients from each query head that shares it. */
const addHead = (into: Matrix, head: number, part: Matrix): void => {
  for (let row = 0; row < part.rows; row++)
    for (let column = 0; column < part.columns; column++)
      into.data[row * into.columns + head * part.columns + column]! += part.data[row * part.columns + column]!
}

/** Causal softmax(q·kᵀ/√e): row t looks at columns 0..t. */
function causalSoftmax(q: Matrix, k: Matrix): Matrix {
  const scores = matmul(q, transposed(k))
  for (let row = 0; row < scores.rows; row++) {
    const values = scores.data.subarray(row * scores.columns, (row + 1) * scores.columns)
    for (let column = 0; column < values.length; column++)
      values[column] = column > row ? -Infinity : values[column]! / Math.sqrt(q.columns)
    const maximum = values.reduce((most, value) => Math.max(most, value), -Infinity)
    let total = 0
    for (let column = 0; column < values.length; column++) total += values[column] = Math.exp(values[column]! - maximum)
    for (let column = 0; column < values.length; column++) values[column]! /= total
  }
  return scores
}

const sigmoid = (value: number): number => 1 / (1 + Math.exp(-value))

export function blockForward(block: Block, x: Matrix, config: ModelConfig) {
  const width = headWidthOf(config)
  const shared = config.heads / kvHeadsOf(config)
  const attentionNorm = normForward(x, block.attentionNorm, config.normEpsilon)
  const q = rotate(matmul(attentionNorm.y, block.query), config, 1)
  const k = rotate(matmul(attentionNorm.y, block.key), config, 1)
  const v = matmul(attentionNorm.y, block.value)
  const mixed: Matrix = { ...x, data: new Float64Array(x.data.length) }
  const attention = Array.from({ length: config.heads }, (_, head) => {
    const kvHead = Math.floor(head / shared)
    const weights = causalSoftmax(headOf(q, head, width), headOf(k, kvHead, width))
    addHead(mixed, head, matmul(weights, headOf(v, kvHead, width)))
    return weights
  })
  const middle = plus(x, matmul(mixed, block.output))
  const feedForwardNorm = normForward(middle, block.feedForwardNorm, config.normEpsilon)
  const gate = matmul(feedForwardNorm.y, block.gate)
  const up = matmul(feedForwardNorm.y, block.up)
  const silu: Matrix = { ...gate, data: gate.data.map(value => value * sigmoid(value)) }
  const product = times(silu, up)
  const out = plus(middle, matmul(product, block.down))
  return { x, attentionNorm, q, k, v, attention, mixed, middle, feedForwardNorm, gate, up, silu, product, out }
}

type Done = ReturnType<typeof blockForward>

export function blockBackward(
  block: Block,
  done: Done,
  dOut: Matrix,
  config: ModelConfig
): { dx: Matrix; weights: Record<BlockTensor, Float64Array> } {
  const dProduct = matmul(dOut, transposed(block.down))
  const slope: Matrix = { ...done.gate, data: done.gate.data.map(value => sigmoid(value) * (1 + value * (1 - sigmoid(value)))) }
  const dGate = times(times(dProduct, done.up), slope)
  const dUp = times(dProduct, done.silu)
  const dFeedForward = plus(matmul(dGate, transposed(block.gate)), matmul(dUp, transposed(block.up)))
  const feedForward = normBackward(dFeedForward, done.middle, done.feedForwardNorm, block.feedForwardNorm)
  const dMiddle = plus(dOut, feedForward.dx)
  const { dq, dk, dv } = attentionBackward(done, matmul(dMiddle, transposed(block.output)), config)
  const dAttention = plus(
    plus(matmul(dq, transposed(block.query)), matmul(dk, transposed(block.key))),
    matmul(dv, transposed(block.value))
  )
  const attention = normBackward(dAttention, done.x, done.attentionNorm, block.attentionNorm)
  const weight = (input: Matrix, gradient: Matrix) => matmul(transposed(input), gradient).data
  return {
    dx: plus(dMiddle, attention.dx),
    weights: {
      attentionNorm: attention.dWeight,
      query: weight(done.attentionNorm.y, dq),
      key: weight(done.attentionNorm.y, dk),
      value: weight(done.attentionNorm.y, dv),
      output: weight(done.mixed, dMiddle),
      feedForwardNorm: feedForward.dWeight,
      gate: weight(done.feedForwardNorm.y, dGate),
      up: weight(done.feedForwardNorm.y, dUp),
      down: weight(done.product, dOut)
    }
  }
}

function attentionBackward(
  { q, k, v, attention }: Done,
  dMixed: Matrix,
  config: ModelConfig
): { dq: Matrix; dk: Matrix; dv: Matrix } {
  const width = headWidthOf(config)
  const shared = config.heads / kvHeadsOf(config)
  const empty = (like: Matrix): Matrix => ({ ...like, data: new Float64Array(like.data.length) })
  const [dq, dk, dv] = [empty(q), empty(k), empty(v)]
  for (const [head, weights] of attention.entries()) {
    const kvHead = Math.floor(head / shared)
    const dHead = headOf(dMixed, head, width)
    addHead(dv, kvHead, matmul(transposed(weights), dHead))
    const dWeights = matmul(dHead, transposed(headOf(v, kvHead, width)))
    const dScores: Matrix = { ...weights, data: new Float64Array(weights.data.length) }
    for (let row = 0; row < weights.rows; row++) {
      let sum = 0
      for (let at = row * weights.columns; at < (row + 1) * weights.columns; at++) sum += dWeights.data[at]! * weights.data[at]!
      for (let at = row * weights.columns; at < (row + 1) * weights.columns; at++)
        dScores.data[at] = (weights.data[at]! * (dWeights.data[at]! - sum)) / Math.sqrt(width)
    }
    addHead(dq, head, matmul(dScores, headOf(k, kvHead, width)))
    addHead(dk, kvHead, matmul(transposed(dScores), headOf(q, head, width)))
  }
  return { dq: rotate(dq, config, -1), dk: rotate(dk, config, -1), dv }
}
