/**
 * What a certified log makes of a federation, for whoever only follows it: one state for each certified entry, made once by the very
 * machine (federation.ts) from the state before, and shared by all that have come as far. It is nobody's: `self` is no peer's name,
 * and without a vote the machine asks for nothing but to store the entry.
 */
import { type FederationEffect, stepFederation } from '../federation/federation.ts'
import { initialFederation } from '../federation/federation-start.ts'
import type { Environment, FederationState } from '../federation/federation-state.ts'
import { parentHeadOf } from '../federation/levels.ts'
import type { ParentHead } from '../federation/round-state.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, Link } from '../ids.ts'
import type { Certified } from './stand-ins.ts'

const nobody = ''
/** As of a peer that has not enrolled, and so has no vote. */
const nonce = 0

export class FoldedLog {
  readonly state: FederationState
  /** What the machine asked for when it took the newest entry. */
  readonly effects: readonly FederationEffect[]
  readonly #next = new Map<Link, FoldedLog>()
  #parentHead: ParentHead | null = null

  private constructor(state: FederationState, effects: readonly FederationEffect[]) {
    this.state = state
    this.effects = effects
  }

  /** Before the first entry. */
  static of(id: FederationId, charter: Charter): FoldedLog {
    const persisted = { term: 0, votedFor: null, accepted: null }
    return new FoldedLog(initialFederation({ id, charter, self: nobody, entries: [], persisted, rank: 0, nonce }), [])
  }

  /** @param certified - the next entry, checked (stand-ins.ts). */
  with(env: Environment, certified: Certified): FoldedLog {
    let next = this.#next.get(certified.link)
    if (next === undefined) {
      const event = { type: 'consensus', event: { type: 'certified', ...certified } } as const
      next = new FoldedLog(...stepFederation(env, this.state, event))
      this.#next.set(certified.link, next)
    }
    return next
  }

  /** Of the newest round; null before the first. */
  get parentHead(): ParentHead | null {
    const { entry, link } = this.state.head
    if (entry !== null) this.#parentHead ??= parentHeadOf(this.state, entry, link)
    return this.#parentHead
  }
}
