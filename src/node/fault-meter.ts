/**
 * Faults of other peers, and warnings, that come again and again: a few a minute are told one by one, what is more of the like together, at the minute's
 * end. Any stranger can say thousands of wrong things a second, and what stops a federation is warned of at each try; each would be a
 * line of node.log, and an event for which another is forgotten.
 */
import type { NodeEvent } from './status.ts'

type Metered = Extract<NodeEvent, { type: 'fault' | 'warning' }>

/** Faults of one peer, in one federation, by one code; warnings of the same words. */
const toldMax = 10
/** Kinds of faults in a minute: identities cost nothing. Those beyond are told together. */
const kindsMax = 1_000
export const meterMs = 60_000

export class FaultMeter {
  readonly #tell: (event: Metered) => void
  readonly #kinds = new Map<string, { event: Metered; untold: number; told: number }>()
  #end: NodeJS.Timeout | null = null

  constructor(tell: (event: Metered) => void) {
    this.#tell = tell
  }

  see(event: Metered): void {
    this.#end ??= setTimeout(() => this.#tellRest(), meterMs).unref()
    const { code } = event
    const exact = event.type === 'fault' ? `${event.federation} ${event.peer} ${code}` : `${code} ${event.message}`
    const key = this.#kinds.has(exact) || this.#kinds.size < kindsMax ? exact : code
    const kind = this.#kinds.get(key) ?? { event, untold: 0, told: 0 }
    this.#kinds.set(key, kind)
    if (kind.told < toldMax) {
      kind.told++
      this.#tell(event)
    } else kind.untold++
  }

  #tellRest(): void {
    const kinds = [...this.#kinds.values()]
    this.#end = null
    this.#kinds.clear()
    for (const { event, untold } of kinds) if (untold > 0) this.#tell(together(event, untold))
  }
}

function together(event: Metered, times: number): Metered {
  const more = `${times} more of the like within a minute`
  return event.type === 'fault' ? { ...event, detail: more, times } : { ...event, message: `${event.message} (${more})`, times }
}
