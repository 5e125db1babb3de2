/**
 * Causal attention and its backward pass, in stretches of rows: a stretch of queries looks at the keys up to its end, so that most of what lies
 * above the diagonal is never computed.
 *
 * Shapes on every line. T tokens a window, B windows, H heads of width e; a stretch has t queries and s keys before its end.
 */
import { headWidthOf, type ModelConfig } from '../../model/layout.ts'
import type { Graph } from './graph.ts'
import type { Operators } from './operators.ts'

/** Rows of a stretch, at least: smaller products cost more than the triangle that they save. */
const stretchRowsMin = 128
/** Four stretches compute 5/8 of the square; eight would 9/16, with twice as many operators. */
const stretchesMax = 4

interface Stretch {
  /** First row, and the one behind the last. */
  from: number
  to: number
}

export function stretchesOf(context: number): Stretch[] {
  const rows = Math.max(stretchRowsMin, Math.ceil(context / stretchesMax))
  return Array.from({ length: Math.ceil(context / rows) }, (_, place) => ({
    from: place * rows,
    to: Math.min(context, (place + 1) * rows)
  }))
}

/** [T, B, H, e] each; keys and values already repeated for the queries that share them. */
export interface Heads {
  q: string
  k: string
  v: string
}

export class Attention {
  readonly #graph: Graph
  readonly #operators: Operators
  readonly #alpha: number
  readonly #stretches: Stretch[]

  constructor(graph: Graph, operators: Operators, config: ModelConfig) {
    this.#graph = graph
    this.#operators = operators
    this.#alpha = 1 / Math.sqrt(headWidthOf(config))
    this.#stretches = stretchesOf(config.context)
  }

  /** Masks of the stretches. */
  declare(): void {
    for (const { from, to } of this.#stretches) {
      const future = (place: number) => (place % to > from + Math.floor(place / to) ? -1e9 : 0)
      const mask = Float32Array.from({ length: (to - from) * to }, (_, place) => future(place))
      this.#graph.constant(`mask ${from}`, 'float', [1, 1, to - from, to], mask)
    }
  }

  /** softmax(α·q·kᵀ) of each stretch [B, H, t, s]. */
  weights({ q, k }: Heads): string[] {
    const graph = this.#graph
    return this.#stretches.map(stretch => {
      const scores = this.#operators.scores(this.#rows(q, stretch), this.#before(k, stretch), this.#alpha) // [B, H, t, s]
      return graph.op('Softmax', [graph.op('Add', [scores, `mask ${stretch.from}`])], { axis: -1 })
    })
  }

  /** @returns [T, B, H, e] */
  mixed(weights: string[], v: string): string {
    const parts = this.#stretches.map(
      (stretch, place) => this.#operators.weighed(weights[place]!, this.#before(v, stretch), 1) //                      [t, B, H, e]
    )
    return this.#graph.stacked(parts)
  }

  /**
   * @param dMixed - gradient of `mixed`, [T, B, H, e].
   * @param sums - Σ over a head's width of dMixed·mixed, [T, B, H]: softmax′ needs Σ_j dP·P of each row, which is that (Dao et al. 2022, §3.1).
   * @returns gradients [T, B, H, e]
   */
  backward(weights: string[], { q, k, v }: Heads, dMixed: string, sums: string): Heads {
    const graph = this.#graph
    const [dQ, dK, dV]: [string[], string[], string[]] = [[], [], []]
    for (const [place, stretch] of this.#stretches.entries()) {
      const own = weights[place]!
      const dRows = this.#rows(dMixed, stretch) //                                                  [t, B, H, e]
      const turned = graph.op('Transpose', [this.#rows(sums, stretch)], { perm: [1, 2, 0] }) //      [B, H, t]
      const row = graph.op('Unsqueeze', [turned, graph.integers([3])]) //                           [B, H, t, 1]
      const dWeights = this.#operators.scores(dRows, this.#before(v, stretch), 1) //                [B, H, t, s]
      const dScores = graph.op('Mul', [own, graph.op('Sub', [dWeights, row])]) //                   [B, H, t, s]
      dV.push(this.#operators.weighedBack(own, dRows, 1)) //                                        [s, B, H, e]
      dQ.push(this.#operators.weighed(dScores, this.#before(k, stretch), this.#alpha)) //           [t, B, H, e]
      dK.push(this.#operators.weighedBack(dScores, this.#rows(q, stretch), this.#alpha)) //         [s, B, H, e]
    }
    return { q: this.#graph.stacked(dQ), k: this.#added(dK), v: this.#added(dV) }
  }

  /** Sum of what the stretches give to the keys before them. */
  #added(parts: string[]): string {
    const sums = this.#stretches.map((stretch, place) => {
      const own = parts.slice(place).map((part, later) => {
        const last = this.#stretches[place + later]!
        return last.from === 0 ? part : this.#slice(part, stretch.from, stretch.to) //              [t, B, H, e]
      })
      return this.#graph.sum(own)
    })
    return this.#graph.stacked(sums)
  }

  /** Queries of a stretch. */
  #rows(x: string, { from, to }: Stretch): string {
    return this.#stretches.length === 1 ? x : this.#slice(x, from, to)
  }

  /** Keys that a stretch looks at. */
  #before(x: string, { to }: Stretch): string {
    return to === this.#stretches.at(-1)!.to ? x : this.#slice(x, 0, to)
  }

  #slice(x: string, from: number, to: number): string {
    const graph = this.#graph
    return graph.op('Slice', [x, graph.integers([from]), graph.integers([to]), graph.integers([0])])
  }
}
