/** Turns of rotary position embeddings (Su et al. 2021): at place t, pair i of a head turns by the angle t / divisor[i]. */
import { headWidthOf, type ModelConfig } from './layout.ts'

/**
 * Divisors of the angles, shape [e/2]: base^(2i/e), scaled as the model says. `llama3` is that of Llama 3.1: a turn that goes round more
 * than `highFrequencyFactor` times in the original context stays, one of less than `lowFrequencyFactor` is slowed by `factor`, and between
 * them the frequencies are mixed (transformers, `_compute_llama3_parameters`).
 */
export function ropeDivisors(config: ModelConfig): Float64Array {
  const { ropeBase, ropeScaling: scaling } = config
  const headWidth = headWidthOf(config)
  return Float64Array.from({ length: headWidth / 2 }, (_, pair) => {
    const divisor = ropeBase ** ((2 * pair) / headWidth)
    if (scaling === undefined) return divisor
    if (scaling.type === 'linear') return divisor * scaling.factor
    const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = scaling
    const rounds = originalContext / (2 * Math.PI * divisor)
    if (rounds > high) return divisor
    if (rounds < low) return divisor * factor
    const kept = (rounds - low) / (high - low)
    return divisor / ((1 - kept) / factor + kept)
  })
}
