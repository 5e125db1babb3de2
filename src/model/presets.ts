/** Model sizes by name. */
import type { ModelConfig } from './layout.ts'

export type PresetName = 'tiny' | 'small' | 'medium'

const llama = { ropeBase: 10_000, normEpsilon: 1e-5 }

export const presets: Record<PresetName, { model: ModelConfig; batch: number }> = {
  /** 0.79 M parameters: a testnet of six on two cores, a round in seconds. */
  tiny: { model: { ...llama, layers: 4, width: 128, hidden: 320, heads: 2, context: 128, vocabulary: 256 }, batch: 8 },
  /** 3.3 M parameters; size S of the benchmarks. */
  small: { model: { ...llama, layers: 4, width: 256, hidden: 704, heads: 4, context: 256, vocabulary: 512 }, batch: 8 },
  /** 23 M parameters; size M of the benchmarks. */
  medium: { model: { ...llama, layers: 6, width: 512, hidden: 1408, heads: 8, context: 256, vocabulary: 8192 }, batch: 8 }
}
