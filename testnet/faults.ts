/**
 * What went wrong in a testnet, on purpose or not, and how long it took until it was right again.
 *
 *   fault ──next certified round of every federation that it touched──▶ recovered      (recoveredAfterMs, from the fault)
 *   mended (started again, healed, resumed) ──each of its nodes counted in a round again──▶ back     (backAfterMs, from the mending)
 */
import type { PeerName } from '../src/ids.ts'
import type { RoundSummary } from '../src/node/status.ts'
import type { TestnetReport } from '../src/report/schema.ts'

export type Fault = TestnetReport['faults'][number]
export type FaultKind = Fault['kind']

interface Open {
  fault: Fault
  /** Federations that have not certified a round since. */
  waiting: Set<string>
  /** Nodes that are not back, by path and peer. */
  away: Map<string, PeerName>
}

export interface FaultStart {
  kind: FaultKind
  nodes: { path: string; peer: PeerName }[]
  federations: string[]
  atSeconds: number
  planned: boolean
  path?: string
  detail?: string
}

export class FaultLog {
  readonly #open: Open[] = []

  get faults(): Fault[] {
    return this.#open.map(({ fault }) => fault)
  }

  begin({ kind, nodes, federations, atSeconds, planned, path, detail = '' }: FaultStart): Fault {
    const fault: Fault = {
      kind,
      target: nodes.length === 1 ? nodes[0]!.peer : '',
      path: path ?? nodes.map(node => node.path).join(', '),
      federations,
      atSeconds,
      recoveredAfterMs: null,
      planned,
      mendedAtSeconds: null,
      backAfterMs: null,
      detail
    }
    this.#open.push({ fault, waiting: new Set(federations), away: new Map(nodes.map(node => [node.path, node.peer])) })
    return fault
  }

  mend(fault: Fault, atSeconds: number): void {
    fault.mendedAtSeconds ??= atSeconds
  }

  onRound({ federation, included }: RoundSummary, seconds: number): void {
    for (const { fault, waiting, away } of this.#open) {
      if (waiting.delete(federation) && waiting.size === 0)
        fault.recoveredAfterMs = Math.round((seconds - fault.atSeconds) * 1000)
      for (const [path, peer] of away)
        if (included.some(({ member }) => member === peer)) this.#back(fault, away, path, seconds)
    }
  }

  /** It has done its last round: nothing counts it any more. */
  onFinished(path: string, seconds: number): void {
    for (const { fault, away } of this.#open) this.#back(fault, away, path, seconds)
  }

  #back(fault: Fault, away: Map<string, PeerName>, path: string, seconds: number): void {
    if (fault.mendedAtSeconds === null || !away.delete(path) || away.size > 0) return
    fault.backAfterMs = Math.round((seconds - fault.mendedAtSeconds) * 1000)
  }

  /** Federations that certified nothing after a fault, though they had rounds to go when it came. */
  unrecovered(): { fault: Fault; federations: string[] }[] {
    return this.#open
      .filter(({ waiting }) => waiting.size > 0)
      .map(({ fault, waiting }) => ({ fault, federations: [...waiting] }))
  }
}
