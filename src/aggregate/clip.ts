/**
 * Centered clipping (Karimireddy, He and Jaggi 2021, "Learning from History for Byzantine Robust Optimization"): each member's key
 * layers are drawn to the federation's, K_F + (K_m − K_F)·min(1, ρ/‖K_m − K_F‖), ρ the lower median of the distances.
 */

/** @param distances - ‖K_m − K_F‖ of each member. @returns the factor of each, 0 to 1. */
export function clipFactors(distances: number[]): number[] {
  const sorted = [...distances].sort((left, right) => left - right)
  const radius = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0
  return distances.map(distance => (distance > radius ? radius / distance : 1))
}
