/**
 * Where each tensor of the model lies in one flat array of floats, and which class it has.
 *
 * Two classes (docs/algorithm.md, "Names"): `backbone` is averaged, `keys` (key layers) are aggregated by attention. The key layers
 * are scored in groups: one a block (the final norm belongs to the last block), and one for the embedding where it is a key layer.
 */

/** Llama architecture: RMSNorm, half-split RoPE, SwiGLU, no biases, tied head. All counts are ≥ 1. */
export interface ModelConfig {
  /** Transformer blocks, L. */
  layers: number
  /** Width of the residual stream, d; a multiple of 4. */
  width: number
  /** Width inside the feed-forward part, h; a multiple of 4. */
  hidden: number
  /** Attention heads, H; `width / heads` is even. */
  heads: number
  /** Tokens in a window, T. */
  context: number
  /** Tokens known, V; 256 for bytes. */
  vocabulary: number
  /** RoPE base, 10,000 by default. */
  ropeBase: number
  /** RMSNorm epsilon, 1e-5 by default. */
  normEpsilon: number
}

/** Which part of the model the key layers are. */
export interface KeyLayers {
  /** Share of blocks, from the last one down: ⌈fraction·L⌉; 0 to 1. */
  keyFraction: number
  /** Whether the embedding is a key layer too. */
  embeddingIsKey: boolean
}

export type TensorClass = 'backbone' | 'keys'

export interface Tensor {
  /** Unique; e.g. `embedding`, `blocks.3.query`. */
  name: string
  /** Rows and columns ([in, out] for matrices), or one length. */
  shape: number[]
  /** First float; a multiple of 4. */
  offset: number
  /** Product of `shape`. */
  floats: number
  class: TensorClass
  /** Name of its group of key layers (`embedding`, `0`, `1`, …); null for the backbone. */
  group: string | null
}

export interface Layout {
  config: ModelConfig
  tensors: Tensor[]
  /** Groups of key layers in order: `embedding` if it is one, then blocks by number. Empty without key layers. */
  groups: string[]
  /** Length of the flat array, padding included; padding floats are 0. */
  floats: number
}
