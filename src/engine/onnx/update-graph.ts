/**
 * AdamW as part of the portable graph: new parameters and moments are outputs that stay on the device, and inputs of the next step.
 * The same formulas as adam.as.ts; global clipping included.
 *
 * Scalars come as inputs [1]: `rate` = lr/(1−β1ᵗ), `root` = 1/√(1−β2ᵗ), `decay` = lr·weight decay, `clip` (0: none), and `pull` λ, which draws
 * towards `towards.NAME` where the graph has such a term.
 */
import type { Layout } from '../../model/layout.ts'
import { adamw } from '../engine.ts'
import type { Graph } from './graph.ts'

/** What a step leaves behind, by the name of the input that it becomes. */
export const stateNames = ({ tensors }: Layout): string[] =>
  tensors.flatMap(({ name }) => [name, `first.${name}`, `second.${name}`])

/** @param gradients - of each tensor. Outputs `norm` [], and `new.NAME` for each of `stateNames`. */
export function addUpdate(graph: Graph, layout: Layout, gradients: Map<string, string>, pulled: boolean): void {
  for (const scalar of ['rate', 'root', 'decay', 'clip', ...(pulled ? ['pull'] : [])]) graph.input(scalar, 'float', [1])
  const drawn = new Map(
    layout.tensors.map(({ name, shape }) => {
      const gradient = gradients.get(name)!
      if (!pulled) return [name, gradient]
      const away = graph.op('Sub', [name, graph.input(`towards.${name}`, 'float', shape)])
      return [name, graph.op('Add', [gradient, graph.op('Mul', [away, 'pull'])])]
    })
  )
  const squares = layout.tensors.map(({ name, shape }) => {
    const square = graph.op('Mul', [drawn.get(name)!, drawn.get(name)!])
    return graph.op('ReduceSum', [square, graph.integers(shape.map((_, axis) => axis))], { keepdims: 0 })
  })
  const norm = graph.op('Sqrt', [graph.sum(squares)]) //                                           []
  graph.output('norm', norm, [])
  // clip 0 is "never": the norm would have to be infinite then.
  const most = graph.op('Where', [graph.op('Greater', ['clip', graph.scalar(0)]), 'clip', graph.scalar(3e38)])
  const scale = graph.op('Min', [graph.scalar(1), graph.op('Div', [most, graph.op('Add', [norm, graph.scalar(1e-6)])])]) // [1]
  for (const { name, shape } of layout.tensors) {
    const [first, second] = [`first.${name}`, `second.${name}`].map(moment => graph.input(moment, 'float', shape)) as [
      string,
      string
    ]
    const g = graph.op('Mul', [drawn.get(name)!, scale])
    const blend = (old: string, fresh: string, beta: number) =>
      graph.op('Add', [graph.op('Mul', [old, graph.scalar(beta)]), graph.op('Mul', [fresh, graph.scalar(1 - beta)])])
    const m = blend(first, g, adamw.beta1)
    const v = blend(second, graph.op('Mul', [g, g]), adamw.beta2)
    const under = graph.op('Add', [graph.op('Mul', [graph.op('Sqrt', [v]), 'root']), graph.scalar(adamw.epsilon)])
    const change = graph.op('Div', [graph.op('Mul', [m, 'rate']), under])
    const kept = shape.length > 1 ? graph.op('Mul', [name, graph.op('Sub', [graph.scalar(1), 'decay'])]) : name
    graph.output(`new.${name}`, graph.op('Sub', [kept, change]), shape)
    graph.output(`new.${first}`, m, shape)
    graph.output(`new.${second}`, v, shape)
  }
}
