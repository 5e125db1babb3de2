/** What comes of a cell. */
import type { Round } from './federate.ts'

/** null: not finite. */
export interface Figure {
  perplexity: number | null
  bitsPerByte: number | null
}
export interface Figures {
  /** After local training. */
  personal: Figure
  /** What its next training begins with. */
  aggregated: Figure
  /** What its federation's members share; null where nobody aggregates. */
  federation: Figure | null
}

/** All sums are over the rounds so far. */
export interface CurvePoint {
  round: number
  /** Trained on, by all organizations together. */
  tokens: number
  /** Models handed in, and models taken, by organizations and federations. */
  bytesUp: number
  bytesDown: number
  levels: { level: number; bytesUp: number; bytesDown: number }[]
  organizations: Record<string, Figures>
}

export interface CellResult {
  curve: CurvePoint[]
  /** How organizations weighed their candidates, at the rounds of the curve. */
  weighed: { round: number; path: string; candidates: { name: string; weight: number; nllPerByte: number }[] }[]
  /** Attention on the way up in the last round. */
  attention: Round['attention']
  diverged: { round: number; message: string } | null
  /** Of computing, over all starts. */
  seconds: number
}
