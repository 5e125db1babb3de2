/**
 * Faults of other peers that come again and again: a few a minute are told one by one, what is more of the like together, at the minute's end. Any
 * stranger can say thousands of wrong things a second; each would be a line of node.log, and an event for which another is forgotten.
 */
import type { NodeEvent } from './status.ts'

type Fault = Extract<NodeEvent, { type: 'fault' }>

/** Of one peer, in one federation, by one code. */
const toldMax = 10
/** Kinds of faults in a minute: identities cost nothing. Those beyond are told together. */
const kindsMax = 1_000
export const meterMs = 60_000

export class FaultMeter {
  readonly #tell: (fault: Fault) => void
  readonly #kinds = new Map<string, { fault: Fault; untold: number; told: number }>()
  #end: NodeJS.Timeout | null = null

  constructor(tell: (fault: Fault) => void) {
    this.#tell = tell
  }

  see(fault: Fault): void {
    this.#end ??= setTimeout(() => this.#tellRest(), meterMs).unref()
    const { federation, peer, code } = fault
    const exact = `${federation} ${peer} ${code}`
    const key = this.#kinds.has(exact) || this.#kinds.size < kindsMax ? exact : code
    const kind = this.#kinds.get(key) ?? { fault, untold: 0, told: 0 }
    this.#kinds.set(key, kind)
    if (kind.told < toldMax) {
      kind.told++
      this.#tell(fault)
    } else kind.untold++
  }

  #tellRest(): void {
    const kinds = [...this.#kinds.values()]
    this.#end = null
    this.#kinds.clear()
    for (const { fault, untold } of kinds)
      if (untold > 0) this.#tell({ ...fault, detail: `${untold} more of the like within a minute`, times: untold })
  }
}
